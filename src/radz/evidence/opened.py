"""A finished run, opened to be looked into: its data, its trained module, the studies that are looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_modules import privacy
from data_modules.base import StudyDataModule
from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz import build
from radz.config import Experiment
from radz.dfat import DFAT
from radz.encode import Encoder, Sequences
from radz.evidence.config import EvidenceConfig
from radz.evidence.maps import Mapper, target_of
from radz.experiment import load_experiment
from radz.exporting.load import is_export
from radz.parts import prepare
from radz.scoring.table import ScoreTable
from radz.scoring.zero_shot import ZeroShot

log = logging.getLogger(__name__)
Rows = NDArray[np.int64]


@dataclass
class Opened:
    """A trained module with its class texts encoded, in evaluation mode, and its data."""

    folder: Path
    """run folder that the evidence goes to"""
    experiment: Experiment
    settings: EvidenceConfig
    data: StudyDataModule
    module: DFAT
    findings: list[str]
    primary: list[str]
    """findings of the macro"""

    @property
    def encoder(self) -> Encoder:
        """Backbone and heads."""
        return self.module.encoder

    @property
    def classifier(self) -> ZeroShot:
        """Class texts."""
        return self.module.classifier

    @property
    def scorer(self) -> str:
        """The headline."""
        return self.experiment.scoring.headline

    @property
    def target(self) -> str:
        """What patches are compared with, `anchor` or `prompt`."""
        return target_of(self.scorer) if self.settings.target == "headline" else self.settings.target

    @property
    def mapper(self) -> Mapper:
        """Maker of heat-maps."""
        return Mapper(self.encoder, self.classifier, self.target)

    def rows(self, split: str, most: int) -> Rows:
        """Rows of a split in table order, at most so many, drawn by the seed."""
        every = self.data.table.rows(split)
        generator = np.random.default_rng(self.settings.seed)
        return np.sort(generator.permutation(every)[:most])

    def batches(self, rows: Rows, size: int | None = None) -> Iterator[StudyBatch]:
        """The studies of rows in order, on the module's device."""
        for batch in self.data.rows_dataloader(rows, size or self.settings.batch_size):
            yield batch.to(self.module.device)

    def modalities(self, batch: StudyBatch) -> list[str]:
        """The modality of each study."""
        return [self.module.modalities[corpus] for corpus in batch.corpus.tolist()]

    def sequences(self, batch: StudyBatch) -> Sequences:
        """What the decoder is given for a batch."""
        return self.encoder.image_sequences(batch.pixels, batch.image_counts, self.modalities(batch))

    def labels(self, rows: Rows) -> NDArray[np.float32]:
        """[n, C] of the scored findings, 1, 0 or NaN under the metrics policy."""
        return self.data.metric_labels(rows)[:, [self.data.findings.index(name) for name in self.findings]]

    def table(self, rows: Rows, scores: Mapping[str, NDArray[np.float32]]) -> ScoreTable:
        """Scores [n, C] in [0, 1] of rows of the split as a score table, identifiers as salted hashes."""
        studies, name = [self.hashed(row) for row in rows], "+".join(self.data.table.corpora)
        split, labels = self.settings.split, self.labels(rows)
        return ScoreTable(
            name, split, rows, studies, [self._image(row) for row in rows], self.patients(rows), tuple(self.findings),
            labels, dict(scores),
        )  # fmt: skip

    def _image(self, row: int) -> str:
        """Under `scoring.unit: image` rows of a study differ in their image."""
        return str(row) if self.data.unit == "image" else ""

    def patients(self, rows: Rows) -> list[str]:
        """Salted hashes."""
        return [self.hashed(row, "patient") for row in rows]

    def hashed(self, row: int, what: str = "study_id") -> str:
        """A study's (`study_id`) or patient's (`patient`) salted hash."""
        table, salt = self.data.table, privacy.salt(self.data.cache_dir)
        return privacy.pseudonym(table.corpora[table.corpus[row]], str(getattr(table, what)[row]), salt)


def open_run(folder: Path, settings: EvidenceConfig, overrides: list[str]) -> Opened:
    """Open a run folder, or the folder of one of its evaluations on other data (RUN/eval/NAME).

    Raises:
        InputError: neither, unfinished, or a run without decoder features.
    """
    if is_export(folder) or not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: not a run folder (no config.yaml); give the folder that radz train printed")
    trained = folder.parent.parent if folder.parent.name == "eval" else folder
    best = trained / "checkpoints" / "best.ckpt"
    if not (folder / "metrics.json").is_file() or not best.is_file():
        raise InputError(f"{folder}: the run is not finished; repeat its train or eval command first")
    experiment = load_experiment(str(folder / "config.yaml"), overrides)
    if experiment.method != "dfat":
        raise InputError(f"{folder}: a run of method {experiment.method} has no decoder to look into; give one of dfat")
    parts = prepare(experiment, trained, trained=True)
    build.load_weights(parts.module, best)
    module: Any = parts.module.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    module.requires_grad_(False)
    module.refresh_classifier()
    seen = [name for name in parts.findings if parts.seen[name] == "label"]
    primary = parts.findings if experiment.scoring.primary == "all" else seen
    return Opened(folder, experiment, settings, parts.data, module, parts.findings, primary or parts.findings)
