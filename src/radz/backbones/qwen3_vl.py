"""Qwen3-VL folders (`Qwen3VLForConditionalGeneration`): as Qwen2.5-VL, with image features in the first layers too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from radz.backbones.qwen2_5_vl import Qwen25VlBackbone


class Qwen3VlBackbone(Qwen25VlBackbone):
    """See `Backbone`. What the tower's middle layers see is added behind each of the decoder's first layers
    (DeepStack: Meng et al. 2024, arXiv 2406.04334); it travels behind the image tokens' channels.
    """

    architecture = "Qwen3VLForConditionalGeneration"
    projector_paths = ("model.visual.merger", "model.visual.deepstack_merger_list")

    def idle_tower_parts(self) -> list[nn.Module]:
        """The patch projection, as in LLaVA, and the mergers of layers from which the features are not read."""
        return [self.tower.patch_embed, self.tower.deepstack_merger_list[self.layer - 1 :]]

    def merged(self, patches: Tensor, shape: Tensor) -> Tensor:
        """Merged patches [n, (1 + deep layers) d], the tower's end first."""
        seen = self.tower(patches, grid_thw=shape)
        return torch.cat([seen.pooler_output, *seen.deepstack_features], dim=-1)

    def run_decoder(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None, arguments: dict[str, Any]) -> Any:
        """See `Backbone`. Behind the last layer that is left nothing is added: `hidden_states` are without it."""
        first, *deep = embeddings.split(self.hidden_size, dim=-1)
        if deep:
            deep = [layer[patches] for layer in deep[: len(self.decoder.layers) - 1]]
            arguments = {**arguments, "visual_pos_masks": patches, "deepstack_visual_embeds": deep}
        return super().run_decoder(first, mask, patches, arguments)
