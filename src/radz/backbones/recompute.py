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
    """Stands for a tensor that was not kept."""

    def __init__(self, make: Callable[[], Tensor], like: Tensor) -> None:
        self.make, self.shape, self.stride = make, like.shape, like.stride()

    def again(self) -> Tensor:
        with torch.no_grad():
            return self.make().as_strided(self.shape, self.stride)


class ElementwiseRecompute:
    """Watches a decoder's layers; inside `active()` their elementwise results are not kept.

    It works for layers of `input_layernorm`, `post_attention_layernorm` and `mlp` with `act_fn`, `up_proj` and
    `down_proj` (Llama, Mistral, Qwen2); what a layer lacks is kept as usual. Gradients do not change by a bit.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        self.layers = layers
        self._made: dict[int, tuple[ref[Tensor], Callable[[], Tensor]]] = {}
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
            self._made[result.data_ptr()] = (ref(result), make)

    def _pack(self, tensor: Tensor) -> Tensor | _Made:
        found = self._made.get(tensor.data_ptr())
        if found is None:
            return tensor
        result = found[0]()
        # An address may have been given to another tensor since; the result must still be there, and be this one.
        if result is None or result.data_ptr() != tensor.data_ptr() or result.numel() != tensor.numel():
            return tensor
        return _Made(found[1], tensor) if result.dtype == tensor.dtype else tensor

    def _watch(self, part: nn.Module) -> None:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._on:
                source = inputs[0].detach()
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


def _unpack(kept: Tensor | _Made) -> Tensor:
    return kept.again() if isinstance(kept, _Made) else kept
