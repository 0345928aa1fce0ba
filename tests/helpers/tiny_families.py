"""Tiny folders of every family: their texts and shape, and what plain transformers makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from radz.backbones import FAMILIES, load_backbone
from radz.backbones.base import Backbone
from radz.config.backbone import TINY, BackboneConfig

TEXTS = [
    "There is a small left pleural effusion with a meniscus.",
    "The heart is enlarged. No pneumothorax is seen. Patchy opacity in the right lower zone, ill defined.",
    "Normal chest radiograph.",
    "Rounded opacity in the left mid zone, 20 mm, well defined, in keeping with a nodule.",
    "A pacemaker lies over the left chest wall. Findings of this chest X-ray",
]
NAMES = dict(zip(TINY, FAMILIES, strict=False))  # Idefics3 is the last one, and that of SmolVLM
"""architecture of every tiny family"""
FIRST = [name if place < 4 else pytest.param(name, marks=pytest.mark.slow) for place, name in enumerate(TINY)]
"""for tests of text alone, in which the later families differ from the first ones by nothing of ours"""
COUNTS = ("num_crops", "num_patches", "batch_num_images")
"""what processors return beside what the model takes"""
SHAPE = {"image_size": 64, "vision_width": 32, "width": 32, "vocabulary": 400, "context": 256}
PIXELS = torch.randint(0, 256, (8, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def load(folder: Path, **settings: Any) -> Backbone:
    """The backbone of a folder with these settings, two and three modality tokens."""
    return load_backbone(BackboneConfig(path=str(folder), **settings), folder, 2, 3)


def processor(name: str, folder: Path) -> Any:
    """The image processor of the family in the version without torchvision."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    kinds = {
        "llava": CLIPImageProcessorPil,
        "llava_next": LlavaNextImageProcessorPil,
        "qwen2_5_vl": Qwen2VLImageProcessorPil,
        "gemma3": Gemma3ImageProcessorPil,
        "qwen3_vl": Qwen2VLImageProcessorPil,
        "llava_onevision": LlavaOnevisionImageProcessorPil,
        "internvl": GotOcr2ImageProcessorPil,
        "smolvlm": SmolVLMImageProcessorPil,
    }
    # What the released files do not say: the processor around InternVL's does so, SmolVLM's is told by its user.
    told = {"internvl": {"crop_to_patches": True}, "smolvlm": {"size": {"longest_edge": 64}}}
    return kinds[name].from_pretrained(folder, **told.get(name, {}))


def inputs(name: str, folder: Path, pixels: Tensor) -> dict[str, Any]:
    """What that processor makes of images [n, 1, H, W]."""
    found = processor(name, folder)(images=[image.expand(3, -1, -1).numpy() for image in pixels], return_tensors="pt")
    return {key: value for key, value in found.items() if key not in COUNTS}


def token_types(name: str, images: Tensor) -> dict[str, Tensor]:
    """What plain models of the family take beside ids [B, T], of which `images` (bool) are image tokens."""
    keys = {"qwen2_5_vl": "mm_token_type_ids", "qwen3_vl": "mm_token_type_ids", "gemma3": "token_type_ids"}
    return {keys[name]: images.long()} if name in keys else {}


def plain(name: str, folder: Path, backbone: Any) -> Any:
    """The folder in plain transformers, full depth, with the rows and LoRA of `backbone` put in by hand."""
    model = getattr(transformers, NAMES[name]).from_pretrained(folder, dtype=torch.float32).eval()
    model.resize_token_embeddings(len(backbone.tokenizer), mean_resizing=False)
    ids = backbone.image_ids + backbone.text_ids
    state = dict(backbone.core.named_parameters())
    with torch.no_grad():
        rows = next(value for key, value in state.items() if "trainable_tokens_delta" in key)
        model.get_input_embeddings().weight[ids] = rows
        for key, value in state.items():
            if "lora_A" in key:
                up = state[key.replace("lora_A", "lora_B")]
                model.get_parameter(key.split(".lora_A")[0] + ".weight").add_(2 * up @ value)
    return model
