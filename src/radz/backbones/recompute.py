"""Keep less for the backward pass: results of norms, activations and gates are made again from what is kept anyway.

Of a decoder layer's saved activations, about two fifths are elementwise results: the output of each norm (the input of
q, k, v and of gate, up), act(gate) and act(gate) * up. Making them again costs no matrix product, where checkpointing a
whole layer costs all of them (selective checkpointing, Korthikanti et al. 2022, arXiv 2205.05198).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn


class _Made:
    """A result that is not kept but made again, once for all that need it."""

    def __init__(self, result: Tensor, make: Callable[[], Tensor]) -> None:
        self.result, self.make = ref(result), make  # weak, or nothing would be saved
        self.wanted = 0
        self.again: Tensor | None = None

    def take(self) -> Tensor:
        """The result, forgotten as soon as all have had it."""
        with torch.no_grad():
            result = self.make() if self.again is None else self.again
        self.wanted -= 1
        self.again = result if self.wanted > 0 else None
        return result


_Kept = tuple[_Made, torch.Size, tuple[int, ...]]
"""What stands for a tensor that was not kept, with its shape and strides."""


class ElementwiseRecompute:
    """Watches a decoder's layers; inside `active()` their elementwise results are not kept.

    It works for layers of `input_layernorm`, `post_attention_layernorm` and `mlp` with `act_fn`, `up_proj` and
    `down_proj` (Llama, Mistral, Qwen2); what a layer lacks is kept as usual. Gradients do not change by a bit.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        self.layers = layers
        self._made: dict[int, _Made] = {}
        self._on = False
        for layer in layers:
            for name in ("input_layernorm", "post_attention_layernorm"):
                if hasattr(layer, name):
                    self._watch(getattr(layer, name))
            mlp: Any = getattr(layer, "mlp", None)
            if all(hasattr(mlp, name) for name in ("act_fn", "up_proj", "down_proj")):
                self._watch_gate(mlp)

    @contextmanager
    def active(self) -> Iterator[None]:
        """For one forward pass of the decoder."""
        self._on = torch.is_grad_enabled()
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack):
                yield
        finally:
            self._on = False
            self._made.clear()

    def _note(self, result: Tensor, make: Callable[[], Tensor]) -> None:
        if self._on:
            self._made[result.data_ptr()] = _Made(result, make)

    def _pack(self, tensor: Tensor) -> Tensor | _Kept:
        made = self._made.get(tensor.data_ptr())
        result = None if made is None else made.result()
        # An address may have been given to another tensor since; the result must still be there, and be this one.
        if made is None or result is None or result.numel() != tensor.numel() or result.dtype != tensor.dtype:
            return tensor
        made.wanted += 1
        return made, tensor.shape, tensor.stride()

    def _watch(self, part: nn.Module) -> None:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._on:
                source = inputs[0].detach()
                # `forward`, not a call, which would run this hook again.
                self._note(output, lambda: module.forward(source))

        part.register_forward_hook(after)

    def _watch_gate(self, mlp: Any) -> None:
        parts: dict[str, Tensor] = {}

        def up(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._on:
                parts["up"] = output.detach()

        def gate(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._on:
                source = parts["gate"] = inputs[0].detach()
                self._note(output, lambda: module.forward(source))

        def down(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if self._on and len(parts) == 2:
                one, other = parts.pop("gate"), parts.pop("up")
                self._note(inputs[0], lambda: mlp.act_fn.forward(one) * other)

        mlp.act_fn.register_forward_hook(gate)
        mlp.up_proj.register_forward_hook(up)
        mlp.down_proj.register_forward_pre_hook(down)


def _unpack(kept: Tensor | _Kept) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    made, shape, stride = kept
    return made.take().as_strided(shape, stride)
