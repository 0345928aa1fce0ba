"""The supervised network as a run: monitored and scored like DFAT, so that its results stand in the same table."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from data_modules.batch import StudyBatch
from radz.baselines.cnn import SupervisedCNN
from radz.callbacks.metrics import MONITOR, FindingMetrics, as_log_dict
from radz.config import CnnConfig
from radz.labels import LabelView, pick

SCORER = "cnn"


class ScoredCNN(SupervisedCNN):
    """`SupervisedCNN` with the validation monitor and the test scores of a run."""

    def __init__(
        self, config: CnnConfig, labels: LabelView, findings: tuple[str, ...], total_steps: int,
        trained: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        """`trained`: findings of the outputs where they are not those of `labels`, because this data is only scored."""
        policy = labels.policy_loss if trained is None else torch.full((1, len(trained), 4), torch.nan)
        super().__init__(labels.findings if trained is None else trained, policy, config, total_steps)
        self.label_view, self.label_columns = labels, labels.columns(findings)
        self.output_columns = [self.findings.index(name) if name in self.findings else -1 for name in findings]
        self.metrics = FindingMetrics(findings)
        self.scored: list[tuple[Tensor, dict[str, Tensor]]] = []

    def on_validation_epoch_start(self) -> None:
        """Empty the metric."""
        self.metrics.reset()

    def validation_step(self, batch: StudyBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Score one batch."""
        scores = pick(self.predict_step(batch, batch_idx)["scores"], self.output_columns)
        self.metrics.update(batch.rows, scores, pick(self.label_view.metrics(batch), self.label_columns))

    def on_validation_epoch_end(self) -> None:
        """Log val/auroc_macro (0 where it is undefined, see `FindingMetrics.compute`) and the rest."""
        values = as_log_dict(self.metrics.compute(), "val")
        monitor = values[MONITOR]
        self.log_dict({**values, MONITOR: 0.0 if math.isnan(monitor) else monitor})

    def on_test_epoch_start(self) -> None:
        """Forget earlier scores."""
        self.scored = []

    def test_step(self, batch: StudyBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the scores of one batch."""
        found = self.predict_step(batch, batch_idx)
        self.scored.append((found["rows"].cpu(), {SCORER: pick(found["scores"], self.output_columns).cpu()}))
