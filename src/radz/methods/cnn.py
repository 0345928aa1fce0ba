"""Supervised convolutional network: the reference that sees the labels, for a few minutes on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.batch import StudyBatch
from radz.config.schema import CnnConfig
from radz.methods.base import Classifier, Task
from radz.models.labels import LabelView, label_view
from radz.models.pooling import study_mean
from radz.training.optimizer import adamw


class Block(nn.Module):
    """Basic residual block (He et al. 2016), halving height and width: [M, C, H, W] -> [M, D, H/2, W/2]."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(wider)
        self.second = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(wider)
        # Averaging before the 1 x 1 convolution keeps the three pixels of four that a strided one would skip.
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(channels, wider, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)), inplace=True)
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x), inplace=True)


def contrast_channels(pixels: Tensor) -> Tensor:
    """Grey and local contrast: uint8 [M, C, H, W] -> float32 [M, 2, H, W]; the windows of a CT slice are averaged.

    Local contrast is (grey - mean) / (standard deviation + 4 grey levels) over about a sixth of the width. A nodule or
    a catheter differs from what surrounds it by a few grey levels of 256, too little to be found in the few hundred
    steps of a short run.
    """
    grey = pixels.float().mean(dim=1, keepdim=True)
    height, width = grey.shape[-2:]
    # Averages on a coarse grid and a smooth way back: a sliding window of this size costs as much as the network.
    moments = F.interpolate(
        torch.cat([grey, grey * grey], dim=1), (max(1, height // 8), max(1, width // 8)), mode="area"
    )
    moments = F.avg_pool2d(moments, 3, stride=1, padding=1, count_include_pad=False)
    mean, square = F.interpolate(moments, (height, width), mode="bilinear", align_corners=False).split(1, dim=1)
    spread = (square - mean * mean).clamp(min=0).sqrt()
    return torch.cat([(grey - 127.5) / 64.0, (grey - mean) / (spread + 4.0)], dim=1)


class Network(nn.Module):
    """Images uint8 [M, C, H, W] to logits float32 [M, K]: stem, four residual stages, mean and maximum pooling."""

    def __init__(self, classes: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        # Half the channels in the stem: at full width its 64 x 64 maps cost more time on a CPU than all stages.
        widths = [max(1, width // 2), *(width * factor for factor in (1, 2, 4, 8))]
        stem = nn.Conv2d(2, widths[0], 5, stride=2, padding=2, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(*(Block(a, b) for a, b in pairwise(widths)))
        self.head = nn.Sequential(nn.LayerNorm(2 * widths[-1]), nn.Dropout(dropout), nn.Linear(2 * widths[-1], classes))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stages(self.stem(contrast_channels(pixels).contiguous(memory_format=torch.channels_last)))
        # The mean sees extent (a large heart), the maximum a small focus (a nodule).
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        with torch.autocast(pooled.device.type, enabled=False):  # bf16 logits would tie the ranking
            logits: Tensor = self.head(pooled.float())
        return logits


class CNN(Classifier):
    """Multi-label network on StudyBatch batches.

    Args:
        labels: label columns and policies of the corpora.
        outputs: the K findings of the network; findings: the C that are scored.
    """

    headline = "cnn"

    def __init__(self, config: CnnConfig, labels: LabelView, outputs: Sequence[str], findings: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.network = Network(len(outputs), config.width, config.dropout)
        self.set_outputs(labels, outputs, findings)

    def forward(self, batch: StudyBatch) -> Tensor:
        """Logits float32 [B, K]; several images of a study are averaged."""
        return study_mean(self.network(batch.pixels), batch.image_counts)

    def configure_optimizers(self) -> Any:
        """AdamW with a warm-up and cosine schedule per step; norms and biases are not decayed."""
        parts = {"network": (self.config.learning_rate, self.named_parameters())}
        return adamw(parts, self.config.weight_decay, int(self.trainer.estimated_stepping_batches), self.config.warmup)


def build(task: Task) -> CNN:
    """See `registry.build`."""
    view = label_view(task.data)
    return CNN(task.experiment.cnn, view, task.known.get("findings", view.findings), task.findings)
