"""The optimiser of every method: AdamW in groups, each with its learning rate; warm-up and cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from data_modules.errors import InputError
from radz.training.fsdp import local

TOKEN_ROWS = ("embed_tokens", "trainable_tokens_")
"""in the names of the decoder's embedding table, and of its modality rows where they alone train"""
LARGEST_SCALE = math.log(100)
"""of a learned temperature, as in CLIP: it lies between .01 and 1"""


Named = tuple[str, torch.nn.Parameter]


def adamw(
    parts: Mapping[str, tuple[float, Iterable[Named]]], weight_decay: float, steps: int, warmup: float,
    alone: tuple[str, int, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Optimiser and schedule as Lightning takes them: warm-up, then cosine to zero after `steps` updates.

    Args:
        parts: name -> learning rate and named parameters, of which those that train are taken. Each part becomes two
            groups: only matrices are decayed, without the rows of tokens: decay would pull norms, biases and a
            temperature off their place, and rare tokens to 0.
        alone: a part, how many of the steps it has to itself at the beginning, and its rate in them, which rises and
            falls as those of all parts do in the steps that are left.

    Raises:
        InputError: the part does not train, or has no fewer steps than there are.
    """
    groups: list[dict[str, Any]] = []
    factors: list[Callable[[int], float]] = []
    name_alone, first, rate_alone = alone or ("", 0, 0.0)
    of_rest = partial(learning_rate_factor, total_steps=steps - first, warmup=warmup)
    of_first = partial(learning_rate_factor, total_steps=first, warmup=warmup)
    for name, (rate, parameters) in parts.items():
        own = [(key, p) for key, p in parameters if p.requires_grad]
        decayed = [p for key, p in own if _is_decayed(key, p)]
        others = [p for key, p in own if not _is_decayed(key, p)]
        for chosen, decay in ((decayed, weight_decay), (others, 0.0)):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "name": name, "weight_decay": decay})
                higher = rate_alone / rate if name == name_alone else 0.0

                def factor(step: int, higher: float = higher) -> float:
                    return higher * of_first(step) if step < first else of_rest(step - first)

                factors.append(factor)
    if alone and (first >= steps or name_alone not in [group["name"] for group in groups]):
        raise InputError(
            f"dfat.{name_alone}_warmup_steps={first}: needs a {name_alone} that trains "
            f"(backbone.train_{name_alone}) and a run of more steps; this one has {steps}"
        )
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _is_decayed(name: str, parameter: torch.nn.Parameter) -> bool:
    return parameter.ndim > 1 and not any(rows in name for rows in TOKEN_ROWS)


def keep_scale(scale: Tensor, least: float = 0.0, most: float = LARGEST_SCALE) -> None:
    """After a step, bring a learned logarithm of 1 / temperature back between its bounds.

    The weight itself: a clamp in the loss would leave one that has passed them without a gradient.
    """
    local(scale.detach()).clamp_(least, most)


def learning_rate_factor(step: int, total_steps: int, warmup: float) -> float:
    """Linear rise over the first share `warmup` of the steps, cosine fall to 0 at the end, 0 beyond."""
    warm = max(1, round(warmup * total_steps))
    if step < warm:
        return (step + 1) / warm
    progress = min(1.0, (step - warm) / max(1, total_steps - warm))
    return 0.5 * (1.0 + math.cos(math.pi * progress))
