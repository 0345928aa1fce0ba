"""How features lie: whether they tell anything apart, or are one direction (docs/method.md 2.4)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from radz.models.centre import FEWEST, Shared
from radz.models.encoder import Encoder

log = logging.getLogger(__name__)
ALIKE = 0.95
"""mean cosine above which features are said to be one direction: untrained SmolLM2 has .99 and more, images of demos
that learn have .80 to .91 (docs/results.md)"""


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


@torch.no_grad()
def of_encoder(
    encoder: Encoder, images: Tensor, texts: Tensor | None, anchors: Tensor, prompts: tuple[Tensor, Shared]
) -> dict[str, Any]:
    """How global features lie: `of_sides` of image, text, anchor and prompt.

    Args:
        images, texts: features [N, e] of a test. anchors: raw vectors [K, d] of the training bank.
        prompts: one feature for each finding [C, e], and what was taken from them.
    """

    def shared(name: str) -> Shared:
        return encoder.centre.shared(name).cpu() if encoder.centre else Shared(torch.zeros(()))

    trained = encoder.anchor_features(anchors)
    of_bank = encoder.of_bank(trained)
    sides = {
        "image": (images, shared("image_overall")),
        **({} if texts is None else {"text": (texts, shared("text_overall"))}),
        "anchor": (of_bank.taken_from(trained), of_bank),
        "prompt": prompts,
    }
    if encoder.centre is None:
        return of_sides(sides, False, "try dfat.centre=batch (docs/results.md says what it did)")
    norm = encoder.config.token_norm
    more = "set dfat.token_norm=unit" if norm == "none" else "set dfat.centre=whiten, or train longer"
    return of_sides(sides, True, more)


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


def told_of_sinks(share: Tensor) -> bool:
    """Whether few positions are most of a pooled feature, which is then told; `share` [2]: `Features.peak_share`."""
    if share[1] <= 0.5:
        return False
    log.warning(
        "sinks: the longest position holds %.0f %% of a pooled feature's power, the longest hundredth %.0f %%; set "
        "dfat.token_norm=unit", *(100 * share).tolist(),
    )  # fmt: skip
    return True
