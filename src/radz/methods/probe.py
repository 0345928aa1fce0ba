"""`method: probe`: a logistic regression per finding on frozen features (linear probe)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor

from data_modules.batch import StudyBatch
from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from radz.methods import logistic_regression, study_features
from radz.methods.base import run_rows
from radz.methods.study_features import Collector, OnFeatures, StudyFeatures

FALLBACK = 0.01
"""C, or the nearest to it, when validation cannot choose"""
NUMBERS = ("weights", "bias", "mean", "spread")


class Probe(OnFeatures):
    """Standardised features through one logistic regression per finding."""

    headline, trains = "probe", False
    weights: Tensor
    bias: Tensor
    mean: Tensor
    spread: Tensor
    fitted: Tensor
    """bool [K], whether training had both labels"""

    def make_head(self, features: StudyFeatures) -> None:
        features.requires_grad_(False).eval()
        shapes = {"weights": (len(self.outputs), features.width), "bias": (len(self.outputs),)}
        for name in NUMBERS:
            self.register_buffer(name, torch.zeros(shapes.get(name, (features.width,))))
        self.register_buffer("fitted", torch.zeros(len(self.outputs), dtype=torch.bool))

    def fit_once(self, trainer: Trainer, data: StudyDataModule) -> None:
        """Features of training and validation, without augmentation; the regressions on them."""
        rows = {split: data.table.rows(split) for split in ("train", "val")}
        x = {split: np.zeros((0, self.features.width), np.float32) for split in rows}
        for split in (split for split in rows if len(rows[split])):
            x[split] = run_rows(trainer, Collector(self, self.features_of), data, rows[split])[1]["features"]
        labels = data.loss_labels(rows["train"])
        if not any((labels[:, k] == 1).any() and (labels[:, k] == 0).any() for k in range(labels.shape[1])):
            raise InputError(f"method=probe: no finding is both present and absent in {len(labels)} training studies")
        fit = logistic_regression.fit(
            x["train"], labels, (x["val"], data.metric_labels(rows["val"]), data.table.corpus[rows["val"]]),
            self.config.strengths, FALLBACK, self.headline,
        )  # fmt: skip
        self.fitted.copy_(torch.from_numpy(~np.isnan(fit.bias)))
        for name in NUMBERS:  # a checkpoint with NaN counts as damaged
            getattr(self, name).copy_(torch.from_numpy(np.nan_to_num(getattr(fit, name))))

    def forward(self, batch: StudyBatch) -> Tensor:
        """Logits float32 [B, K]; NaN for findings that could not be fitted."""
        x = self.features_of(batch)
        with torch.autocast(self.device.type, enabled=False):
            logits = ((x.float() - self.mean) / self.spread) @ self.weights.T + self.bias
        return torch.where(self.fitted, logits, torch.nan)

    def kept(self) -> set[str]:
        """The regressions alone; the encoder is where it was."""
        return {*NUMBERS, "fitted"}


build = partial(study_features.build, Probe)
