"""A finished run, opened to be looked into: its data, its trained module, the studies that are looked at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules import privacy
from data_modules.batch import StudyBatch
from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from data_modules.files import check_there
from radz.config.files import load_experiment
from radz.config.scoring import ScoringConfig
from radz.evidence.config import EvidenceConfig
from radz.methods import registry
from radz.methods.dfat import DFAT
from radz.methods.export_folder import is_export
from radz.methods.trained import warn_of_changes
from radz.metrics.headline import chosen
from radz.metrics.score_table import ScoreTable
from radz.models.encoder import Encoder, Sequences
from radz.models.heatmaps import Mapper, target_of
from radz.models.losses import Features
from radz.models.zero_shot import ZeroShot
from radz.runs.prepare import prepare
from radz.training.run_folder import with_kept

log = logging.getLogger(__name__)
RowNumbers = NDArray[np.int64]
"""[n], of the study table."""
TOGETHER = 64
"""sentences that are encoded together"""


@dataclass
class Opened:
    """A trained module with its class texts encoded, in evaluation mode, and its data."""

    folder: Path
    """run folder that the evidence goes to"""
    scoring: ScoringConfig
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
    def target(self) -> str:
        """What patches are compared with, `anchor` or `prompt`."""
        return target_of(self.scoring.headline) if self.settings.target == "headline" else self.settings.target

    @property
    def mapper(self) -> Mapper:
        """Maker of heat-maps."""
        return Mapper(self.encoder, self.classifier, self.target)

    def rows(self, split: str, most: int) -> RowNumbers:
        """RowNumbers of a split in table order, at most so many, drawn by the seed."""
        every = self.data.table.rows(split)
        generator = np.random.default_rng(self.settings.seed)
        return np.sort(generator.permutation(every)[:most])

    def batches(self, rows: RowNumbers, size: int | None = None) -> Iterator[StudyBatch]:
        """The studies of rows in order, on the module's device."""
        for batch in self.data.rows_dataloader(rows, size or self.settings.batch_size):
            yield batch.to(self.module.device)

    def over(self, rows: RowNumbers, compute: Callable[[StudyBatch], Tensor]) -> NDArray[np.float32]:
        """What `compute` gives for each study of rows, [n, ..], without gradients."""
        size = self.data.config.eval_batch_size
        with torch.no_grad():
            return np.concatenate([compute(batch).float().cpu().numpy() for batch in self.batches(rows, size)])

    def modalities(self, batch: StudyBatch) -> list[str]:
        """The modality of each study."""
        return [self.module.modalities[corpus] for corpus in batch.corpus.tolist()]

    def sequences(self, batch: StudyBatch) -> Sequences:
        """What the decoder is given for a batch."""
        return self.encoder.image_sequences(batch.pixels, batch.image_counts, self.modalities(batch))

    def spoken(self, texts: list[str]) -> Features:
        """Features of K sentences, less what they share: as of prompts, what sentences of one make share is their own;
        one or two lose what reports share.
        """
        with torch.no_grad():
            parts = [
                self.encoder.encode_texts(texts[n : n + TOGETHER], raw=True) for n in range(0, len(texts), TOGETHER)
            ]
            found = Features.join(parts)
            shared = self.encoder.of_texts(found.overall, found.local, len(texts))
            overall, local = shared[0].taken_from(found.overall), shared[1].taken_from(found.local)
            return replace(found, overall=overall, local=local)

    def labels(self, rows: RowNumbers) -> NDArray[np.float32]:
        """[n, C] of the scored findings, 1, 0 or NaN under the metrics policy."""
        return self.data.metric_labels(rows)[:, [self.data.findings.index(name) for name in self.findings]]

    def table(self, rows: RowNumbers, scores: Mapping[str, NDArray[np.float32]]) -> ScoreTable:
        """Scores [n, C] in [0, 1] of rows of the split as a score table, identifiers as salted hashes."""
        studies = [self.hashed(row) for row in rows]
        # Under `scoring.unit: image` rows of a study differ in their image.
        images = [str(row) if self.data.unit == "image" else "" for row in rows]
        return ScoreTable(
            "+".join(self.data.table.corpora), self.settings.split, rows, studies, images, self.patients(rows),
            tuple(self.findings), self.labels(rows), dict(scores),
        )  # fmt: skip

    def patients(self, rows: Iterable[int]) -> list[str]:
        """Salted hashes."""
        salt = privacy.salt(self.data.cache_dir)
        return [self.data.table.who(row, salt) for row in rows]

    def hashed(self, row: int) -> str:
        """A study's salted hash."""
        table, salt = self.data.table, privacy.salt(self.data.cache_dir)
        return privacy.pseudonym(table.corpora[table.corpus[row]], str(table.study_id[row]), salt)


def check_run(folder: Path) -> None:
    """InputError unless it is a finished run folder, or that of one of its evaluations."""
    check_there(folder)
    if is_export(folder) or not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: not a run folder (no config.yaml); give the folder that radz train printed")
    if not (folder / "metrics.json").is_file() or not _best(folder).is_file():
        raise InputError(f"{folder}: the run is not finished; repeat its train or eval command first")


def _best(folder: Path) -> Path:
    """The weights of a run, or of the one that was evaluated."""
    return (folder.parent.parent if folder.parent.name == "eval" else folder) / "checkpoints" / "best.ckpt"


def open_run(folder: Path, settings: EvidenceConfig, overrides: list[str]) -> Opened:
    """Open a run folder, or the folder of one of its evaluations on other data (RUN/eval/NAME).

    Raises:
        InputError: neither, unfinished, or a run without decoder features.
    """
    check_run(folder)
    best = _best(folder)
    experiment = load_experiment(str(folder / "config.yaml"), overrides)
    experiment.scoring.headline = chosen(experiment.scoring.headline, folder)
    if not any(item.startswith("dkam.") for item in overrides):
        experiment.dkam = with_kept(experiment.dkam, best.parents[1])
        warn_of_changes(best.parents[1])
    if not registry.has_anchors(experiment.method):
        raise InputError(f"{folder}: a run of method {experiment.method} has no decoder to look into; give one of dfat")
    parts = prepare(experiment, best.parents[1], trained=True)
    module: Any = parts.module.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    module.requires_grad_(False)
    module.begin()
    primary = experiment.scoring.of_macro(parts.seen)
    return Opened(folder, experiment.scoring, settings, parts.data, module, parts.findings, primary or parts.findings)
