"""`Radz`: a trained run in scripts and notebooks. Paths and sentences in, features and scores out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from data_modules import slices
from data_modules.config import DataConfig
from data_modules.corpus_config import one_of
from data_modules.decode import Recipe, decode
from data_modules.dicom_words import words_of
from data_modules.errors import InputError, OtherKind, nearest
from data_modules.pixels import pixel_aspect, read_gray
from data_modules.placing import to_original
from data_modules.volumes import is_volume, read_volume
from radz.config.checks import known_findings
from radz.config.schema import Experiment
from radz.distributed import has_bf16
from radz.inference.readings import Reading, prevalences, reading, rules_for
from radz.inference.scope import judge
from radz.methods import training_scope
from radz.methods.dkam import AnchoredEncoder
from radz.methods.export_folder import is_export
from radz.methods.trained import computed_in, headline_of, load_trained
from radz.methods.training_scope import Scope
from radz.methods.validation import validations
from radz.metrics.validation_rules import Rules
from radz.models import factory
from radz.models.descriptions import finding_name
from radz.models.heatmaps import Mapper, target_of
from radz.models.losses import normalise
from radz.models.zero_shot import ZeroShot, scorers
from radz.training.environment import usable_device
from radz.training.trainer import precision_of

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
BATCH = 32
Paths = str | Path | Sequence[str | Path]
"""files, or one of them"""
Words = str | Sequence[str]
"""sentences or findings, or one of them"""
_FILE = (str, os.PathLike)
TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    "path": (_FILE, "the path of one file, CT volume or folder of a CT series"),
    "paths": (_FILE, "paths of files, CT volumes or folders of CT series, or one of them"),
    "folder": (_FILE, "the path of a run or an export"),
    "finding": ((str,), "the name of one finding"),
    "findings": ((str,), "names of findings, or one of them"),
    "sentences": ((str,), "sentences, or one of them"),
}
"""argument -> the types of its items, and what it takes in words"""


class Radz:
    """A trained run: its encoder, its anchors and its way of preparing pixels."""

    def __init__(
        self, experiment: Experiment, model: AnchoredEncoder, device: str = "cpu", precision: str = "32-true"
    ) -> None:
        """Use `from_pretrained`."""
        self._half = precision == "bf16-mixed" and (torch.device(device).type == "cpu" or has_bf16("gpu"))
        if precision != "32-true" and not self._half:
            log.warning(
                "the run computed in %s, and %s computes in float32: scores may be slightly others", precision, device
            )
        self.experiment, self.device = experiment, device
        self.data: DataConfig = experiment.data
        self.modalities = tuple(dict.fromkeys(corpus.modality for corpus in experiment.data.corpora))
        self.bank, self._model = model.bank, model
        self.encoder = model.encoder.eval().to(device)
        self._classifiers: dict[tuple[str, ...], ZeroShot] = {}
        self.validations: dict[str, Rules] = {}
        """corpus -> what its validation split says of scores"""
        self.scopes: dict[str, Scope] = {}
        """modality -> what training looked like; of an earlier radz nothing"""

    @staticmethod
    def from_pretrained(folder: str | Path, device: str | None = None) -> Radz:
        """Load a finished run folder, or what `radz export` made of it.

        Args:
            device: such as cpu or cuda:1; None is the GPU where there is one. It computes in the precision of the run.

        Raises:
            InputError: neither of the two, or its parts do not belong together, or there is no such device.
        """
        path, place = Path(_one(folder, "folder")).expanduser(), usable_device(device)
        where = "cpu" if torch.device(place).type == "cpu" else "gpu"
        precision, dtype = computed_in(path)
        experiment, model = load_trained(path, others=True, accelerator=where, dtype=dtype)
        if not is_export(path):
            experiment.scoring.headline = headline_of(path)
        engine = Radz(experiment, model, place, precision or precision_of("auto", where))
        engine.validations, engine.scopes = validations(path), training_scope.read(path)
        return engine

    def images(self, path: str | Path) -> Tensor:
        """uint8 [M, C, S, S], prepared as in training: one image of a DICOM, PNG or JPEG file, the slices of a CT.

        Raises:
            InputError: unreadable, a volume where the run knows radiographs only, or a DICOM file whose header says
                that it is no picture of the kind, such as one slice of a CT (`data_modules.dicom_kind`).
        """
        path = _one(path, "path")
        if is_volume(Path(path)) and "chest_ct" not in self.modalities:
            raise _not_a_radiograph(Path(path))
        return torch.tensor(decode(str(path), str(path), Recipe.of(self.data), None, self.modality(path)))

    def study(self, paths: Paths) -> Tensor:
        """uint8 [M, C, S, S], the `images` of the files of one study, in their order.

        Raises:
            InputError: as for `images`, or more images than the model's context holds.
        """
        paths = _several(paths, "paths")
        found = torch.cat([self.images(path) for path in paths])
        if self.experiment.scoring.aggregate == "joint":
            try:
                self.encoder.check_images({self.modality(paths[0]): len(found)}, self.data.image_size)
            except InputError as error:
                where = paths[0] if len(paths) == 1 else Path(paths[0]).parent
                raise InputError(f"{where}: {error}") from None
        return found

    def embed_images(self, paths: Paths) -> NDArray[np.float32]:
        """float32 [N, d], L2-normalised global features, one study each."""
        paths = _several(paths, "paths")
        starts = range(0, len(paths), BATCH)
        parts = [self.embed_studies(*self._read(paths[start : start + BATCH])) for start in starts]
        return np.concatenate([np.zeros((0, self.encoder.width), dtype=np.float32), *parts])

    @torch.no_grad()
    def embed_studies(self, images: Sequence[Tensor], modalities: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, d], L2-normalised global features of N studies, what `study` and `modality` returned."""
        with self._precision():
            features = normalise(self.encoder.encode_images(*self._pixels(images), modalities).overall)
        return _stack([features], self.encoder.width)

    def embed_texts(self, sentences: Words) -> NDArray[np.float32]:
        """float32 [N, d], L2-normalised global features.

        Of a text of more than the run's `dfat.max_text_tokens` tokens the middle is left out; how many are, is logged.
        """
        sentences = _several(sentences, "sentences")
        self.encoder.cut(sentences).tell("embed_texts: texts", "dfat.max_text_tokens")
        with torch.no_grad(), self._precision():
            parts = [normalise(self.encoder.encode_texts(sentences, BATCH).overall)] if sentences else []
        return _stack(parts, self.encoder.width)

    def score(self, paths: Paths, findings: Words, scorer: str | None = None) -> pd.DataFrame:
        """Scores [N x C] in [0, 1], one row per path; `scorer` None is the run's headline.

        A finding is a name of the ontology or any words; those without a description cannot be scored by `anchor`
        or `description`. The columns are those of `names`: `effusion` comes back as pleural_effusion. Long words are
        cut as in `embed_texts`.
        """
        return self._scores(_several(paths, "paths"), self.names(findings), scorer)

    def probabilities(
        self, paths: Paths, findings: Words,
        prevalence: float | Mapping[str, float] | None = None, corpus: str | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Probabilities [N x C] by the headline scorer and its Platt fit on validation; NaN where that has none.

        Args:
            paths, findings: as for `score`.
            prevalence: to move them to, for all findings or by finding; None leaves them at that of validation.
            corpus: whose validation, where the run has several of a modality.
        """
        paths, names = _several(paths, "paths"), self.names(findings)
        readings = self.readings(names, prevalence, corpus)
        table = self._scores(paths, names).astype(np.float64)
        modalities = np.array([self.modality(path) for path in paths], dtype=object)
        for modality, own in readings.items():
            rows = modalities == modality
            for name in names:
                table.loc[rows, name] = own[name].probability(table.loc[rows, name])
        return table

    def in_scope(self, paths: Paths) -> pd.DataFrame:
        """Whether studies are of what the run was trained on, one row per path.

        Columns: in_scope (yes, no, or empty where it was not measured), reason (why not yes), distance (from the
        training images, NaN where not measured; `scopes` has the limit).
        """
        import pandas as pd

        found, paths = [], _several(paths, "paths")
        for path in paths:
            modality, seen = self.modality(path), self._images_or_kind(path)
            found.append(judge(self.scopes.get(modality), modality, [path], seen))
        rows = {"in_scope": [one.in_scope for one in found], "reason": [one.reason for one in found]}
        distances = np.array([one.distance for one in found], dtype=np.float64)
        return pd.DataFrame(rows | {"distance": distances}, index=[str(path) for path in paths])

    def _images_or_kind(self, path: str | Path) -> Tensor | OtherKind:
        """What `images` returns, or its error where the file is of another kind."""
        try:
            return self.images(path)
        except OtherKind as error:
            return error

    def readings(
        self, names: Words, prevalence: float | Mapping[str, float] | None = None, corpus: str | None = None
    ) -> dict[str, dict[str, Reading]]:
        """Modality -> finding -> how its headline scores are read, for what `names` returned; see `probabilities`."""
        names = _several(names, "findings")
        wanted, scorer = prevalences(prevalence, names, known_findings(self.data)), self.experiment.scoring.headline
        rules = rules_for(self.validations, self.modalities, corpus)
        return {
            modality: {name: reading(own, scorer, name, wanted.get(name)) for name in names}
            for modality, own in rules.items()
        }

    def _scores(self, paths: list[str | Path], names: list[str], scorer: str | None = None) -> pd.DataFrame:
        import pandas as pd

        starts = range(0, max(len(paths), 1), BATCH)  # without paths the request is still checked
        rows = [self.score_images(*self._read(paths[i : i + BATCH]), names, scorer) for i in starts]
        return pd.DataFrame(np.concatenate(rows), index=[str(path) for path in paths], columns=names)

    def heatmap(self, path: str | Path, finding: str, kind: str = "attention") -> NDArray[np.float32]:
        """Where a finding is seen: float32 [H, W] in the pixels of the file, NaN where a crop cut off.

        Of a CT volume float32 [slices, H, W]: the slices that the model sees (`data.ct`), from head to feet, in the
        pixels of `data_modules.slices.images`: the front on top, the patient's right on the left, pixels square.

        Args:
            kind: `attention` (gradient-weighted, from 0) or `similarity` (of patches with the finding, a cosine);
                `radz evidence` measures how far a run's maps can be trusted.

        Raises:
            InputError: unreadable, a volume where the run knows radiographs only, or a finding without the description
                that its scorer needs.
        """
        return self.heatmaps(path, self.names(_one(finding, "finding")), kind)[0]

    def heatmaps(self, path: str | Path, names: Words, kind: str = "attention") -> NDArray[np.float32]:
        """`heatmap` of several findings at once, [C, H, W] or [C, slices, H, W], for what `names` returned."""
        of_findings = self.patch_maps(self.images(path), self.modality(path), names, kind).swapaxes(0, 1)
        image = self.grays(path)
        volume = image.ndim == 3
        aspect = 1.0 if volume else pixel_aspect(Path(path))
        maps = of_findings if volume else of_findings[:, 0]
        return to_original(maps, image.shape[-2:], self.data.image_size, self.data.resize, aspect, self.covered)

    @property
    def covered(self) -> float:
        """Pixels of the square's side that patches lie on, see `Backbone.covered`."""
        return self.encoder.backbone.covered(self.data.image_size)

    def patch_maps(self, images: Tensor, modality: str, names: Words, kind: str = "attention") -> NDArray[np.float32]:
        """Maps [M, C, g, g] over the patches of a study's M images, for what `study`, `modality`, `names` returned."""
        names = _several(names, "findings")
        one_of("kind", kind, ("attention", "similarity"))
        mapper = Mapper(self.encoder, self._classifier(tuple(names)), target_of(self.experiment.scoring.headline))
        for name, can in zip(names, mapper.classifier.readable(mapper.target), strict=True):
            if not can:
                raise InputError(f"finding: {name} has no description, which the run's scorer needs")
        study = (*self._pixels([images]), [modality])
        grids = mapper.similarity(*study) if kind == "similarity" else mapper.attention(*study, range(len(names)))
        maps: NDArray[np.float32] = grids.float().cpu().numpy()
        return maps

    def grays(self, path: str | Path) -> NDArray[np.uint8]:
        """What `heatmap` lies over: a radiograph [H, W], or the slices of a volume [S, H, W] under the first window."""
        if is_volume(Path(path)):
            return slices.images(read_volume(Path(path)), self.data.ct)[:, 0]
        return read_gray(Path(path), frames=self.data.frames)

    def names(self, findings: Words) -> list[str]:
        """The ontology's names of findings, however they are called; other words stay as they are.

        Raises:
            InputError: no finding, or two words for the same one.
        """
        if not (given := _several(findings, "findings")):
            raise InputError("findings: none given; name at least one, such as pleural_effusion")
        known = known_findings(self.data)
        as_typed: dict[str, str] = {}
        for typed in given:
            name = finding_name(typed, known)
            if name in as_typed:
                raise InputError(f"findings: {as_typed[name]!r} and {typed!r} are the same finding, {name}; keep one")
            if name not in known:
                hint = nearest(typed, known.names)
                log.warning("findings: %r is not in the ontology%s; it is scored as words", typed, hint)
            as_typed[name] = typed
        return list(as_typed)

    @torch.no_grad()
    def score_images(
        self, images: Sequence[Tensor], modalities: Sequence[str], names: Words, scorer: str | None = None
    ) -> NDArray[np.float32]:
        """Scores float32 [N, C] of N studies, what `images` and `modality` returned, for what `names` returned."""
        names = _several(names, "findings")
        chosen = scorer or self.experiment.scoring.headline
        if chosen not in (known := scorers(self.experiment.dfat)):
            raise InputError(f"scorer: {chosen!r} is unknown; use one of {', '.join(known)}")
        classifier = self._classifier(tuple(names))
        able, values = classifier.readable(chosen), np.zeros((0, len(names)), dtype=np.float32)
        if images and all(able):
            pixels, counts = self._pixels(images)
            with self._precision():
                values = _stack([classifier.score(pixels, counts, modalities)[chosen]], len(names))
            able = [not np.isnan(column).any() for column in values.T]
        for name, can in zip(names, able, strict=True):
            if not can:
                raise InputError(f"findings: {name} has no description, which scorer {chosen} needs; use scorer prompt")
        return values

    @contextmanager
    def _precision(self, within_step: bool = True) -> Iterator[None]:
        """As the Trainer of the run computed: reduced within a step alone, and on CPUs with plain attention then."""
        kind = torch.device(self.device).type
        plain = sdpa_kernel(SDPBackend.MATH) if self._half and kind == "cpu" else nullcontext()
        with plain, torch.autocast(kind, torch.bfloat16, enabled=self._half and within_step):
            yield

    def _classifier(self, names: tuple[str, ...]) -> ZeroShot:
        """Class texts and anchors of findings; encoded once for each set of them."""
        if names not in self._classifiers:
            config, accelerator = self.experiment.dkam, self.experiment.trainer.accelerator
            texts = factory.class_texts(names, self._model.file, self.data, config.aspects)
            anchors = self._model.class_anchors(texts, config, accelerator)
            of_bank = factory.class_texts(self.bank.names, self._model.file, self.data, config.aspects)
            one = ZeroShot(self.encoder, texts, of_bank, self.experiment.dfat, self.experiment.scoring, self.modalities)
            with self._precision(within_step=False):
                one.refresh(self.bank.vectors.to(self.device), anchors.to(self.device))
            self._classifiers[names] = one
        return self._classifiers[names]

    def modality(self, path: str | Path) -> str:
        """What a file counts as: the run's one modality; of two, a volume is a CT and a picture a radiograph."""
        if len(self.modalities) == 1:
            return self.modalities[0]
        return "chest_ct" if is_volume(Path(path)) else "chest_xray"

    def _read(self, paths: Sequence[str | Path]) -> tuple[list[Tensor], list[str]]:
        return [self.study(path) for path in paths], [self.modality(path) for path in paths]

    def _pixels(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The images of N studies as one tensor, and their counts; beside three channels gray has three equal ones."""
        channels = max(study.shape[1] for study in images)
        pixels = torch.cat([study.expand(-1, channels, -1, -1) for study in images])
        return pixels.to(self.device), torch.tensor([len(study) for study in images])


def _stack(parts: list[Tensor], width: int) -> NDArray[np.float32]:
    """Parts [n, width] as one float32 array; [0, width] when there are none."""
    if not parts:
        return np.zeros((0, width), dtype=np.float32)
    stacked: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return stacked


def _several(items: Any, key: str) -> list[Any]:
    """Items of an argument as a list: a string or a path is one item, not a sequence of letters."""
    try:
        found = [items] if isinstance(items, str | os.PathLike | bytes) else list(items)
    except TypeError:
        found = [items]
    return [_one(item, key) for item in found]


def _one(item: Any, key: str) -> Any:
    """An item of an argument, or InputError where it is of another type than TAKES says."""
    kind, takes = TAKES[key]
    if not isinstance(item, kind):
        raise InputError(f"{key}: takes {takes}, not {type(item).__name__}")
    path: Any = item
    return path if isinstance(path, str | Path) else Path(path)


def _not_a_radiograph(path: Path) -> OtherKind:
    """What a volume or a folder is, where files of radiographs are asked for."""
    held, trained = "is a CT volume", "and the run was trained on chest X-rays"
    if path.is_dir() and words_of(path).modality != "CT":
        held, trained = "is a folder and no CT series", f"{trained}: give the files in it"
    return OtherKind(f"{path}: {held}, {trained}", f"{held}, {trained}")
