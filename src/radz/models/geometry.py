"""How features lie: whether they tell anything apart, or are one direction (docs/method.md 2.4)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from radz.models.centre import FEWEST, Shared

log = logging.getLogger(__name__)
ALIKE = 0.9
"""mean cosine of images or reports above which they are said to be one direction"""


def geometry(vectors: Tensor) -> dict[str, float]:
    """How vectors [K, e] lie: count, mean cosine between different ones, effective rank.

    The rank is the exponential of the entropy of the squared singular values' shares. A set counts by its mean.
    """
    unit = torch.nn.functional.normalize((vectors.mean(1) if vectors.dim() == 3 else vectors).float(), dim=1)
    count = len(unit)
    cosine = ((unit @ unit.T).sum() - count) / max(count * (count - 1), 1)
    share = torch.linalg.svdvals(unit).square() / count
    entropy = -(share * share.clamp(min=1e-12).log()).sum()
    return {"count": count, "mean_cosine": round(cosine.item(), 4), "effective_rank": round(entropy.exp().item(), 2)}


def of_sides(sides: Mapping[str, tuple[Tensor, Shared]], centred: bool, remedy: str) -> dict[str, Any]:
    """{side: {raw | centred: see `geometry`}}; a side that is nearly one direction is told, with the remedy.

    Args:
        sides: features [K, e] of image, text, anchor or prompt, and what was taken from them.
        centred: whether something was.
    """
    lie: dict[str, Any] = {}
    for side, (features, shared) in sides.items():
        raw = geometry(shared.given_back(features))
        lie[side] = {"raw": raw, "centred": geometry(features)} if centred else {"raw": raw}
        used = lie[side].get("centred", raw)
        # Many images of few findings have few directions: of them only a common one is a fault.
        few = side in ("anchor", "prompt") and used["effective_rank"] < used["count"] / 4
        if used["count"] > FEWEST and (few or used["mean_cosine"] > ALIKE):
            log.warning(
                "geometry: %d %s features have a mean cosine of %.2f and an effective rank of %.1f, nearly one "
                "direction; %s", used["count"], side, used["mean_cosine"], used["effective_rank"], remedy,
            )  # fmt: skip
    return lie
