"""LLaVA-OneVision folders (`LlavaOnevisionForConditionalGeneration`): LLaVA-NeXT with a limit for the tiles' tokens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from data_modules.errors import InputError
from radz.backbones.llava_next import LlavaNextBackbone

LIMIT = "anyres_max_"


class LlavaOnevisionBackbone(LlavaNextBackbone):
    """See `Backbone`. Every image has a view and tiles, as the family's processor makes of a single one; the short form
    that it has for images among several, a view without tiles, is not used.
    """

    architecture = "LlavaOnevisionForConditionalGeneration"

    def read_image_size(self, folder: Path, settings: dict[str, Any]) -> None:
        """See `LlavaNextBackbone`; `vision_aspect_ratio` gives the tiles whose tokens fit."""
        super().read_image_size(folder, settings)
        limit = self.model.config.vision_aspect_ratio
        if not limit.removeprefix(LIMIT).isdigit():
            raise InputError(
                f"backbone.path: {folder}: vision_aspect_ratio {limit} of config.json is not supported; known: {LIMIT}N"
            )
        self._most = int(limit.removeprefix(LIMIT))

    def grid(self, side: int) -> int:
        """Tokens along a side of the tiles."""
        return self._limited(super().grid(side))

    def fine(self, tiles: Tensor) -> Tensor:
        """See `LlavaNextBackbone`; resized where there are more patches than tokens."""
        grid = self._limited(tiles.shape[1])
        if grid < tiles.shape[1]:
            tiles = F.interpolate(tiles.permute(0, 3, 1, 2), (grid, grid), mode="bilinear").permute(0, 2, 3, 1)
        return super().fine(tiles)

    def _limited(self, patches: int) -> int:
        """Tokens for so many patches along a side of the tiles."""
        ratio = math.sqrt(patches**2 / (self._most * self.tile_grid**2))
        return int(patches // ratio) if ratio > 1.1 else patches
