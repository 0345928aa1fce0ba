"""What lies in an original LLaVA checkpoint, and what of it radz can take over.

Facts: haotian-liu/LLaVA (`llava/model/llava_arch.py`, `builder.py`), microsoft/LLaVA-Med, and the conversion script of
transformers (`models/llava/convert_llava_weights_to_hf.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_modules.errors import InputError
from data_modules.listing import listed
from radz.backbones.folder import read_json
from radz.backbones.original_llava.shards import Tensors

TYPES = {"llava_llama": "llama", "llava_mistral": "mistral"}
"""Their `model_type` -> that of the decoder in transformers."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TOWER = r"(?:vision_model\.)?((?:embeddings|encoder|pre_layrnorm|post_layernorm)\..+)"
RULES = (
    (r"lm_head\.weight", "language_model.lm_head.weight"),
    (r"model\.((?:embed_tokens|norm)\.weight|layers\.\d+\..+)", r"language_model.model.\1"),
    (r"model\.mm_projector\.0\.(weight|bias)", r"multi_modal_projector.linear_1.\1"),
    (r"model\.mm_projector\.2\.(weight|bias)", r"multi_modal_projector.linear_2.\1"),
    (rf"model\.vision_tower\.vision_tower\.{TOWER}", r"vision_tower.vision_model.\1"),
)
"""Names of the checkpoint -> names in the files of `LlavaForConditionalGeneration`, which every version reads."""
COMPUTED = re.compile(r".*\.rotary_emb\.inv_freq|.*\.embeddings\.position_ids")
"""Buffers that transformers computes from the config."""
CLIP_TOWERS = {
    name: {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": size, "patch_size": 14, "projection_dim": 768,
    }
    for name, size in (("openai/clip-vit-large-patch14-336", 336), ("openai/clip-vit-large-patch14", 224))
}  # fmt: skip
"""Shapes of the published towers, which a checkpoint only names."""


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of an original checkpoint.

    Raises:
        InputError: not such a checkpoint, or one with parts that `LlavaForConditionalGeneration` does not have.
    """
    if not folder.is_dir():
        raise InputError(f"import: {folder}: no such folder; give the folder of an original LLaVA checkpoint")
    config = read_json(folder, "config.json")
    if not config:
        raise InputError(f"import: {folder}: no config.json; give the folder of an original LLaVA checkpoint")
    kind = config.get("model_type")
    if kind not in TYPES:
        known = ", ".join(TYPES)
        hint = "; it is a Hugging Face folder already, use it as backbone.path" if kind == "llava" else ""
        raise InputError(f"import: {folder}: config.json has model_type {kind}; known: {known}{hint}")
    projector = config.get("mm_projector_type", "linear")
    if projector != "mlp2x_gelu":
        raise InputError(
            f"import: {folder}: mm_projector_type {projector} has no place in LlavaForConditionalGeneration, which "
            "has mlp2x_gelu (LLaVA 1.5 and LLaVA-Med 1.5)"
        )
    if config.get("image_aspect_ratio") == "anyres" or config.get("mm_patch_merge_type", "flat") != "flat":
        raise InputError(
            f"import: {folder}: tiles of several sizes (anyres) mark LLaVA 1.6, which needs "
            "LlavaNextForConditionalGeneration; take its Hugging Face folder as backbone.path"
        )
    if "mm_vision_tower" not in config:
        raise InputError(f"import: {folder}: config.json names no mm_vision_tower; the checkpoint sees no images")
    return config


def read_tensors(folder: Path) -> Tensors:
    """Headers of the checkpoint's weights.

    Raises:
        InputError: pickles, a missing or damaged shard, no language model.
    """
    pickles = sorted(path.name for pattern in PICKLES for path in listed(folder, pattern))
    if pickles and not listed(folder, "*.safetensors"):
        raise InputError(
            f"import: {folder}: the weights are pickles ({pickles[0]}), which radz never opens, since a pickle can run "
            "code; where you trust them, load them with LLaVA's own code, then model.save_pretrained(FOLDER, "
            "safe_serialization=True), and import FOLDER"
        )
    tensors = Tensors(folder, "import")
    if "model.embed_tokens.weight" not in tensors.file:
        raise InputError(
            f"import: {folder}: holds no language model (no model.embed_tokens.weight); adapters and projectors must "
            "be merged into their base first"
        )
    return tensors


def targets(names: Iterable[str], folder: Path) -> tuple[dict[str, str], list[str]]:
    """The place of each tensor in the new folder, and the names of those that transformers computes.

    Raises:
        InputError: a tensor without a place.
    """
    new_names: dict[str, str] = {}
    computed = []
    for name in names:
        if COMPUTED.fullmatch(name):
            computed.append(name)
            continue
        new = next((re.sub(rule, place, name) for rule, place in RULES if re.fullmatch(rule, name)), None)
        if new is None:
            raise InputError(
                f"import: {folder}: {name} has no place in LlavaForConditionalGeneration; the checkpoint holds parts "
                "that LLaVA 1.5 and LLaVA-Med 1.5 do not have"
            )
        new_names[name] = new
    return new_names, computed


def tower_names(names: Iterable[str]) -> dict[str, str]:
    """Tensors of a CLIP folder (vision part only, or with its text part) -> their place in the new folder."""
    matches = {name: re.fullmatch(TOWER, name) for name in names if not COMPUTED.fullmatch(name)}
    return {name: f"vision_tower.vision_model.{match[1]}" for name, match in matches.items() if match}


def vision_config(config: dict[str, Any], tower: Path | None, folder: Path) -> dict[str, Any]:
    """The tower's config: of the folder `tower`, else of the published tower that the checkpoint names.

    Raises:
        InputError: neither is known.
    """
    if tower is None:
        named = config["mm_vision_tower"]
        if named in CLIP_TOWERS:
            return {"model_type": "clip_vision_model", **CLIP_TOWERS[named]}
        raise InputError(
            f"import: {folder}: config.json names the tower {named}, whose shape is not known here; give tower=FOLDER "
            "with its config.json and preprocessor_config.json"
        )
    if not tower.is_dir():
        raise InputError(f"tower: {tower}: no such folder; give the Hugging Face folder of the CLIP tower")
    config_of_tower = read_json(tower, "config.json")
    kind = config_of_tower.get("model_type")
    if kind == "clip":
        return {**config_of_tower.get("vision_config", {}), "model_type": "clip_vision_model"}
    if kind != "clip_vision_model":
        raise InputError(f"tower: {tower}: config.json has model_type {kind}; give a CLIP folder")
    return config_of_tower
