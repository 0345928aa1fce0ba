"""PEFT's LoRA layers with one autograd node each: x W' + s (x A') B' without the passes over memory between them.

PEFT computes scale, sum and casts as separate passes over the layer's whole output and, under autocast, keeps a copy of
the input for each of the seven adapted layers. Here the low-rank product is added by the matrix product that makes it,
forward and backward, and the input is kept as it is, so that layers that share one share its memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Linear(torch.autograd.Function):
    """y [T, o] of x [T, i], frozen weight [o, i] and bias [o], A [r, i], B [o, r] and the scale s."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        low = x @ a.to(x.dtype).T
        y = nn.functional.linear(x, weight, bias)
        # In place: the sum costs no second pass over y, and no copy of it.
        y.addmm_(low, (b * scale).to(x.dtype).T)
        ctx.scale = scale
        ctx.save_for_backward(x, low, weight, a, b)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, low, weight, a, b = ctx.saved_tensors
        (y,) = gradients
        down = y @ (b * ctx.scale).to(y.dtype)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (y @ weight).addmm_(down, a.to(y.dtype))
        of_a = (down.T @ x).to(a.dtype)
        of_b = (y.T @ low).to(b.dtype) * ctx.scale
        return of_x, None, None, of_a, of_b, None  # weight and bias are frozen, the scale is a number


def fuse_lora(model: nn.Module) -> int:
    """Let the plain LoRA layers of a PEFT model compute this way; returns how many do.

    Layers of another kind of base (4-bit), with dropout or with another adapter type keep PEFT's own forward.
    """
    from peft.tuners.lora import Linear

    count = 0
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear:
            module.__class__ = _fused(Linear)  # in place: parameters, their names and PEFT's own methods stay
            count += 1
    return count


_CLASSES: dict[type, type] = {}


def _fused(linear: Any) -> type:
    """`linear` with another forward; made once, where PEFT is imported."""
    if linear not in _CLASSES:

        class FusedLinear(linear):  # type: ignore[misc]
            def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                base, names = self.base_layer, self.active_adapters
                wanted = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None
                plain = not (
                    args or kwargs or self.disable_adapters or self.merged or len(names) != 1 or self.lora_variant
                    or self.fan_in_fan_out or base.weight.requires_grad or (wanted or x.dtype) != base.weight.dtype
                )  # fmt: skip
                if not plain or not isinstance(self.lora_dropout[names[0]], nn.Identity):
                    return super().forward(x, *args, **kwargs)
                (name,) = names
                a, b = self.lora_A[name].weight, self.lora_B[name].weight
                rows = x.reshape(-1, x.shape[-1]).to(base.weight.dtype)
                y = _Linear.apply(rows, base.weight, base.bias, a, b, self.scaling[name])
                return y.view(*x.shape[:-1], y.shape[-1])

        _CLASSES[linear] = FusedLinear
    return _CLASSES[linear]
