"""From an original LLaVA checkpoint to a folder of `LlavaForConditionalGeneration`, with the proof beside it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from data_modules.errors import InputError, nearest
from data_modules.files import new_folder, write_json
from radz.backbones.original_llava.checkpoint import (
    TYPES,
    read_config,
    read_tensors,
    targets,
    tower_names,
    vision_config,
)
from radz.backbones.original_llava.shards import Planned, Tensors, write_shards
from radz.backbones.original_llava.tokenizer import DEFAULTS, IMAGE, SELECTED, TURNS, write_processors, write_tokenizer
from radz.backbones.weight_copy import check_copy, padded_rows, sha256

log = logging.getLogger(__name__)
EMBEDDING, HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"


def import_checkpoint(source: str, out: str, tower: str | None = None, conversation: str | None = None) -> Path:
    """Convert `source` into the new folder `out`, one tensor at a time, and prove that nothing was lost.

    Args:
        tower: folder of the CLIP tower; its weights are used where the checkpoint has none of its own.
        conversation: key of TURNS; default by the checkpoint's model type.

    Raises:
        InputError: not such a checkpoint, pickles, missing or damaged files, parts that do not fit.
    """
    folder, target = Path(source).expanduser(), Path(out).expanduser()
    clip = Path(tower).expanduser() if tower else None
    config = read_config(folder)
    version = conversation or DEFAULTS[config["model_type"]]
    if version not in TURNS:
        raise InputError(f"conversation={version}: unknown{nearest(version, TURNS)}; known: {', '.join(TURNS)}")
    tensors = read_tensors(folder)
    vision = vision_config(config, clip, folder)
    origins, computed, from_folder = _origins(tensors, folder, clip)
    rows = tensors.shape["model.embed_tokens.weight"][0]
    with new_folder(target, "out") as draft:
        llava = _config(config, vision)
        llava.save_pretrained(draft)
        tokenizer = write_tokenizer(folder, config, version, rows, draft)
        padded = padded_rows(rows, len(tokenizer))
        llava.text_config.vocab_size = padded
        llava.text_config.pad_token_id = tokenizer.pad_token_id
        llava.image_token_index = tokenizer.convert_tokens_to_ids(IMAGE)
        llava.save_pretrained(draft)
        write_processors(tokenizer, config, vision, clip, draft)
        places = [
            Planned(kept, name, new, padded - rows if new in (EMBEDDING, HEAD) else 0) for kept, name, new in origins
        ]
        files = write_shards(draft, places)
        proof = _proof(draft, places, files)
        # An incomplete copy of import.json is never seen: the whole folder appears at once.
        write_json(
            draft / "import.json",
            {
                "schema": 1,
                "source": {"folder": folder.name, "model_type": config["model_type"]},
                "tower": {"named": config["mm_vision_tower"], "weights": "folder" if from_folder else "checkpoint"},
                "conversation": version,
                "vocabulary": {"rows": rows, "rows_added": padded - rows, "tokens": len(tokenizer)},
                "counts": {"source": len(tensors.file), "written": len(places), "computed": len(computed)},
                "computed": sorted(computed),
                "tensors": proof,
            },
        )
    log.info(
        "%d tensors in their place and equal, %d rows added to a vocabulary of %d, %d buffers left to be computed; "
        "proof: %s", len(places), padded - rows, rows, len(computed), target / "import.json",
    )  # fmt: skip
    return target


def _origins(
    tensors: Tensors, folder: Path, clip: Path | None
) -> tuple[list[tuple[Tensors, str, str]], list[str], bool]:
    """(tensors, name, new name) of everything to be written, names left out, and whether `clip` gave the tower."""
    mapped, computed = targets(tensors.file, folder)
    moved = [(tensors, name, new) for name, new in mapped.items()]
    if any(new.startswith("vision_tower.") for new in mapped.values()):
        return moved, computed, False
    if clip is None:
        raise InputError(
            f"import: {folder}: holds no vision tower, since it uses the published one; give tower=FOLDER with the "
            "CLIP tower that config.json names"
        )
    of_tower = Tensors(clip, "tower")
    names = tower_names(of_tower.file)
    if not names:
        raise InputError(f"tower: {clip}: no safetensors weights of a CLIP vision tower; pickles are never opened")
    return moved + [(of_tower, name, new) for name, new in names.items()], computed, True


def _config(config: dict[str, Any], vision: dict[str, Any]) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, MistralConfig

    kind = TYPES[config["model_type"]]
    family: Any = {"llama": LlamaConfig, "mistral": MistralConfig}[kind]
    # What transformers does not know of the old config is LLaVA's own, and stands elsewhere in the new one.
    known = {*family().to_dict(), "rope_theta", "rope_scaling", "head_dim"} - {"model_type", "architectures"}
    text = family.from_dict({key: value for key, value in config.items() if key in known})
    tower: Any = CLIPVisionConfig.from_dict(vision)
    select = config.get("mm_vision_select_feature", "patch")
    if select not in SELECTED:
        raise InputError(f"import: mm_vision_select_feature {select} in config.json; known: {', '.join(SELECTED)}")
    kind_of_config: Any = LlavaConfig
    llava = kind_of_config(
        vision_config=tower,
        text_config=text,
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy=SELECTED[select],
        image_seq_length=(tower.image_size // tower.patch_size) ** 2 + (select == "cls_patch"),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
    )
    llava.architectures = ["LlavaForConditionalGeneration"]
    llava.dtype = config.get("torch_dtype") or config.get("dtype")
    return llava


def _proof(draft: Path, places: list[Planned], files: dict[str, str]) -> list[dict[str, Any]]:
    """Read back what was written and compare it with the source; let transformers look for what it lacks.

    Raises:
        InputError: the checkpoint does not fit the class: missing, unexpected or wrongly shaped tensors.
    """
    from transformers import LlavaForConditionalGeneration

    loader: Any = LlavaForConditionalGeneration
    # On the meta device shapes and names are checked, and no weight is read.
    _, report = loader.from_pretrained(
        draft, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True
    )
    for key, words in (
        ("missing_keys", "lacks"), ("unexpected_keys", "has unknown"), ("mismatched_keys", "has another shape of")
    ):  # fmt: skip
        names = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report[key])
        if names:
            raise InputError(
                f"import: the checkpoint {words} {names[0]} ({len(names)} such tensors); its config.json, weights and "
                "tower do not belong together"
            )
    written = Tensors(draft, "import")
    proof = []
    for place in places:
        before = place.tensors.read(place.name)
        digest, rows = sha256(before), len(before) if place.rows_added else None
        check_copy(place.new, written.read(place.new), digest, rows)
        entry: dict[str, Any] = {"source": place.name, "target": place.new, "file": files[place.new], "sha256": digest}
        proof.append({**entry, **({"rows_added": place.rows_added} if place.rows_added else {})})
    return proof
