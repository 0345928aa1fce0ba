"""The optimiser of every method: AdamW in groups, each with its learning rate; warm-up and cosine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch

TOKEN_ROWS = ("embed_tokens", "trainable_tokens_")
"""in the names of the decoder's embedding table, and of its modality rows where they alone train"""


Named = tuple[str, torch.nn.Parameter]


def adamw(
    parts: Mapping[str, tuple[float, Iterable[Named]]], weight_decay: float, steps: int, warmup: float
) -> dict[str, Any]:
    """Optimiser and schedule as Lightning takes them: warm-up, then cosine to zero after `steps` updates.

    `parts`: name -> learning rate and named parameters, of which those that train are taken. Each part becomes two
    groups: only matrices are decayed, without the rows of tokens: decay would pull norms, biases and a temperature off
    their place, and rare tokens to 0.
    """
    groups = []
    for name, (rate, parameters) in parts.items():
        own = [(key, p) for key, p in parameters if p.requires_grad]
        decayed = [p for key, p in own if _is_decayed(key, p)]
        others = [p for key, p in own if not _is_decayed(key, p)]
        for chosen, decay in ((decayed, weight_decay), (others, 0.0)):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "name": name, "weight_decay": decay})
    optimizer = torch.optim.AdamW(groups)
    factor = partial(learning_rate_factor, total_steps=steps, warmup=warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _is_decayed(name: str, parameter: torch.nn.Parameter) -> bool:
    return parameter.ndim > 1 and not any(rows in name for rows in TOKEN_ROWS)


def learning_rate_factor(step: int, total_steps: int, warmup: float) -> float:
    """Linear rise over the first share `warmup` of the steps, cosine fall to 0 at the end, 0 beyond."""
    warm = max(1, round(warmup * total_steps))
    if step < warm:
        return (step + 1) / warm
    progress = min(1.0, (step - warm) / max(1, total_steps - warm))
    return 0.5 * (1.0 + math.cos(math.pi * progress))
