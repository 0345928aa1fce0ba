"""LLaVA-1.5 class folders (`LlavaForConditionalGeneration`): vision tower, projector, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radz.backbones.base import Backbone
from radz.backbones.vision_tower import idle_parts, layer_indices, prefix_tokens, side_in_patches, truncate


class LlavaBackbone(Backbone):
    """See `Backbone`. The projector reads one or several layers of the tower, with or without the class token."""

    architecture = "LlavaForConditionalGeneration"

    def read_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        config = self.model.config
        self.tile_grid = side_in_patches(config.vision_config, f"backbone.path: {folder}")
        drop = config.vision_feature_select_strategy == "default"
        self._first, self._kept = int(drop), max(prefix_tokens(config.vision_config) - int(drop), 0)
        self._tower_layers = layer_indices(
            config.vision_feature_layer, config.vision_config.num_hidden_layers,
            f"backbone.path: {folder}: vision_feature_layer",
        )  # fmt: skip
        self.read_image_size(folder, settings)

    def read_image_size(self, folder: Path, settings: dict[str, Any]) -> None:
        """The side that images must have: the tower's."""
        self.image_size = self.model.config.vision_config.image_size

    def idle_tower_parts(self) -> Sequence[nn.Module | nn.Parameter]:
        """See `vision_tower.idle_parts`."""
        return idle_parts(self.tower, max(self._tower_layers))

    def truncate_tower(self) -> None:
        truncate(self.tower, max(self._tower_layers))
        # Counted from the front, the layers that are read keep their numbers.
        several = isinstance(self.model.config.vision_feature_layer, list)
        self.model.config.vision_feature_layer = self._tower_layers if several else self._tower_layers[0]

    def grid(self, side: int) -> int:
        """Patches along a side."""
        return self.tile_grid

    def covered(self, side: int) -> float:
        """See `Backbone`; SigLIP's 384 pixels hold 27 patches of 14, which are 378."""
        vision = self.model.config.vision_config
        return side * self.tile_grid * vision.patch_size / vision.image_size

    def tokens_per_image(self, side: int) -> int:
        """See `Backbone`; class and register tokens that are kept count too."""
        return super().tokens_per_image(side) + self._kept

    def image_embeddings(self, prepared: Tensor) -> Tensor:
        """[M, 3, S, S] to [M, P, d]; class and register tokens before the patches are not pooled."""
        tokens = self.projected(prepared)
        patches = self.pooled(tokens[:, self._kept :].unflatten(1, (self.tile_grid, self.tile_grid)))
        return torch.cat([tokens[:, : self._kept], patches.flatten(1, 2)], dim=1)

    def patch_map(self, values: Tensor, side: int) -> Tensor:
        """See `Backbone`; class and register tokens have no place."""
        return super().patch_map(values[:, self._kept :], side)

    def projected(self, prepared: Tensor) -> Tensor:
        """[M, 3, S, S] to the projected states at `vision_feature_layer`, [M, class token and patches, d]."""
        with self.tower_graph():
            layers = self.tower(prepared.to(next(self.tower.parameters()).dtype), output_hidden_states=True)
        read = [layers.hidden_states[index][:, self._first :] for index in self._tower_layers]
        # Of one layer no copy: laid out otherwise, its product with the projector is rounded otherwise.
        states = read[0] if len(read) == 1 else torch.cat(read, dim=-1)
        projector = self.core.model.multi_modal_projector
        return projector(states.to(projector.linear_1.weight.dtype))
