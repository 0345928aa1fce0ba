"""Gemma 3 and MedGemma folders (`Gemma3ForConditionalGeneration`): SigLIP tower, pooled two-way tokens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from data_modules.errors import InputError
from radz.backbones.base import Backbone


class Gemma3Backbone(Backbone):
    """See `Backbone`. The tokens of an image attend to each other in both directions.

    Pan and scan, which adds crops of long images, is not used: images are square here.
    """

    architecture = "Gemma3ForConditionalGeneration"

    def read_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        config = self.model.config
        self.image_size = config.vision_config.image_size
        self._grid = math.isqrt(config.mm_tokens_per_image)  # the projector averages over squares
        names = self.tokenizer.convert_ids_to_tokens([config.boi_token_id, config.eoi_token_id])
        if any(name is None or name == self.tokenizer.unk_token for name in names):
            raise InputError(
                f"backbone.path: {folder}: the tokenizer lacks the tokens around an image, ids {config.boi_token_id} "
                f"and {config.eoi_token_id} in config.json; tokenizer and weights are of different models"
            )
        self._begin, self._end = names

    def idle_tower_parts(self) -> list[nn.Module]:
        """The patch projection, as in LLaVA, and an attention pooling that nothing reads."""
        head = getattr(self.tower, "head", None)
        return [self.tower.embeddings.patch_embedding] + ([head] if head is not None else [])

    def run_decoder(self, embeddings: Tensor, mask: Tensor, patches: Tensor | None, arguments: dict[str, Any]) -> Any:
        """See `Backbone`; with images the model around the decoder builds the masks of both kinds of layers."""
        if patches is None or embeddings.shape[1] < patches.shape[1]:  # the image is in the cache already
            return super().run_decoder(embeddings, mask, patches, arguments)
        return self.core.model(inputs_embeds=embeddings, token_type_ids=patches.long(), **arguments)

    @property
    def mark(self) -> str:
        return self._begin

    @property
    def spelled_image(self) -> str:
        """See `Backbone`; the lines around an image are those of `shown_image`."""
        return self._begin

    @property
    def shown_image(self) -> str:
        """See `Backbone`. The template shows where an image begins; its tokens follow as the processor puts them."""
        return f"\n\n{self._begin}{self._image_text}{self._end}\n\n"
