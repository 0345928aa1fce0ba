"""The supervised network as a run: monitored and scored like DFAT, so that its results stand in the same table."""

from __future__ import annotations

import math

from torch import Tensor

from data_modules.batch import StudyBatch
from radz.baselines.cnn import SupervisedCNN
from radz.callbacks.metrics import FindingMetrics, as_log_dict
from radz.config import CnnConfig
from radz.labels import LabelView, pick

SCORER = "cnn"


class ScoredCNN(SupervisedCNN):
    """`SupervisedCNN` with the validation monitor and the test scores of a run."""

    def __init__(self, config: CnnConfig, labels: LabelView, findings: tuple[str, ...], total_steps: int) -> None:
        super().__init__(labels.findings, labels.policy_loss, config.learning_rate, total_steps, config.width)
        self.label_view, self.scored_columns = labels, labels.columns(findings)
        self.metrics = FindingMetrics(findings)
        self.scored: list[tuple[Tensor, dict[str, Tensor]]] = []

    def on_validation_epoch_start(self) -> None:
        """Empty the metric."""
        self.metrics.reset()

    def validation_step(self, batch: StudyBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Score one batch."""
        scores = self.predict_step(batch, batch_idx)["scores"][:, self.scored_columns]
        self.metrics.update(batch.rows, scores, pick(self.label_view.metrics(batch), self.scored_columns))

    def on_validation_epoch_end(self) -> None:
        """Log val/auroc_macro and the rest."""
        values = {k: 0.0 if math.isnan(v) else v for k, v in as_log_dict(self.metrics.compute(), "val").items()}
        self.log_dict(values)

    def on_test_epoch_start(self) -> None:
        """Forget earlier scores."""
        self.scored = []

    def test_step(self, batch: StudyBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the scores of one batch."""
        found = self.predict_step(batch, batch_idx)
        self.scored.append((found["rows"].cpu(), {SCORER: found["scores"][:, self.scored_columns].cpu()}))
