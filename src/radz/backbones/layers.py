"""The layers of a decoder: which one is read, what all of them compute, and in which precision it is read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from data_modules.errors import InputError


class Layers(NamedTuple):
    """What a decoder computes on its way to the feature layer L."""

    states: tuple[Tensor, ...]
    """L + 1 times [B, T, d], input embeddings first"""
    attention: tuple[Tensor, ...]
    """L times [B, heads, T, T], or none"""


def at_least_fp32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float64 stays."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def layer_index(layer: int, layers: int) -> int:
    """`hidden_states` index in 0..layers for a Hugging Face style index.

    Raises:
        InputError: the layer does not exist, or is the embedding layer.
    """
    index = layer if layer >= 0 else layers + 1 + layer
    if not 1 <= index <= layers:
        raise InputError(
            f"backbone.feature_layer: {layer} is not a layer of a decoder with {layers} layers; "
            f"give 1 to {layers} or -{layers} to -1"
        )
    return index
