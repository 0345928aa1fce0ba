"""`method: finetune`: a classification head on an encoder, trained on labels with the encoder or alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.batch import StudyBatch
from radz.methods import study_features
from radz.methods.study_features import OnFeatures, StudyFeatures
from radz.training.optimizer import adamw


class Finetune(OnFeatures):
    """Features, LayerNorm, a linear layer or two."""

    headline = "finetune"

    def make_head(self, features: StudyFeatures) -> None:
        config = self.config
        self.gradient_clip = config.gradient_clip
        features.only_images() if config.train_encoder else features.requires_grad_(False)
        width = features.width
        inner = [nn.Linear(width, width), nn.GELU()] if config.head == "mlp" else []
        last = nn.Linear(width, len(self.outputs))
        self.head = nn.Sequential(nn.LayerNorm(width), *inner, nn.Dropout(config.dropout), last)

    def forward(self, batch: StudyBatch) -> Tensor:
        """Logits float32 [B, K]."""
        with torch.set_grad_enabled(self.config.train_encoder and torch.is_grad_enabled()):
            x = self.features_of(batch)
        with torch.autocast(self.device.type, enabled=False):  # bf16 logits would tie the ranking
            logits: Tensor = self.head(x.float())
        return logits

    def train(self, mode: bool = True) -> Finetune:
        """A frozen encoder has no dropout."""
        super().train(mode)
        if not self.config.train_encoder:
            self.features.eval()
        return self

    def configure_optimizers(self) -> Any:
        """AdamW; encoder and head have rates of their own, norms and biases are not decayed."""
        parts = {
            "features": (self.config.learning_rate, self.features.named_parameters()),
            "head": (self.config.head_learning_rate, self.head.named_parameters()),
        }
        return adamw(parts, self.config.weight_decay, int(self.trainer.estimated_stepping_batches), self.config.warmup)


build = partial(study_features.build, Finetune)
