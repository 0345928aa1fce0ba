"""From tokens to a text, from images to a study: means and pooled scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def _masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over T of [B, T, d] where bool [B, T] says so; zero where it never does."""
    weights = mask.to(states.dtype)
    return torch.einsum("btd,bt->bd", states, weights) / weights.sum(1, keepdim=True).clamp(min=1)


def study_mean(values: Tensor, image_counts: Tensor) -> Tensor:
    """Mean over the images of each study: [M, K] with counts [B] summing to M -> [B, K]."""
    study = torch.repeat_interleave(torch.arange(len(image_counts), device=values.device), image_counts)
    sums = values.new_zeros(len(image_counts), values.shape[1]).index_add_(0, study, values)
    return sums / image_counts[:, None]


def over_images(scores: Mapping[str, Tensor], counts: Tensor, how: str) -> dict[str, Tensor]:
    """Scores [M, C] of all images of B studies, in order, as one score [B, C] of each study.

    Args:
        counts: int64 [B], images of each study; they sum to M.
        how: `mean` or `max`.
    """
    sizes = counts.tolist()
    return {
        name: torch.stack([part.mean(0) if how == "mean" else part.amax(0) for part in values.split(sizes)])
        for name, values in scores.items()
    }
