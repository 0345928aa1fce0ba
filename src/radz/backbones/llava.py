"""LLaVA-1.5 class folders (`LlavaForConditionalGeneration`): CLIP or SigLIP tower, projector, decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.errors import InputError
from radz.backbones.base import Backbone

TOWERS = ("clip_vision_model", "siglip_vision_model")


class LlavaBackbone(Backbone):
    """See `Backbone`. The projector reads an inner layer of the tower, with or without the class token."""

    architecture = "LlavaForConditionalGeneration"

    def read_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        """See `Backbone`."""
        vision = self.model.config.vision_config
        if vision.model_type not in TOWERS:
            raise InputError(
                f"backbone.path: {folder}: a vision tower of type {vision.model_type} is not supported; known: "
                f"{', '.join(TOWERS)}"
            )
        has_class = vision.model_type == "clip_vision_model"
        drop = self.model.config.vision_feature_select_strategy == "default"
        self._first, self._kept = int(drop), int(has_class and not drop)
        self._tower_layer = tower_index(self.model, folder)
        self.tile_grid = vision.image_size // vision.patch_size
        self.read_image_size(folder, settings)

    def read_image_size(self, folder: Path, settings: dict[str, Any]) -> None:
        """The side that images must have: the tower's."""
        self.image_size = self.model.config.vision_config.image_size

    def idle_tower_parts(self) -> list[nn.Module]:
        """The layers beyond the one that is read, and the patch projection.

        A frozen patch projection trains more stably (Chen et al. 2021, arXiv 2104.02057) and its gradient is costly.
        """
        tower = self.tower
        parts = [tower.encoder.layers[self._tower_layer :], tower.post_layernorm, tower.embeddings.patch_embedding]
        return parts + ([tower.head] if getattr(tower, "head", None) is not None else [])

    def truncate_tower(self) -> None:
        """See `Backbone`."""
        tower = self.tower
        tower.encoder.layers = tower.encoder.layers[: self._tower_layer]
        tower.config.num_hidden_layers = self._tower_layer
        self.model.config.vision_feature_layer = -1

    def grid(self, side: int) -> int:
        """Patches along a side."""
        return self.tile_grid

    def tokens_per_image(self, side: int) -> int:
        """See `Backbone`; a class token that is kept counts too."""
        return super().tokens_per_image(side) + self._kept

    def image_embeddings(self, prepared: Tensor) -> Tensor:
        """[M, 3, S, S] to [M, P, d]; a class token before the patches is not pooled."""
        tokens = self.projected(prepared)
        patches = self.pooled(tokens[:, self._kept :].unflatten(1, (self.tile_grid, self.tile_grid)))
        return torch.cat([tokens[:, : self._kept], patches.flatten(1, 2)], dim=1)

    def projected(self, prepared: Tensor) -> Tensor:
        """[M, 3, S, S] to the projected states at `vision_feature_layer`, [M, class token and patches, d]."""
        with self.tower_graph():
            layers = self.tower(prepared.to(next(self.tower.parameters()).dtype), output_hidden_states=True)
        states = layers.hidden_states[self.core.config.vision_feature_layer][:, self._first :]
        projector = self.core.model.multi_modal_projector
        return projector(states.to(projector.linear_1.weight.dtype))


def tower_index(model: Any, folder: Path) -> int:
    """`vision_feature_layer` as an index into the tower's hidden states, 1..layers."""
    chosen, layers = model.config.vision_feature_layer, len(model.model.vision_tower.encoder.layers)
    index = chosen if not isinstance(chosen, int) or chosen >= 0 else layers + 1 + chosen
    if not isinstance(index, int) or not 1 <= index <= layers:
        raise InputError(
            f"backbone.path: {folder}: vision_feature_layer {chosen} in config.json is not one of the tower's {layers} "
            "layers; only a single layer is supported"
        )
    return index
