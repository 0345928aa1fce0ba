"""The optimiser of alignment training: AdamW in groups, each with its learning rate, warm-up and cosine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from radz.config import DfatConfig

if TYPE_CHECKING:
    from radz.dfat import DFAT


def adamw(module: DFAT, config: DfatConfig, steps: int) -> dict[str, Any]:
    """Optimiser and schedule as Lightning takes them: warm-up, then cosine to zero after `steps` updates.

    Groups: base (decoder and tower), projector, heads, temperature. The temperature goes at the heads' rate and is
    never decayed, which would pull it to 1.
    """
    rates = {
        "base": config.learning_rate,
        "projector": config.projector_learning_rate,
        "heads": config.head_learning_rate,
        "temperature": config.head_learning_rate,
    }
    groups: dict[str, list[torch.Tensor]] = {key: [] for key in rates}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups[_group(module, name)].append(parameter)
    settings = [
        {
            "params": groups[key], "lr": rates[key], "name": key,
            "weight_decay": 0.0 if key == "temperature" else config.weight_decay,
        }
        for key in groups if groups[key]
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(settings)
    warm = max(1, round(config.warmup * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _group(module: DFAT, name: str) -> str:
    if name == "log_scale":
        return "temperature"
    if ".heads." in name or name == "category_bias":
        return "heads"
    return "projector" if module.encoder.backbone.part_of(name) == "projector" else "base"
