"""`method: probe`: a logistic regression per finding on frozen features (linear probe)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from data_modules.base import StudyDataModule
from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz.baselines import linear
from radz.baselines.features import StudyFeatures, check_note, head_on_features, note
from radz.baselines.scored import Scored, modalities_of
from radz.config import Experiment, SupervisedConfig
from radz.distributed import gather_objects
from radz.evaluate import Rows
from radz.labels import LabelView, pick

SCORER = "probe"
FALLBACK = 0.01
"""C, or the nearest to it, when validation cannot choose"""
NUMBERS = ("weights", "bias", "mean", "spread")


class Probe(Scored):
    """Standardised features through one logistic regression per finding.

    Args:
        outputs: the K findings that are fitted; findings: the C that are scored.
        modalities: one for each corpus.
    """

    headline, trains = SCORER, False
    weights: Tensor
    bias: Tensor
    mean: Tensor
    spread: Tensor
    fitted: Tensor
    """bool [K], whether training had both labels"""

    def __init__(
        self, features: StudyFeatures, config: SupervisedConfig, labels: LabelView, outputs: Sequence[str],
        findings: Sequence[str], modalities: Sequence[str],
    ) -> None:  # fmt: skip
        super().__init__()
        self.strict_loading = False
        self.features, self.config = features.requires_grad_(False).eval(), config
        self.outputs, self.modalities = tuple(outputs), tuple(modalities)
        self.output_columns = [self.outputs.index(name) if name in self.outputs else -1 for name in findings]
        shapes = {"weights": (len(outputs), features.width), "bias": (len(outputs),)}
        for name in NUMBERS:
            self.register_buffer(name, torch.zeros(shapes.get(name, (features.width,))))
        self.register_buffer("fitted", torch.zeros(len(outputs), dtype=torch.bool))
        self.set_up(labels, findings)

    def fit_once(self, trainer: Trainer, data: StudyDataModule) -> None:
        """Features of training and validation, without augmentation; the regressions on them."""
        collector = _Collector(self.features, self.modalities)
        rows = {split: data.table.rows(split) for split in ("train", "val")}
        x = {split: collector.collect(trainer, data, rows[split], self.features.width) for split in rows}
        labels = data.loss_labels(rows["train"])
        if not any((labels[:, k] == 1).any() and (labels[:, k] == 0).any() for k in range(labels.shape[1])):
            raise InputError(f"method=probe: no finding is both present and absent in {len(labels)} training studies")
        found = linear.fit(
            x["train"], labels, x["val"], data.metric_labels(rows["val"]), self.config.strengths, FALLBACK, SCORER
        )
        self.fitted.copy_(torch.from_numpy(~np.isnan(found.bias)))
        for name in NUMBERS:  # a checkpoint with NaN counts as damaged
            getattr(self, name).copy_(torch.from_numpy(np.nan_to_num(getattr(found, name))))

    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        """See `Scored`."""
        x = self.features(batch.pixels, batch.image_counts, modalities_of(batch, self.modalities))
        with torch.autocast(self.device.type, enabled=False):
            logits = ((x.float() - self.mean) / self.spread) @ self.weights.T + self.bias
        scores = torch.where(self.fitted, logits.sigmoid(), torch.nan)
        return {SCORER: pick(scores, self.output_columns)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The regressions alone; the encoder is where it was."""
        checkpoint["state_dict"] = {name: checkpoint["state_dict"][name] for name in (*NUMBERS, "fitted")}
        checkpoint["radz"] = note(self.base_digest, self.outputs)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another encoder or of other findings."""
        check_note(checkpoint, note(self.base_digest, self.outputs))


class _Collector(LightningModule):
    """Features of studies through a Trainer, which places them on its devices."""

    def __init__(self, features: StudyFeatures, modalities: Sequence[str]) -> None:
        super().__init__()
        self.features, self.modalities = features, modalities
        self.kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []

    def test_step(self, batch: StudyBatch, batch_idx: int) -> None:
        found = self.features(batch.pixels, batch.image_counts, modalities_of(batch, self.modalities))
        self.kept.append((batch.rows.cpu().numpy(), found.float().cpu().numpy()))

    def collect(
        self, trainer: Trainer, data: StudyDataModule, rows: NDArray[np.int64], width: int
    ) -> NDArray[np.float32]:
        """[N, width], in the order of `rows`, on every process."""
        if not len(rows):
            return np.zeros((0, width), np.float32)
        self.kept = []
        trainer.test(self, datamodule=Rows(data, rows), verbose=False)
        every = [part for rank in gather_objects(self.kept) for part in rank]
        order = np.argsort(np.concatenate([part[0] for part in every]))
        found: NDArray[np.float32] = np.concatenate([part[1] for part in every])[order]
        return found


def build(
    experiment: Experiment, data: StudyDataModule, findings: tuple[str, ...], known: Mapping[str, Any],
    trained: Path | None,
) -> Probe:  # fmt: skip
    """See `build_baseline`."""
    return head_on_features(Probe, experiment, data, findings, known)
