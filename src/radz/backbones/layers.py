"""The layers of a decoder: which one is read, and what all of them compute."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from data_modules.errors import InputError


class Layers(NamedTuple):
    """What a decoder computes on its way to the feature layer L."""

    states: tuple[Tensor, ...]
    """L + 1 times [B, T, d], input embeddings first"""
    attention: tuple[Tensor, ...]
    """L times [B, heads, T, T], or none"""


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
