"""Supervised convolutional network: the reference that sees the labels, for a few minutes on two CPU cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from data_modules.batch import StudyBatch
from radz.callbacks.finite import stop_unless_finite
from radz.config import CnnConfig
from radz.losses import global_mean


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


def study_mean(values: Tensor, image_counts: Tensor) -> Tensor:
    """Mean over the images of each study: [M, K] with counts [B] summing to M -> [B, K]."""
    study = torch.repeat_interleave(torch.arange(len(image_counts), device=values.device), image_counts)
    sums = values.new_zeros(len(image_counts), values.shape[1]).index_add_(0, study, values)
    return sums / image_counts[:, None]


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy (scalar, nats) over the known labels of all ranks: logits, labels [B, K], NaN unknown."""
    known = ~labels.isnan()
    # NaN must be gone before the loss: masking afterwards would still leave NaN in the gradient.
    return global_mean(F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.0), reduction="none"), known)


def learning_rate_factor(step: int, total_steps: int, warmup: float) -> float:
    """Linear rise over the first share `warmup` of the steps, cosine fall to 0 at the end, 0 beyond."""
    warm = max(1, round(warmup * total_steps))
    if step < warm:
        return (step + 1) / warm
    progress = min(1.0, (step - warm) / max(1, total_steps - warm))
    return 0.5 * (1.0 + math.cos(math.pi * progress))


class SupervisedCNN(LightningModule):
    """Multi-label network on StudyBatch batches.

    Args:
        findings: the K findings, in the order of `label_states`.
        policy: float32 [C, K, 4], label value (1, 0, NaN) per corpus, finding and state, for the loss.
        config: width, rates and regularisation.
        total_steps: optimizer steps of the whole run, the length of the schedule.
    """

    policy: Tensor

    def __init__(self, findings: Sequence[str], policy: Tensor, config: CnnConfig, total_steps: int) -> None:
        super().__init__()
        assert policy.ndim == 3 and policy.shape[1:] == (len(findings), 4), policy.shape
        self.findings = tuple(findings)
        self.register_buffer("policy", policy.float(), persistent=False)
        self.config, self.total_steps = config, total_steps
        self.network = Network(len(self.findings), config.width, config.dropout)

    def forward(self, batch: StudyBatch) -> Tensor:
        """Logits float32 [B, K]; several images of a study are averaged."""
        return study_mean(self.network(batch.pixels), batch.image_counts)

    def labels(self, batch: StudyBatch) -> Tensor:
        """Labels under the loss policy, float32 [B, K], 1, 0 or NaN."""
        findings = torch.arange(len(self.findings), device=self.policy.device)
        return self.policy[batch.corpus[:, None], findings, batch.label_states.long()]

    def training_step(self, batch: StudyBatch, batch_idx: int) -> Tensor:
        loss = masked_bce(self(batch), self.labels(batch))
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch.rows))
        self._loss, self._rows = loss.detach(), batch.rows
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before a non-finite update."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
        stop_unless_finite(norm, self._loss, self._rows, getattr(self.trainer, "datamodule", None), self.global_step)

    def predict_step(self, batch: StudyBatch, batch_idx: int) -> dict[str, Tensor]:
        """`rows` int64 [B] and `scores` float32 [B, K] in [0, 1]."""
        return {"rows": batch.rows, "scores": self(batch).sigmoid()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a warm-up and cosine schedule per step; norms and biases are not decayed."""
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        config = self.config
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        factor = partial(learning_rate_factor, total_steps=self.total_steps, warmup=config.warmup)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
