"""Tiny decoders and towers in the format of Hugging Face, to be assembled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from radz.backbones.tiny_tokenizer import byte_level

SIDE, PATCH, WIDTH = 56, 14, 32
TEXT = "There is a small left pleural effusion. No pneumothorax."
DECODER: dict[str, Any] = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "vocab_size": 515,
}  # fmt: skip
"""a table of more rows than the tokenizer has tokens, and of no multiple of 64"""
DECODERS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 8},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {},
    "Gemma": {},
    "Gemma3": {"sliding_window": 8, "query_pre_attn_scalar": 8},
}
VISION = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48, "image_size": SIDE,
    "patch_size": PATCH,
}  # fmt: skip
TOWERS = {"Dinov2": 0, "Dinov2WithRegisters": 4, "DINOv3ViT": 4, "SiglipVision": 0, "CLIPVision": 0, "ViT": 0}
"""and their register tokens, which LLaVA hands on as image tokens"""


def text_tokenizer() -> Any:
    named = {"bos": "<s>", "eos": "</s>"}
    return byte_level([TEXT] * 50, 400, named, single="<s> $A")


def write_decoder(folder: Path, name: str) -> Path:
    kind = "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config"
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(
        getattr(transformers, kind)(**{**DECODER, **DECODERS[name]}, bos_token_id=0, eos_token_id=1, pad_token_id=None)
    )
    model.save_pretrained(folder)
    text_tokenizer().save_pretrained(folder)
    return folder


def write_tower(folder: Path, name: str, **changed: Any) -> Path:
    torch.manual_seed(1)
    more = {"num_register_tokens": TOWERS[name]} if TOWERS[name] else {}
    config = getattr(transformers, f"{name}Config")(**{**VISION, **more, **changed})
    getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=[0.4, 0.5, 0.6]
    ).save_pretrained(folder)
    return folder
