"""SmolVLM and Idefics3 folders (`SmolVLMForConditionalGeneration`, `Idefics3ForConditionalGeneration`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from data_modules.errors import InputError
from radz.backbones.base import Backbone


class SmolVlmBackbone(Backbone):
    """See `Backbone`. An image is one square of the tower's size, as the family's processor leaves it with
    `size={"longest_edge": side}`; in its default it would first be enlarged fourfold and cut into tiles.
    """

    architecture = "SmolVLMForConditionalGeneration"
    tower_path = "model.vision_model"
    decoder_path = "model.text_model"
    projector_paths = ("model.connector",)

    def read_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        config = self.model.config
        side = self.image_size = config.vision_config.image_size
        # The connector makes a token of a square of patches.
        token = config.vision_config.patch_size * config.scale_factor
        self._grid, self._covered = side // token, side // token * token
        self.processor_changes = {"size": {"longest_edge": side}}
        most = (settings.get("max_image_size") or {}).get("longest_edge")
        if most != side:
            raise InputError(
                f"backbone.path: {folder}: the image processor's max_image_size is {most}, the tower's images have "
                f"{side} pixels; processor and weights are of different models"
            )
        names = {"fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>"}
        self._around, self._whole = (getattr(self.tokenizer, name, token) for name, token in names.items())
        lacks = {self._around, self._whole} - set(self.tokenizer.get_vocab())
        if lacks:
            raise InputError(
                f"backbone.path: {folder}: the tokenizer lacks {' and '.join(sorted(lacks))}, the tokens around an "
                "image; tokenizer and weights are of different models"
            )

    def covered(self, side: int) -> float:
        """See `Backbone`."""
        return self._covered

    def idle_tower_parts(self) -> list[nn.Module]:
        """The patch projection, as in LLaVA."""
        return [self.tower.embeddings.patch_embedding]

    @property
    def spelled_image(self) -> str:
        return self.mark

    @property
    def shown_image(self) -> str:
        return f"{self._around}{self._whole}{self.mark}{self._around}"


class Idefics3Backbone(SmolVlmBackbone):
    """The architecture that SmolVLM grew from, and that its first folders name."""

    architecture = "Idefics3ForConditionalGeneration"
