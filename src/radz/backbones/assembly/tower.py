"""The vision tower of an assembled backbone: a Hugging Face folder, a hub id, that of a LLaVA folder, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.errors import InputError
from data_modules.listing import listed
from radz.backbones.folder import image_settings, read_json, reading
from radz.backbones.hub import resolve
from radz.backbones.tiny import PIXELS
from radz.backbones.tiny_start import structured_tower
from radz.backbones.vision_tower import side_in_patches

NEW = "new"


@dataclass
class TowerShape:
    """Shape of a fresh CLIP tower (tower=new), in pixels and channels."""

    image_size: int = 112
    patch_size: int = 16
    width: int = 256
    layers: int = 6
    heads: int = 4

    def check(self) -> None:
        """InputError where the numbers do not fit each other."""
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"{name}={value}: must be 1 or more")
        if self.image_size % self.patch_size:
            raise InputError(f"image_size={self.image_size}: is not a multiple of patch_size={self.patch_size}")
        if self.width % (8 * self.heads):
            raise InputError(f"width={self.width}: must be a multiple of 8 x heads={self.heads}")


def new_tower(shape: TowerShape) -> tuple[Any, dict[str, Any]]:
    """A fresh CLIP tower that starts as those of the tiny backbones do, and how its pixels are prepared.

    Uses torch's global generator.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    shape.check()
    config = CLIPVisionConfig(
        hidden_size=shape.width, intermediate_size=3 * shape.width, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, image_size=shape.image_size, patch_size=shape.patch_size,
        projection_dim=shape.width, attention_dropout=0.0,
    )  # fmt: skip
    tower: Any = CLIPVisionModel(config).eval()
    structured_tower(tower, shape.image_size, shape.patch_size, shape.width)
    return tower, dict(PIXELS)


def load_tower(source: str) -> tuple[Any, dict[str, Any]]:
    """The tower of a source as its folder has it, and its image processor's settings (`image_mean` and the like).

    Args:
        source: folder or hub id of a vision model, of a model of images and texts such as CLIP, or of a LLaVA model.

    Raises:
        InputError: nothing there, a tower without a square grid, unreadable or incomplete weights.
    """
    from transformers import AutoConfig

    folder = resolve(source, "tower")
    content = read_json(folder, "config.json")
    if not content.get("model_type"):
        raise InputError(f"tower: {source}: no Hugging Face folder or hub id; give one, or tower={NEW}")
    if not listed(folder, "*.safetensors"):
        raise InputError(f"tower: {source}: no safetensors weights; convert them first (pickles are not read)")
    settings = image_settings(folder, "tower")
    with reading(folder, "config", "tower"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    side_in_patches(getattr(config, "vision_config", config), f"tower: {source}")
    return _vision_model(source, folder, content).eval(), settings


def _vision_model(source: str, folder: Path, content: dict[str, Any]) -> Any:
    """The vision part of a folder, complete."""
    from transformers import AutoModel, CLIPVisionModel, LlavaForConditionalGeneration, SiglipVisionModel

    whole: Any = LlavaForConditionalGeneration
    loader = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel, "llava": whole}.get(
        content["model_type"], AutoModel
    )
    with reading(folder, "vision tower", "tower"):
        model, report = loader.from_pretrained(
            folder, dtype="auto", use_safetensors=True, output_loading_info=True, local_files_only=True,
            trust_remote_code=False, ignore_mismatched_sizes=True,
        )  # fmt: skip
    lost = sorted([*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])])
    lost = [name for name in lost if "pooler" not in name]  # some publish their ViT without what no feature comes from
    if lost:
        raise InputError(f"tower: {source}: {len(lost)} weights are missing or of another shape, such as {lost[0]}")
    return model.model.vision_tower if loader is whole else model
