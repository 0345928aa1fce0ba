"""A CLIP or SigLIP folder as an encoder of images and texts, and a small random CLIP written as such a folder.

Shapes: M images, N texts, e dimension in which they are compared.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.errors import InputError
from radz.backbones.folder import check_folder, image_settings, load_model, reading
from radz.backbones.hub import resolve
from radz.backbones.tiny import PIXELS, cached_folder
from radz.config.clip import TinyClipConfig
from radz.config.schema import BackboneConfig
from radz.methods.dual_encoder import TwoTowers
from radz.models.losses import at_least_fp32

POOLED = 8.0
START = 2
"""raised when the first weights of the tiny CLIP change, so that no older folder of a cache is taken"""
KINDS = {"clip": "CLIPModel", "siglip": "SiglipModel"}
"""`model_type` of config.json -> class in transformers"""


class ClipEncoder(TwoTowers):
    """Both towers of a folder, in float32.

    Raises:
        InputError: not a complete CLIP or SigLIP folder.
    """

    image_parts = ("vision_model", "visual_projection")

    def __init__(self, folder: Path) -> None:
        with _named_clip():
            config = BackboneConfig(path=str(folder), dtype="float32")
            kind = check_folder(config, folder).get("model_type")
            if kind not in KINDS:
                raise InputError(
                    f"clip.path: {folder}: model type {kind} in config.json is not one of {', '.join(KINDS)}"
                )
            model: Any = load_model(KINDS[str(kind)], config, folder)
            settings = image_settings(folder)
            with reading(folder, "tokenizer"):
                from transformers import AutoTokenizer

                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        words, image = model.config.text_config, model.config.vision_config
        width = getattr(model.config, "projection_dim", 0) or words.hidden_size
        factor = settings.get("rescale_factor", 1 / 255)
        super().__init__(
            model, image.image_size, words.max_position_embeddings, width, settings["image_mean"],
            settings["image_std"], factor,
        )  # fmt: skip
        self.tokenizer: Any = tokenizer
        # SigLIP pools the last of 64 positions, whatever stands there: it was trained on texts padded to full length.
        self._padding: Any = "max_length" if kind == "siglip" else True
        self._masked = kind == "clip"

    def images(self, pixels: Tensor) -> Tensor:
        return at_least_fp32(self.model.get_image_features(pixel_values=self.values(pixels)).pooler_output)

    def texts(self, texts: list[str]) -> Tensor:
        device = self._scale.device
        self.tell_cut(lambda: any(len(row) > self.context for row in self.tokenizer(texts, verbose=False).input_ids))
        found = self.tokenizer(
            texts, padding=self._padding, truncation=True, max_length=self.context, return_tensors="pt"
        )
        arguments = {"input_ids": found.input_ids.to(device)}
        if self._masked:
            arguments["attention_mask"] = found.attention_mask.to(device)
        return at_least_fp32(self.model.get_text_features(**arguments).pooler_output)


@contextmanager
def _named_clip() -> Iterator[None]:
    """Faults of the folder name the key that stands in the experiment here."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace("backbone.path", "clip.path", 1)) from None


def clip_folder(path: str) -> Path:
    """The folder of `clip.path`: a local folder, or the snapshot of a hub id."""
    with _named_clip():
        return resolve(path)


def tiny_clip(config: TinyClipConfig, image_size: int, texts: Iterable[str], cache_dir: Path) -> Path:
    """Folder of a random CLIP, its tokenizer learned from `texts`; written once per cache.

    Its image tower starts with the wavelets of the tiny LLaVA's (`tiny_start`), so that the two are compared on equal
    terms.
    """
    corpus = list(texts)
    key = json.dumps([dataclasses.asdict(config), image_size, START], sort_keys=True) + "\n".join(corpus)
    return cached_folder("clip", key, lambda draft: write_tiny_clip(draft, config, image_size, corpus), cache_dir)


def write_tiny_clip(folder: Path, config: TinyClipConfig, image_size: int, texts: Iterable[str]) -> None:
    """Write model, tokenizer and image processor of a random CLIP into `folder`."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from radz.backbones.tiny_start import structured_tower

    tokenizer = _tokenizer(config, texts)
    shared = {"num_attention_heads": config.heads, "attention_dropout": 0.0, "projection_dim": config.projection}
    vision = {
        "hidden_size": config.vision_width, "intermediate_size": 3 * config.vision_width, "image_size": image_size,
        "num_hidden_layers": config.vision_layers, "patch_size": config.patch_size, **shared,
    }  # fmt: skip
    text = {
        "hidden_size": config.width, "intermediate_size": 4 * config.width, "num_hidden_layers": config.layers,
        "vocab_size": len(tokenizer), "max_position_embeddings": config.context,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, **shared,
    }  # fmt: skip
    state = torch.random.get_rng_state()
    torch.manual_seed(config.seed or 0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.projection))
    structured_tower(model.vision_model, image_size, config.patch_size, config.vision_width)
    nn.init.normal_(model.vision_model.embeddings.class_embedding)
    nn.init.normal_(model.text_model.embeddings.token_embedding.weight)
    for tower in (model.vision_model, model.text_model):
        _pooling_start(tower)
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": image_size, "width": image_size}
    CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=size, **PIXELS).save_pretrained(folder)


@torch.no_grad()
def _pooling_start(tower: Any) -> None:
    """Let the token that is read leave the last layer as the mean of all that it sees, times `POOLED`.

    What it holds by itself is the same for every image or text: where that outweighs the rest, features hardly differ
    at the start, and a step of the optimiser drives them all together before they can be told apart.
    """
    attention = tower.encoder.layers[-1].self_attn
    nn.init.zeros_(attention.q_proj.weight)
    for part, size in ((attention.v_proj, 1.0), (attention.out_proj, POOLED)):
        part.weight.copy_(size * torch.eye(len(part.weight)))
    for part in (attention.q_proj, attention.v_proj, attention.out_proj):
        nn.init.zeros_(part.bias)


def _tokenizer(config: TinyClipConfig, texts: Iterable[str]) -> Any:
    """Byte-level BPE that begins and ends each text, as CLIP's does."""
    from radz.backbones.tiny_tokenizer import byte_level

    named = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>"}
    return byte_level(texts, config.vocabulary, named, single="<s> $A </s>", model_max_length=config.context)
