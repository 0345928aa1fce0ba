"""A random backbone small enough for a laptop, written as an ordinary Hugging Face folder.

Nothing below the writing knows that it is small: the folder is loaded by the same code as one of 7 billion weights.
The weights of the LLaVA families are random but structured where that is known to help small transformers trained from
scratch (`tiny_start.py`); the other families show that every step runs, and promise no accuracy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_modules.files import new_folder
from data_modules.lock import locked
from radz.backbones.tiny_start import decoder_layer, structured_start
from radz.backbones.tiny_tokenizer import FAMILIES, tiny_tokenizer
from radz.config.schema import TinyConfig

PIXELS: dict[str, Any] = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}


def tiny_folder(config: TinyConfig, texts: Iterable[str], cache_dir: Path) -> Path:
    """Folder of the tiny backbone for `config` and tokenizer training `texts`; written once per cache."""
    corpus = list(texts)
    shape = dataclasses.asdict(config)
    if config.family == TinyConfig.family:
        del shape["family"]  # so that folders written before there were families are found again
    key = json.dumps(shape, sort_keys=True) + "\n".join(corpus)
    return cached_folder("tiny", key, lambda draft: write_tiny(draft, config, corpus), cache_dir)


def cached_folder(kind: str, key: str, write: Callable[[Path], None], cache_dir: Path) -> Path:
    """cache_dir/backbones/<kind>-<digest of key>, filled by `write` when it is missing."""
    folder = cache_dir / "backbones" / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        with locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                with new_folder(folder, "cache_dir") as draft:
                    write(draft)
    return folder


def write_tiny(folder: Path, config: TinyConfig, texts: Iterable[str]) -> None:
    """Write model, tokenizer and image processor of a random backbone into `folder`."""
    tokenizer = tiny_tokenizer(config, texts)
    state = torch.random.get_rng_state()
    torch.manual_seed(config.seed or 0)
    model = BUILDERS[config.family](config, tokenizer)  # with random weights, by torch's global generator
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor(config).save_pretrained(folder)


def image_processor(config: TinyConfig) -> Any:
    """The image processor of the family, which leaves images of `image_size` at their size."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    side, tile = config.image_size, config.image_size // 2
    square = {"height": tile, "width": tile}
    if config.family == "llava_next":
        return LlavaNextImageProcessorPil(
            size={"shortest_edge": tile}, crop_size=square, image_grid_pinpoints=_resolutions(tile), **PIXELS
        )
    if config.family == "llava_onevision":
        return LlavaOnevisionImageProcessorPil(size=square, image_grid_pinpoints=_resolutions(tile), **PIXELS)
    if config.family == "internvl":
        return GotOcr2ImageProcessorPil(size=square, **PIXELS)
    if config.family in ("qwen2_5_vl", "qwen3_vl"):
        size = {"shortest_edge": 1, "longest_edge": 64 * side**2}
        return Qwen2VLImageProcessorPil(size=size, patch_size=config.patch_size, **PIXELS)
    if config.family == "smolvlm":
        longest = {"longest_edge": side}
        return SmolVLMImageProcessorPil(size={"longest_edge": 2 * side}, max_image_size=longest, **PIXELS)
    if config.family == "gemma3":
        return Gemma3ImageProcessorPil(size={"height": side, "width": side}, **PIXELS)
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **PIXELS)


def _text(config: TinyConfig, tokenizer: Any) -> dict[str, Any]:
    """What the decoders of all families share."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": config.width,
        "intermediate_size": 2 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "head_dim": config.width // config.heads,
        "max_position_embeddings": config.context,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vision(config: TinyConfig) -> dict[str, Any]:
    """What the CLIP and SigLIP towers share."""
    return {
        "hidden_size": config.vision_width,
        "intermediate_size": 3 * config.vision_width,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
    }


def _llava_settings(config: TinyConfig, tokenizer: Any) -> dict[str, Any]:
    from transformers import CLIPVisionConfig, MistralConfig

    return {
        "vision_config": CLIPVisionConfig(projection_dim=config.vision_width, attention_dropout=0.0, **_vision(config)),
        "text_config": MistralConfig(sliding_window=None, **_text(config, tokenizer)),
        "image_token_index": _ids(config, tokenizer)[0],
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "image_seq_length": (config.image_size // config.patch_size) ** 2,
    }


def _ids(config: TinyConfig, tokenizer: Any) -> list[int]:
    """Ids of the family's further special tokens, the image token first."""
    ids: list[int] = tokenizer.convert_tokens_to_ids(FAMILIES[config.family][2])
    return ids


def _model(kind: str, **settings: Any) -> Any:
    """A model of transformers, whose classes are called `kind` with what it is behind it."""
    import transformers

    return getattr(transformers, f"{kind}ForConditionalGeneration")(getattr(transformers, f"{kind}Config")(**settings))


def _llava(config: TinyConfig, tokenizer: Any) -> Any:
    model = _model("Llava", **_llava_settings(config, tokenizer))
    structured_start(model, config)
    return model


def _resolutions(tile: int) -> list[list[int]]:
    """The layouts of LLaVA-NeXT, in pixels."""
    return [[tile, 2 * tile], [2 * tile, tile], [2 * tile, 2 * tile], [3 * tile, tile], [tile, 3 * tile]]


