"""What a baseline shares with DFAT as a run: the validation monitor, the scores of the test, the time they take."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from data_modules.base import StudyDataModule
from data_modules.batch import StudyBatch
from radz.callbacks.metrics import MONITOR, FindingMetrics, as_log_dict
from radz.labels import LabelView, pick
from radz.scoring.kept import Keeper


class Scored(LightningModule, abc.ABC):
    """Base of the baselines; a subclass calls `set_up` at the end of its `__init__` and says `score`."""

    trains: bool = True
    """whether steps of training come before scoring"""
    headline: str
    """scorer of the monitor and of the summary"""

    base_digest: str | None = None
    """of the folder that the weights began as, where there is one"""

    def set_up(self, labels: LabelView, findings: Sequence[str]) -> None:
        """`findings`: those that are scored, C of them."""
        self.label_view, self.scored_columns = labels, labels.columns(findings)
        self.metrics = FindingMetrics(findings)
        self.scored: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.timed: list[tuple[int, float]] = []
        self.keeper: Keeper | None = None

    @abc.abstractmethod
    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        """{scorer: float32 [B, C] in [0, 1]}; a column of NaN where a finding has no score."""

    def fit_once(self, trainer: Trainer, data: StudyDataModule) -> None:
        """What a baseline does in place of training steps."""

    def begin(self) -> None:
        """What precedes a pass over validation or test, such as encoding the prompts."""

    def on_validation_epoch_start(self) -> None:
        """Empty the metric."""
        self.begin()
        self.metrics.reset()

    def validation_step(self, batch: StudyBatch, batch_idx: int) -> None:
        """Score one batch with the headline scorer."""
        scores = self.score(batch)[self.headline]
        self.metrics.update(batch.rows, scores, pick(self.label_view.metrics(batch), self.scored_columns))

    def on_validation_epoch_end(self) -> None:
        """Log val/auroc_macro (0 where it is undefined, see `FindingMetrics.compute`) and the rest."""
        values = as_log_dict(self.metrics.compute(), "val")
        monitor = values[MONITOR]
        self.log_dict({**values, MONITOR: 0.0 if math.isnan(monitor) else monitor})

    def on_test_epoch_start(self) -> None:
        """Forget earlier scores and times (images, seconds of each batch)."""
        self.begin()
        self.scored, self.timed = [], []

    def test_step(self, batch: StudyBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the scores of one batch."""
        started = time.perf_counter()
        scores = {name: values.cpu() for name, values in self.score(batch).items()}
        self.timed.append((len(batch.pixels), time.perf_counter() - started))
        self.scored.append((batch.rows.cpu(), scores))


def modalities_of(batch: StudyBatch, modalities: Sequence[str]) -> list[str]:
    """The modality of each study; `modalities` has one for each corpus."""
    return [modalities[corpus] for corpus in batch.corpus.tolist()]


def warm_cosine(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> dict[str, Any]:
    """An optimizer with linear warm-up and cosine schedule per step, as Lightning takes it."""
    from functools import partial

    from radz.baselines.cnn import learning_rate_factor

    factor = partial(learning_rate_factor, total_steps=steps, warmup=warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
