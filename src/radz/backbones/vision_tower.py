"""What radz needs to know of a vision tower of transformers: its layers, its grid of patches, the tokens before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from data_modules.errors import InputError

CLASS_TOKENS = {
    "clip_vision_model": 1,
    "siglip_vision_model": 0,
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "dinov3_vit": 1,
    "vit": 1,
}
"""towers with a square grid of hidden states, by `model_type`: class tokens before the patches"""


def prefix_tokens(vision: Any) -> int:
    """Class and register tokens before the patches of a tower with this config."""
    return CLASS_TOKENS[vision.model_type] + getattr(vision, "num_register_tokens", 0)


def side_in_patches(vision: Any, where: str) -> int:
    """Patches along a side of the tower's square image.

    Args:
        where: begins the error.

    Raises:
        InputError: a tower of another kind, or whose image or patches are not square.
    """
    if vision.model_type not in CLASS_TOKENS:
        raise InputError(
            f"{where}: a vision tower of type {vision.model_type} is not supported; known: {', '.join(CLASS_TOKENS)}"
        )
    image, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    if not isinstance(image, int) or not isinstance(patch, int) or image < patch:
        raise InputError(
            f"{where}: the tower has images of {image} and patches of {patch} pixels; radz needs a square grid of them"
        )
    return image // patch


def tower_layers(tower: Any) -> tuple[nn.Module, str]:
    """The module that holds the list of a tower's layers, and the name of the list in it.

    The list is the one with as many entries as the config has layers: its name differs by model and by version of
    transformers (encoder.layers, encoder.layer, model.layer, layers).
    """
    count = tower.config.num_hidden_layers
    for module in tower.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, name
    raise InputError(f"{type(tower).__name__}: no list of {count} layers; its transformers version is not supported")


def idle_parts(tower: Any, layer: int) -> list[nn.Module | nn.Parameter]:
    """Parts without part in `hidden_states[layer]`, and the patch projection.

    A frozen patch projection trains more stably (Chen et al. 2021, arXiv 2104.02057) and its gradient is costly.
    """
    holder, name = tower_layers(tower)
    layers = getattr(holder, name)
    children = list(tower.children())
    # What a tower computes after its layers (norm, pooling head) it registers after them.
    place = next(i for i, child in enumerate(children) if child is holder or child is layers)
    embeddings = children[0]
    projection = getattr(embeddings, "patch_embedding", None) or getattr(embeddings, "patch_embeddings", None)
    masked = getattr(embeddings, "mask_token", None)  # stands for patches that pretraining hides
    return [layers[layer:], *children[place + 1 :], *(part for part in (projection, masked) if part is not None)]


def truncate(tower: Any, layer: int) -> None:
    """Drop the layers beyond `hidden_states[layer]`."""
    holder, name = tower_layers(tower)
    setattr(holder, name, getattr(holder, name)[:layer])
    tower.config.num_hidden_layers = layer


def layer_indices(chosen: int | Sequence[int], layers: int, where: str) -> list[int]:
    """`vision_feature_layer` (one layer or several, negative from the end) as indices of hidden states, 1 to `layers`.

    Raises:
        InputError: none, one twice, or one that the tower does not have.
    """
    given = [chosen] if isinstance(chosen, int) else list(chosen)
    found = [index if index >= 0 else layers + 1 + index for index in given if isinstance(index, int)]
    if (
        len(found) != len(given)
        or not found
        or len(set(found)) < len(found)
        or not all(1 <= i <= layers for i in found)
    ):
        raise InputError(f"{where} {chosen} does not name different ones of the tower's {layers} layers")
    return found