def _llava_next(config: TinyConfig, tokenizer: Any) -> Any:
    tile = dataclasses.replace(config, image_size=config.image_size // 2)
    resolutions = _resolutions(tile.image_size)
    model = _model("LlavaNext", image_grid_pinpoints=resolutions, **_llava_settings(tile, tokenizer))
    structured_start(model, tile)
    return model


def _qwen_settings(config: TinyConfig, tokenizer: Any, vision: dict[str, Any]) -> dict[str, Any]:
    """What the Qwen families share; `vision`: what they do not."""
    image, video, begin, end, _ = _ids(config, tokenizer)
    half = config.width // config.heads // 2
    sections = [half // 4, (half - half // 4) // 2]
    tower = {
        "depth": config.vision_layers,
        "hidden_size": config.vision_width,
        "intermediate_size": 3 * config.vision_width,
        "num_heads": config.heads,
        "patch_size": config.patch_size,
        "out_hidden_size": config.width,
    }
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [*sections, half - sum(sections)]}
    return {
        "vision_config": {**tower, **vision},
        "text_config": {**_text(config, tokenizer), "rope_parameters": rope},
        "image_token_id": image,
        "video_token_id": video,
        "vision_start_token_id": begin,
        "vision_end_token_id": end,
    }


def _qwen2_5_vl(config: TinyConfig, tokenizer: Any) -> Any:
    # Windows of 2 x 2 merged patches; the last layer sees the whole image.
    vision = {"window_size": 4 * config.patch_size, "fullatt_block_indexes": [config.vision_layers - 1]}
    return _scaled(_model("Qwen2_5_VL", **_qwen_settings(config, tokenizer, vision)), config)


def _qwen3_vl(config: TinyConfig, tokenizer: Any) -> Any:
    vision = {
        "num_position_embeddings": (config.image_size // config.patch_size) ** 2,
        "deepstack_visual_indexes": list(range(config.vision_layers - 1))[:3],
    }
    return _scaled(_model("Qwen3VL", **_qwen_settings(config, tokenizer, vision)), config)


def _llava_onevision(config: TinyConfig, tokenizer: Any) -> Any:
    image, video, _ = _ids(config, tokenizer)
    tile = dataclasses.replace(config, image_size=config.image_size // 2)
    model = _model(
        "LlavaOnevision",
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **_vision(tile)},
        text_config={"model_type": "qwen2", **_text(config, tokenizer)},
        image_token_index=image,
        video_token_index=video,
        image_grid_pinpoints=_resolutions(tile.image_size),
        vision_aspect_ratio="anyres_max_1",  # released: 9, which 2 x 2 tiles do not reach
    )
    return _scaled(model, config)


def _internvl(config: TinyConfig, tokenizer: Any) -> Any:
    # 2 x 2 patches are a token, which then covers `patch_size` pixels.
    tile = dataclasses.replace(config, image_size=config.image_size // 2, patch_size=config.patch_size // 2)
    model = _model(
        "InternVL",
        vision_config=_vision(tile),
        text_config={"model_type": "qwen3", **_text(config, tokenizer)},
        image_token_id=_ids(config, tokenizer)[0],
        image_seq_length=(config.image_size // config.patch_size // 2) ** 2,
        tie_word_embeddings=False,
    )
    return _scaled(model, config)


def _gemma3(config: TinyConfig, tokenizer: Any) -> Any:
    image, begin, end, *_ = _ids(config, tokenizer)
    vision = {"model_type": "siglip_vision_model", "vision_use_head": False, **_vision(config)}
    text = {"query_pre_attn_scalar": config.width // config.heads, "sliding_window": config.context // 4}
    model = _model(
        "Gemma3",
        vision_config=vision,
        text_config={**_text(config, tokenizer), **text},
        mm_tokens_per_image=(config.image_size // config.patch_size // 2) ** 2,
        image_token_index=image,
        boi_token_index=begin,
        eoi_token_index=end,
    )
    model = _scaled(model, config)
    nn.init.normal_(
        model.model.multi_modal_projector.mm_input_projection_weight, std=1 / math.sqrt(config.vision_width)
    )
    return model


def _smolvlm(config: TinyConfig, tokenizer: Any) -> Any:
    model = _model(
        "SmolVLM",
        vision_config=_vision(config),
        text_config={"model_type": "llama", **_text(config, tokenizer)},
        image_token_id=_ids(config, tokenizer)[0],
    )
    return _scaled(model, config)


@torch.no_grad()
def _scaled(model: Any, config: TinyConfig) -> Any:
    """Weights of the size that thin networks need: those of released models are made for width 4096."""
    decoder = model.get_decoder()
    own = set(decoder.parameters())
    for weight in model.model.parameters():
        if weight.dim() > 1 and weight not in own:
            nn.init.normal_(weight, std=1 / math.sqrt(weight[0].numel()))
    for layer in decoder.layers:
        decoder_layer(layer, config.layers)
    return model


BUILDERS: dict[str, Callable[[TinyConfig, Any], Any]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "qwen2_5_vl": _qwen2_5_vl,
    "gemma3": _gemma3,
    "qwen3_vl": _qwen3_vl,
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
}
