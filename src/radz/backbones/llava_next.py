"""LLaVA-NeXT folders (`LlavaNextForConditionalGeneration`): a whole view and tiles, newlines in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data_modules.errors import InputError
from radz.backbones.llava import LlavaBackbone


class LlavaNextBackbone(LlavaBackbone):
    """See `Backbone`. A square image becomes a view of the tile's size, and a larger one cut into tiles.

    Which larger one is the choice of transformers among the folder's `image_grid_pinpoints`; where it is not square,
    the image lies in its middle and the rest holds no tokens.
    """

    architecture = "LlavaNextForConditionalGeneration"
    projector_paths = ("model.multi_modal_projector", "model.image_newline")

    def read_image_size(self, folder: Path, settings: dict[str, Any]) -> None:
        """Images may have any side; the tiles' is the tower's."""
        self._tile = self.model.config.vision_config.image_size
        self._resolutions = settings.get("image_grid_pinpoints") or self.model.config.image_grid_pinpoints
        crop = settings.get("crop_size") or settings.get("size") or {}
        if self._kept or (crop and set(crop.values()) != {self._tile}):
            raise InputError(
                f"backbone.path: {folder}: the image processor's crop_size {crop} or the class token do not fit tiles "
                f"of {self._tile} pixels; only the layout of the released folders is supported"
            )

    def _canvas(self, side: int) -> tuple[int, int]:
        """Rows and columns of tiles for a square image of `side` pixels."""
        from transformers.image_processing_utils import select_best_resolution

        height, width = select_best_resolution((side, side), self._resolutions)
        return height // self._tile, width // self._tile

    def grid(self, side: int) -> int:
        """Patches along a side of the part of the tiles that the image covers."""
        return min(self._canvas(side)) * self.tile_grid

    def covered(self, side: int) -> float:
        """See `Backbone`; of several tiles each has its own rest, and a map of all has none at its end."""
        return super().covered(side) if self.grid(side) == self.tile_grid else side

    def tokens_per_image(self, side: int) -> int:
        """The view's grid, and that of the tiles with a newline token after each row."""
        fine = self.pooled_grid(self.grid(side))
        return self.pooled_grid(self.tile_grid) ** 2 + fine * (fine + 1)

    def patch_map(self, values: Tensor, side: int) -> Tensor:
        """See `Backbone`: the mean of the view, resized, and the tiles; newlines have no place."""
        fine, view = self.pooled_grid(self.grid(side)), self.pooled_grid(self.tile_grid)
        tiles = values[:, view**2 :].unflatten(1, (fine, fine + 1))[:, :, :fine]
        return joined(tiles, values[:, : view**2].unflatten(1, (view, view)))

    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [M, C, S, S] to [M, 1 + rows, columns, 3, tile, tile].

        First comes a row that holds the view in its first place and is empty else, then the rows of tiles.
        """
        rows, columns = self._canvas(pixels.shape[-1])
        side, tile = min(rows, columns) * self._tile, self._tile
        high, wide = rows * tile - side, columns * tile - side
        canvas = F.pad(resized(pixels, side), (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        view = F.pad(resized(pixels, tile), (0, (columns - 1) * tile))
        tiles = torch.cat([view, canvas], dim=2).unflatten(3, (columns, tile)).unflatten(2, (rows + 1, tile))
        return self.normalised(tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)).unflatten(0, (-1, rows + 1, columns))

    def image_embeddings(self, prepared: Tensor) -> Tensor:
        """Tokens of the view, then of the tiles' rows, each row of the image with its newline: [M, P, d]."""
        rows, columns, grid = prepared.shape[1] - 1, prepared.shape[2], self.tile_grid
        views = torch.cat([prepared[:, 0, :1], prepared[:, 1:].flatten(1, 2)], dim=1)
        tokens = self.projected(views.flatten(0, 1)).unflatten(1, (grid, grid)).unflatten(0, views.shape[:2])
        tiles = tokens[:, 1:].unflatten(1, (rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        side = min(rows, columns) * grid
        top, left = (rows * grid - side) // 2, (columns * grid - side) // 2
        fine = self.fine(tiles[:, top : top + side, left : left + side])
        newline = self.core.model.image_newline.to(fine.dtype).expand(*fine.shape[:2], 1, -1)
        lines = torch.cat([fine, newline], dim=2).flatten(1, 2)
        return torch.cat([self.pooled(tokens[:, 0]).flatten(1, 2), lines], dim=1)

    def fine(self, tiles: Tensor) -> Tensor:
        """Patches of the tiles that the image covers, [M, n, n, d], to tokens in place of them, [M, g, g, d]."""
        return self.pooled(tiles)


def joined(tiles: Tensor, view: Tensor) -> Tensor:
    """Mean of the tiles' map [M, n, n] and that of the whole view [M, g, g], resized."""
    return (tiles + F.interpolate(view[:, None], tiles.shape[1:], mode="bilinear", align_corners=False)[:, 0]) / 2


def resized(pixels: Tensor, side: int) -> Tensor:
    """uint8 [M, C, S, S] to [M, C, side, side] as Pillow's bicubic filter does: columns first, each pass rounded."""
    for size in ((pixels.shape[-2], side), (side, side)):
        if size != pixels.shape[-2:]:
            new = F.interpolate(pixels.float(), size, mode="bicubic", antialias=True)
            pixels = (new + 0.5).floor().clamp(0, 255).to(torch.uint8)  # halves go up, as in Pillow
    return pixels
