"""`Radz`: a trained run in scripts and notebooks. Paths and sentences in, features and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from data_modules.config import DataConfig
from data_modules.errors import InputError
from data_modules.pixels import equalize, fit, read_gray
from radz import build
from radz.anchors import AnchorBank
from radz.config import Experiment
from radz.labels import LabelView
from radz.losses import Features, normalise
from radz.run import load_run
from radz.scoring.zero_shot import SCORERS

if TYPE_CHECKING:
    import pandas as pd

BATCH = 32


class Radz:
    """A trained run: its encoder, its anchors and its way of preparing pixels."""

    def __init__(self, experiment: Experiment, folder: Path, device: str = "cpu") -> None:
        """Use `from_pretrained`."""
        if experiment.method != "dfat":
            raise InputError(
                f"{folder}: a run of method {experiment.method} has no text side; give a run of method dfat"
            )
        self.experiment, self.folder, self.device = experiment, folder, device
        self.data: DataConfig = experiment.data
        self.modality = experiment.data.corpora[0].modality
        self.bank = AnchorBank.load(folder / "anchors")
        encoder, self._digest = build.encoder(experiment)
        self.bank.check_base(self._digest)
        self._file = build.descriptions_file(experiment, folder)
        self._base = encoder
        view = LabelView((), (), torch.zeros(1, 0, 4), torch.zeros(1, 0, 4))
        texts = build.class_texts(experiment, list(self.bank.names), self._file)
        module = build.module(experiment, encoder, self.bank, view, texts, self.bank.vectors, self.modality)
        build.load_weights(module, folder / "checkpoints" / "best.ckpt")
        self.module = module.eval().to(device)
        self.encoder = module.encoder

    @staticmethod
    def from_pretrained(folder: str | Path, device: str = "cpu") -> Radz:
        """Load a finished run folder.

        Raises:
            InputError: not a run folder, or its parts do not belong together.
        """
        path = Path(folder).expanduser()
        return Radz(load_run(path), path, device)

    def pixels(self, paths: Sequence[str | Path]) -> torch.Tensor:
        """DICOM, PNG or JPEG files as uint8 [N, 1, S, S], prepared as in training."""
        found = []
        for path in paths:
            gray = read_gray(Path(path))
            if self.data.equalize:
                gray = equalize(gray)
            found.append(fit(gray, self.data.image_size, self.data.resize))
        return torch.from_numpy(np.stack(found))[:, None]

    def embed_images(self, paths: Sequence[str | Path]) -> NDArray[np.float32]:
        """float32 [N, d], L2-normalised global features, one image each."""
        return _stack([normalise(part.overall) for part in self._images(paths)], self.encoder.width)

    def embed_texts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, d], L2-normalised global features."""
        with torch.no_grad():
            parts = [
                normalise(self.encoder.encode_texts(list(sentences[i : i + BATCH])).overall)
                for i in range(0, len(sentences), BATCH)
            ]
        return _stack(parts, self.encoder.width)

    def score(self, paths: Sequence[str | Path], findings: Sequence[str], scorer: str | None = None) -> pd.DataFrame:
        """Scores [N x C] in [0, 1], one row per path; `scorer` None is the run's headline.

        A finding is a name of the ontology or any words; those without a description cannot be scored by `anchor`
        or `description`.
        """
        import pandas as pd

        chosen = scorer or self.experiment.scoring.headline
        if chosen not in SCORERS:
            raise InputError(f"scorer: {chosen!r} is unknown; use one of {', '.join(SCORERS)}")
        if not findings:
            raise InputError("findings: none given; name at least one, such as pleural_effusion")
        self._classes(list(findings))
        rows = [self.module.classifier.scores(part)[chosen].cpu() for part in self._images(paths)]
        values = _stack(rows, len(findings))
        unscored = [name for name, column in zip(findings, values.T, strict=True) if np.isnan(column).any()]
        if unscored and len(paths):
            raise InputError(
                f"findings: {unscored[0]} has no description, which scorer {chosen} needs; use scorer prompt"
            )
        return pd.DataFrame(values, index=[str(path) for path in paths], columns=list(findings))

    def _classes(self, findings: list[str]) -> None:
        """Encode the class texts and anchors of `findings`."""
        texts = build.class_texts(self.experiment, findings, self._file)
        anchors = build.class_anchors(self.experiment, self.bank, self._digest, texts, self._file, None)
        self.module.classifier.texts = texts
        self.module.classifier.refresh(self.bank.vectors.to(self.device), anchors.to(self.device))

    def _images(self, paths: Sequence[str | Path]) -> list[Features]:
        parts = []
        with torch.no_grad():
            for i in range(0, len(paths), BATCH):
                pixels = self.pixels(paths[i : i + BATCH]).to(self.device)
                counts = torch.ones(len(pixels), dtype=torch.int64)
                parts.append(self.encoder.encode_images(pixels, counts, self.modality))
        return parts


def _stack(parts: list[torch.Tensor], width: int) -> NDArray[np.float32]:
    """Parts [n, width] as one float32 array; [0, width] when there are none."""
    if not parts:
        return np.zeros((0, width), dtype=np.float32)
    stacked: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return stacked
