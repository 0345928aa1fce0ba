"""Backbone families: one file each, chosen by the architecture named in the folder's config.json."""

from __future__ import annotations

from pathlib import Path

from data_modules.errors import InputError
from radz.backbones.base import Backbone, check_folder
from radz.config import BackboneConfig


def load_backbone(config: BackboneConfig, folder: Path, image_tokens: int, text_tokens: int) -> Backbone:
    """Load a Hugging Face folder as a Backbone: modality tokens added, truncated, adapted and frozen as configured.

    Raises:
        InputError: missing files, unknown architecture, a feature layer beyond the decoder.
    """
    settings = check_folder(config, folder)
    named = settings.get("architectures") or ["none"]
    architecture = named[0] if isinstance(named, list) else named
    if architecture == "LlavaForConditionalGeneration":
        from radz.backbones.llava import LlavaBackbone

        return LlavaBackbone(config, folder, image_tokens, text_tokens)
    raise InputError(
        f"backbone.path: {folder}: architecture {architecture} is not supported; known: LlavaForConditionalGeneration"
    )


__all__ = ["Backbone", "load_backbone"]
