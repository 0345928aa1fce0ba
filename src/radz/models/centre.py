"""The direction that all features of a side share, taken out before any cosine (docs/method.md 2.4).

States of a pretrained decoder have cosines of .99 with each other, whatever the text says: what tells them apart is the
small rest. Shapes: B studies on this rank, e feature width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from radz.distributed import gather, total
from radz.models.losses import Features

MOMENTUM = 0.95
"""of the running means: about the last 20 steps count"""
FEWEST = 3
"""rows whose mean may be taken from them: of two, the rests are one direction"""


class Centre(nn.Module):
    """Running means [e] of the global and local features of images and of reports, over all ranks and steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for side in ("image", "text"):
            for part in ("overall", "local"):
                self.register_buffer(f"{side}_{part}", torch.zeros(width))
            self.register_buffer(f"{side}_weight", torch.zeros(()))

    def mean(self, name: str) -> Tensor:
        """The mean [e] of `image_overall`, `image_local`, `text_overall` or `text_local`; 0 before the first step."""
        weight = self.get_buffer(f"{name.split('_')[0]}_weight")
        # Of a start at zero the first steps still hold a share, which the weight says (Adam, arXiv 1412.6980).
        return self.get_buffer(name) / weight.clamp(min=1e-12)

    def forward(self, features: Features, side: str) -> Features:
        """Features of `image` or `text` less the means of training."""
        overall, local = features.overall - self.mean(f"{side}_overall"), features.local - self.mean(f"{side}_local")
        return replace(features, overall=overall, local=local)

    def training_step(self, features: Features, side: str, used: Tensor, of_batch: bool) -> Features:
        """Let the means follow the features of a step, and take them out.

        Args:
            features: raw, of this rank; `side` is image or text.
            used: bool [B], rows that have this side.
            of_batch: take out the mean of this step alone, with its gradient, instead of the running one.
        """
        count = total(used.sum())
        pace = (1 - MOMENTUM) * (count > 0)  # a step without any text says nothing of their mean
        means = {}
        for part, values in (("overall", features.overall), ("local", features.local)):
            rows = torch.where(used[:, None], values, torch.zeros_like(values))
            means[part] = (gather(rows) if of_batch else total(rows.detach().sum(0, keepdim=True))).sum(
                0
            ) / count.clamp(min=1)
            buffer = self.get_buffer(f"{side}_{part}")
            buffer.lerp_(means[part].detach().to(buffer.dtype), pace.to(buffer.dtype))
        weight = self.get_buffer(f"{side}_weight")
        weight.lerp_(torch.ones_like(weight), pace.to(weight.dtype))
        if not of_batch:
            return self(features, side)
        return replace(features, overall=features.overall - means["overall"], local=features.local - means["local"])


def mean_of(rows: Tensor) -> Tensor:
    """Mean [e] of class texts or anchors [K, e], or sets of them [K, S, e]; 0 of fewer than three."""
    flat = rows.flatten(0, -2)
    return flat.mean(0) if len(rows) >= FEWEST else torch.zeros_like(flat[0])
