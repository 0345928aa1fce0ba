"""InternVL 3 and 3.5 folders in transformers' format (`InternVLForConditionalGeneration`): tiles and a whole view."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.errors import InputError
from radz.backbones.base import Backbone
from radz.backbones.llava_next import joined, resized


class InternVlBackbone(Backbone):
    """See `Backbone`. A square image becomes n x n tiles, and from n = 2 on also a view of the tile's size, as the
    family's processor makes of it (`crop_to_patches`); at the tile's own size it is one tile.
    """

    architecture = "InternVLForConditionalGeneration"
    processor_changes: Mapping[str, Any] = {"crop_to_patches": True}  # as InternVLProcessor says

    def read_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        config, vision = self.model.config, self.model.config.vision_config
        self._tile, self._shrink = vision.image_size[0], config.downsample_ratio
        self._patches = self._tile // vision.patch_size[0]
        self._few, self._many = settings.get("min_patches", 1), settings.get("max_patches", 12)
        size = set((settings.get("size") or {}).values())
        read = (config.vision_feature_layer, config.vision_feature_select_strategy)
        if size != {self._tile} or set(vision.image_size) != size or self._few != 1 or read != (-1, "default"):
            raise InputError(
                f"backbone.path: {folder}: the image processor's size {settings.get('size')} and min_patches "
                f"{self._few}, or what is read of the tower, do not fit tiles of {self._tile} pixels; only the layout "
                "of the released folders is supported"
            )
        around = [getattr(self.tokenizer, f"{name}_image_token", None) for name in ("start", "end")]
        if None in around:
            raise InputError(
                f"backbone.path: {folder}: the tokenizer lacks the tokens around an image, start_image_token and "
                "end_image_token; tokenizer and weights are of different models"
            )
        self._begin, self._end = around

    def idle_tower_parts(self) -> list[nn.Module | nn.Parameter]:
        """The patch projection, as in LLaVA, and a token that stands for patches that pretraining hides."""
        embeddings = self.tower.embeddings
        return [embeddings.patch_embeddings, *([embeddings.mask_token] if embeddings.mask_token is not None else [])]

    def _along(self, side: int) -> int:
        """Tiles along a side of an image of `side` pixels."""
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        return int(get_optimal_tiled_canvas((side, side), (self._tile, self._tile), 1, self._many)[0])

    def grid(self, side: int) -> int:
        """Tokens along a side of the tiles."""
        return int(self._along(side) * self._patches * self._shrink)

    def tokens_per_image(self, side: int) -> int:
        """Those of the tiles, and of the view where there are several."""
        tiles, each = self._along(side), self.pooled_grid(self.grid(self._tile)) ** 2
        return (tiles**2 + (tiles > 1)) * each

    def patch_map(self, values: Tensor, side: int) -> Tensor:
        """See `Backbone`: the mean of the tiles and of the view."""
        tiles, grid = self._along(side), self.pooled_grid(self.grid(self._tile))
        maps = values.unflatten(1, (-1, grid, grid))
        whole = maps[:, : tiles**2].unflatten(1, (tiles, tiles)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return joined(whole, maps[:, -1]) if tiles > 1 else whole

    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [M, C, S, S] to [M, tiles, 3, tile, tile], those of the first row first and the view last."""
        side, tiles = self._tile, self._along(pixels.shape[-1])
        canvas = resized(pixels, tiles * side).unflatten(3, (tiles, side)).unflatten(2, (tiles, side))
        views = canvas.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        if tiles > 1:
            views = torch.cat([views, resized(pixels, side)[:, None]], dim=1)
        return self.normalised(views.flatten(0, 1)).unflatten(0, views.shape[:2])

    def image_embeddings(self, prepared: Tensor) -> Tensor:
        """Patches without the class token, 2 x 2 of them a token: [M, P, d]."""
        with self.tower_graph():
            views = prepared.flatten(0, 1).to(next(self.tower.parameters()).dtype)
            states = self.tower(views).last_hidden_state[:, 1:].unflatten(1, (self._patches, self._patches))
        squares = self.core.model.pixel_shuffle(states, scale_factor=self._shrink)
        projector = self.core.model.multi_modal_projector
        tokens = self.pooled(projector(squares.to(projector.linear_1.weight.dtype)))
        return tokens.flatten(1, 2).unflatten(0, prepared.shape[:2]).flatten(1, 2)

    @property
    def shown_image(self) -> str:
        return f"{self._begin}{self.mark}{self._end}"
