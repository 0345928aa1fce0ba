"""PEFT's layers without their passes over memory: one autograd node for x W' + s (x A') B', single rows of a table.

PEFT computes scale, sum and casts as separate passes over the layer's whole output and, under autocast, keeps a copy of
the input for each of the seven adapted layers. Here the low-rank product is added by the matrix product that makes it,
forward and backward, and the input is kept as it is, so that layers that share one share its memory.

Of an embedding of which few rows train, PEFT copies the whole table at each lookup, and twice more for its gradient.
Here the frozen table is looked up as it is, and the few rows are put where their tokens stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Linear(torch.autograd.Function):
    """y [T, o] of x [T, i], frozen weight [o, i] and bias [o], A [r, i], B [o, r] and the scale s."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        low = x @ a.to(x.dtype).T
        y = nn.functional.linear(x, weight, bias)
        y = _added()(y, low, (b * scale).to(x.dtype).T)
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
            of_x = _added()(y @ weight, down, a.to(y.dtype))
        of_a = (down.T @ x).to(a.dtype)
        of_b = (y.T @ low).to(b.dtype) * ctx.scale
        return of_x, None, None, of_a, of_b, None  # weight and bias are frozen, the scale is a number


def _added() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Adds a product in place, so that the sum costs no second pass over its left side, and no copy of it.

    Not under `torch.compile`, which makes one pass of it anyhow: dynamo of torch 2.11 loses, without a word, the
    gradients of a node that writes in place.
    """
    return Tensor.addmm if torch.compiler.is_compiling() else Tensor.addmm_


def fuse_lora(model: nn.Module) -> int:
    """Let the plain LoRA layers of a PEFT model, and its tables with trained rows, compute this way.

    Layers of another kind of base (4-bit), with dropout or with another adapter type keep PEFT's own forward.

    Returns:
        How many layers do.
    """
    from peft.tuners.lora import Linear
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    count = 0
    for module in model.modules():
        if type(module) is TrainableTokensLayer and isinstance(module.base_layer, nn.Embedding):
            module.__class__ = _of_rows(TrainableTokensLayer)
            count += 1
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


def _of_rows(layer: Any) -> type:
    """`layer` with another lookup; made once, where PEFT is imported."""
    if layer not in _CLASSES:

        class TrainedRows(layer):  # type: ignore[misc]
            def forward_adapters(self, x: Tensor, active_adapters: Any, *args: Any, **kwargs: Any) -> Tensor:
                base = self.base_layer
                if self.disable_adapters or self.merged or len(active_adapters) != 1 or base.weight.requires_grad:
                    return super().forward_adapters(x, active_adapters, *args, **kwargs)
                (name,) = active_adapters
                words = base(x)
                rows = self.trainable_tokens_delta[name].to(words.dtype)
                scale = self._get_embed_scale()  # of Gemma's table, which scales in its own forward
                rows = rows if scale is None else rows * scale.to(rows.dtype)
                hits = x[..., None] == torch.tensor(self.token_indices[name], device=x.device)
                # `where` has one shape for any number of hits: no wait for the device, one graph for `compile`.
                placed = nn.functional.embedding(hits.int().argmax(-1), rows)
                return torch.where(hits.any(-1, keepdim=True), placed, words)

        _CLASSES[layer] = TrainedRows
    return _CLASSES[layer]
