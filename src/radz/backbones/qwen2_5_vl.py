"""Qwen2.5-VL folders (`Qwen2_5_VLForConditionalGeneration`): window attention tower, merger, three-axis positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import InputError
from radz.backbones.base import Backbone


class Qwen25VlBackbone(Backbone):
    """See `Backbone`. Images of any side that the merged patches divide; tokens are merged patches."""

    architecture = "Qwen2_5_VLForConditionalGeneration"
    tower_path = "model.visual"
    projector_paths: ClassVar[tuple[str, ...]] = ("model.visual.merger",)

    def read_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        vision, size = self.model.config.vision_config, settings.get("size") or {}
        self._patch, self._merge = vision.patch_size, vision.spatial_merge_size
        self._frames = vision.temporal_patch_size
        low = settings.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels") or 1
        high = settings.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels") or low
        self._pixels = (int(low), int(high))
        for key, value in (("patch_size", self._patch), ("merge_size", self._merge)):
            if settings.get(key, value) != value:
                raise InputError(
                    f"backbone.path: {folder}: the image processor's {key} is {settings[key]}, the tower's {value}; "
                    "processor and weights are of different models"
                )

    @property
    def spelled_image(self) -> str:
        config = self.model.config
        begin, end = self.tokenizer.convert_ids_to_tokens([config.vision_start_token_id, config.vision_end_token_id])
        return f"{begin}{self.mark}{end}"

    def idle_tower_parts(self) -> list[nn.Module]:
        """The patch projection, as in LLaVA."""
        return [self.tower.patch_embed]

    def check_side(self, side: int) -> None:
        """Sides that the image processor leaves as they are."""
        unit, (low, high) = self._patch * self._merge, self._pixels
        if side % unit or not low <= side**2 <= high:
            raise InputError(
                f"data.image_size: {side} conflicts with the backbone, whose image processor would resize it; give a "
                f"multiple of {unit} from {-(-int(low**0.5) // unit) * unit} to {int(high**0.5) // unit * unit}"
            )

    def grid(self, side: int) -> int:
        """Merged patches along a side."""
        return side // (self._patch * self._merge)

    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [M, C, S, S] to flat patches [M, N, 3 * frames * patch * patch], those of a merged one together."""
        self.check_side(pixels.shape[-1])
        images = self.normalised(pixels).unflatten(3, (-1, self._merge, self._patch))
        images = images.unflatten(2, (-1, self._merge, self._patch))
        patches = images.permute(0, 2, 5, 3, 6, 1, 4, 7)  # M, rows, columns, merge, merge, C, patch, patch
        patches = patches.flatten(1, 4)[:, :, :, None].expand(-1, -1, -1, self._frames, -1, -1)
        return patches.flatten(2)

    def image_embeddings(self, prepared: Tensor) -> Tensor:
        """[M, N, ...] to [M, P, d]. No `tower_graph`: the merger, which may train, is a part of the tower's pass.

        A frozen tower keeps no graph all the same, since nothing in it asks for gradients.
        """
        count, patches = prepared.shape[:2]
        side = round(patches**0.5)
        shape = torch.tensor([[1, side, side]] * count, device=prepared.device)
        merged = self.merged(prepared.flatten(0, 1), shape)
        return self.pooled(merged.view(count, side // self._merge, side // self._merge, -1)).flatten(1, 2)

    def merged(self, patches: Tensor, shape: Tensor) -> Tensor:
        """Flat patches of images of `shape` (int64 [M, 3]: frames, rows, columns) to merged ones [n, d]."""
        merged: Tensor = self.tower(patches, grid_thw=shape).pooler_output
        return merged

    def run_decoder(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None, arguments: dict[str, Any]) -> Any:
        """See `Backbone`; with images the positions have three axes."""
        if patches is not None:
            arguments = {**arguments, "position_ids": image_positions(mask, patches)[..., -embeddings.shape[1] :]}
        return super().run_decoder(embeddings, mask, patches, arguments)


def image_positions(mask: Tensor, patches: Tensor) -> Tensor:
    """Positions int64 [3, B, T] (time, row, column) of sequences with square images of one size.

    Text counts on by one; a token of an image has the image's start plus its row and column, and what follows starts
    after the image's longest side (M-RoPE: Wang et al. 2024, arXiv 2409.12191).

    Args:
        mask: bool [B, T], true at real tokens.
        patches: bool [B, T], true at image tokens; text stands between two images.
    """
    images = patches & mask
    begins = images & ~F.pad(images, (1, 0))[:, :-1]
    each = images.sum() // begins.sum()
    side = each.double().sqrt().round().long()
    place = (images.long().cumsum(1) - 1) % each
    ends = images & (place == each - 1)
    step = (mask & ~images).long() + ends * side
    start = step.cumsum(1) - step
    row, column = (torch.where(images, axis, 0) for axis in (place // side, place % side))
    return torch.stack([start, start + row, start + column]) * mask
