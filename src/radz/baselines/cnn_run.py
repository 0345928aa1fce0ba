"""The supervised network as a run: monitored and scored like DFAT, so that its results stand in the same table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_modules.base import StudyDataModule
from data_modules.batch import StudyBatch
from radz import build as parts
from radz.baselines.cnn import SupervisedCNN
from radz.baselines.scored import Scored
from radz.config import CnnConfig, Experiment
from radz.labels import LabelView, pick

SCORER = "cnn"


class ScoredCNN(Scored, SupervisedCNN):
    """`SupervisedCNN` with the validation monitor and the test scores of a run."""

    headline = SCORER

    def __init__(
        self, config: CnnConfig, labels: LabelView, findings: tuple[str, ...], total_steps: int,
        trained: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        """`trained`: findings of the outputs where they are not those of `labels`, because this data is only scored."""
        policy = labels.policy_loss if trained is None else torch.full((1, len(trained), 4), torch.nan)
        super().__init__(labels.findings if trained is None else trained, policy, config, total_steps)
        self.output_columns = [self.findings.index(name) if name in self.findings else -1 for name in findings]
        self.set_up(labels, findings)

    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        """See `Scored`."""
        return {SCORER: pick(self(batch).sigmoid(), self.output_columns)}


def build(
    experiment: Experiment, data: StudyDataModule, findings: tuple[str, ...], known: Mapping[str, Any],
    trained: Path | None,
) -> ScoredCNN:  # fmt: skip
    """See `build_baseline`."""
    outputs = tuple(known["findings"]) if known else None
    return ScoredCNN(experiment.cnn, parts.label_view(data), findings, parts.total_steps(experiment, data), outputs)
