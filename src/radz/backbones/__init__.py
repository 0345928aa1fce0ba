"""Backbone families: one file each, chosen by the architecture named in the folder's config.json."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from data_modules.errors import InputError
from radz.backbones.base import Backbone
from radz.backbones.folder import check_folder
from radz.config.schema import BackboneConfig

FAMILIES = {
    "LlavaForConditionalGeneration": ("llava", "LlavaBackbone"),
    "LlavaNextForConditionalGeneration": ("llava_next", "LlavaNextBackbone"),
    "Qwen2_5_VLForConditionalGeneration": ("qwen2_5_vl", "Qwen25VlBackbone"),
    "Gemma3ForConditionalGeneration": ("gemma3", "Gemma3Backbone"),
    "Qwen3VLForConditionalGeneration": ("qwen3_vl", "Qwen3VlBackbone"),
    "LlavaOnevisionForConditionalGeneration": ("llava_onevision", "LlavaOnevisionBackbone"),
    "InternVLForConditionalGeneration": ("internvl", "InternVlBackbone"),
    "SmolVLMForConditionalGeneration": ("smolvlm", "SmolVlmBackbone"),
    "Idefics3ForConditionalGeneration": ("smolvlm", "Idefics3Backbone"),
}
"""file and class here of each `architectures` entry of a config.json"""


def load_backbone(config: BackboneConfig, folder: Path, image_tokens: int, text_tokens: int, seed: int = 0) -> Backbone:
    """Load a Hugging Face folder as a Backbone: modality tokens added, truncated, adapted and frozen as configured.

    `seed`: of the rows of new modality tokens; what else is new, such as LoRA, draws from torch's global generator.

    Raises:
        InputError: missing files, unknown architecture, a feature layer beyond the decoder.
    """
    file, name = family_of(config, folder)
    family: type[Backbone] = getattr(import_module(f"radz.backbones.{file}"), name)
    return family(config, folder, image_tokens, text_tokens, seed)


def family_of(config: BackboneConfig, folder: Path) -> tuple[str, str]:
    """File and class here of a Hugging Face folder.

    Raises:
        InputError: missing files, unknown architecture, or another family than `backbone.family` asks for.
    """
    settings = check_folder(config, folder)
    named = settings.get("architectures") or ["none"]
    architecture = named[0] if isinstance(named, list) else named
    if architecture not in FAMILIES:
        raise InputError(
            f"backbone.path: {folder}: architecture {architecture} is not supported; known: {', '.join(FAMILIES)}"
        )
    file, name = FAMILIES[architecture]
    if config.family not in ("", file):
        raise InputError(
            f"backbone.family: the recipe is for {config.family}, but {folder} is of the family {file}; choose its "
            "recipe or another folder"
        )
    return file, name


__all__ = ["FAMILIES", "Backbone", "family_of", "load_backbone"]
