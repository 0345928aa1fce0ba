"""Join a language model and a vision tower into a LLaVA folder that transformers loads, with the proof beside it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.errors import InputError
from data_modules.files import new_folder, write_json
from radz.backbones.assembly.chat import IMAGE, with_images
from radz.backbones.assembly.decoder import add_tokens, load_decoder
from radz.backbones.assembly.tower import NEW, TowerShape, load_tower, new_tower
from radz.backbones.folder import choose_template
from radz.backbones.vision_tower import layer_indices, prefix_tokens, side_in_patches
from radz.backbones.weight_copy import check_copy, mean_rows, padded_rows, sha256

log = logging.getLogger(__name__)
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROOF = "assembly.json"


def assemble(
    decoder: str, tower: str, out: str, tower_layers: int | Sequence[int] = -2, dtype: str = "auto", seed: int = 0,
    shape: TowerShape | None = None,
) -> Path:  # fmt: skip
    """Write the new folder `out`: weights as they were, a fresh projector, tokenizer, chat template, image processor.

    Args:
        decoder, tower: see `load_decoder` and `load_tower`; tower `new` is a fresh one of this `shape`.
        tower_layers: hidden states that the projector reads; of several, their channels are joined (COMM, Jiang et al.
            2023, arXiv 2310.08825).
        dtype: of all weights; auto is that of the language model. The proof is of the weights in it.
        seed: of the projector and of a fresh tower.

    Raises:
        InputError: a source that cannot be read, parts that do not fit, or `out` holds something.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype}: unknown; use {', '.join(DTYPES)}")
    target = Path(out).expanduser()
    with new_folder(target, "out") as draft, torch.random.fork_rng():
        torch.manual_seed(seed)
        language, tokenizer = load_decoder(decoder, DTYPES[dtype])
        if shape and tower != NEW:
            raise InputError(f"tower: {tower}: has its shape already; leave image_size and the rest to tower={NEW}")
        vision, pixels = load_tower(tower) if tower != NEW else new_tower(shape or TowerShape())
        read_as, vision = vision.dtype, vision.to(language.dtype)
        parts = {"model.language_model": language.model, "model.vision_tower": vision}
        sources = {
            f"{place}.{name}": sha256(w) for place, part in parts.items() for name, w in part.state_dict().items()
        }
        add_tokens(tokenizer)
        tokenizer.chat_template = with_images(tokenizer.chat_template)
        rows = _enlarge(language, len(tokenizer))
        model = _joined(language, vision, tokenizer, tower_layers)
        _start_projector(model)
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        _write_processor(draft, model.config, tokenizer, pixels)
        choose_template(draft, tokenizer, IMAGE, f"{IMAGE}\n")
        _prove(draft, sources, rows)
        write_json(
            draft / PROOF,
            {
                "schema": 1,
                "decoder": {"source": Path(decoder).name, "model_type": model.config.text_config.model_type},
                "tower": {
                    "source": Path(tower).name,
                    "model_type": vision.config.model_type,
                    "read_as": _word(read_as),
                },
                "dtype": _word(language.dtype),
                "tower_layers": tower_layers,
                "seed": seed,
                "vocabulary": {"rows": rows, "rows_added": _rows(model) - rows, "tokens": len(tokenizer)},
                "tensors": sources,
            },
        )
    size = sum(file.stat().st_size for file in target.iterdir()) / 1e6
    log.info("%d tensors in their place and equal; %s: %.0f MB; proof: %s", len(sources), target, size, target / PROOF)
    return target


def _joined(language: Any, vision: Any, tokenizer: Any, tower_layers: int | Sequence[int]) -> Any:
    """The LLaVA model that holds both, with a random projector; no weight is copied."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    side = side_in_patches(vision.config, "tower")
    chosen = tower_layers if isinstance(tower_layers, int) else list(tower_layers)
    layer_indices(chosen, vision.config.num_hidden_layers, "tower_layers")
    # A tower without a class token must not lose its first patch.
    prefix = prefix_tokens(vision.config)
    kept = max(prefix - 1, 0)
    text = language.config
    for key in ("quantization_config", "gguf_file"):
        if hasattr(text, key):
            delattr(text, key)
    text.pad_token_id = tokenizer.pad_token_id
    config = LlavaConfig(
        vision_config=vision.config, text_config=text, vision_feature_layer=chosen,
        vision_feature_select_strategy="default" if prefix else "full", image_seq_length=side**2 + kept,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE), tie_word_embeddings=bool(text.tie_word_embeddings),
    )  # fmt: skip
    with torch.device("meta"):
        model: Any = LlavaForConditionalGeneration(config)
    projector = type(model.model.multi_modal_projector)(config)
    model.model.vision_tower, model.model.language_model = vision, language.model
    model.model.multi_modal_projector, model.lm_head = projector.to(language.dtype), language.lm_head
    model.generation_config = language.generation_config
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval()


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _rows(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


@torch.no_grad()
def _enlarge(model: Any, tokens: int) -> int:
    """Enlarge the table, and the head, so that it holds all tokens (`padded_rows`); returns the rows of before."""
    rows = _rows(model)
    wanted = padded_rows(rows, tokens)
    if wanted > rows:
        model.resize_token_embeddings(wanted, mean_resizing=False)
        tables = [part.weight for part in (model.get_input_embeddings(), model.get_output_embeddings())]
        for table in {id(one): one for one in tables}.values():  # tied ones are one
            table[rows:] = mean_rows(table[:rows], wanted - rows)
    return rows


@torch.no_grad()
def _start_projector(model: Any) -> None:
    """Random weights whose image tokens are as large as the words of the language model.

    With the library's start they are a hundredth of them for one tower and a hundred times for another.
    """
    projector, vision = model.model.multi_modal_projector, model.config.vision_config
    for layer in (projector.linear_1, projector.linear_2):
        nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight.shape[1]))
        nn.init.zeros_(layer.bias)
    pixels = torch.randn(4, 3, vision.image_size, vision.image_size, dtype=model.dtype)
    images = model.get_image_features(pixels)
    states = images if isinstance(images, Tensor) else getattr(images, "pooler_output", images)
    tokens = torch.cat(list(states)) if isinstance(states, list | tuple) else states
    embed = model.get_input_embeddings()
    words = embed.weight.float()
    longest = words.norm(dim=1).argmax()
    scale = embed(longest).float().norm() / words[longest].norm()  # Gemma's words are longer than their rows
    ratio = scale * words.square().mean().sqrt() / tokens.float().square().mean().sqrt()
    projector.linear_2.weight.mul_(ratio.to(model.dtype))


def _write_processor(folder: Path, config: Any, tokenizer: Any, pixels: Mapping[str, Any]) -> None:
    """Images of the tower's side, with its mean and deviation; the processor knows how many tokens an image has."""
    from transformers import LlavaProcessor
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    side = config.vision_config.image_size
    kept = {key: pixels[key] for key in ("image_mean", "image_std", "rescale_factor") if key in pixels}
    images = LlavaImageProcessorPil(
        do_pad=False, size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **kept
    )
    images.save_pretrained(folder)
    LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=prefix_tokens(config.vision_config), chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)  # fmt: skip


def _prove(draft: Path, sources: Mapping[str, str], rows: int) -> None:
    """Compare {tensor: SHA-256 of its bytes} with what plain transformers read back; of the table its first `rows`.

    Raises:
        InputError: transformers finds weights missing, unknown or of another shape.
    """
    from transformers import LlavaForConditionalGeneration

    loader: Any = LlavaForConditionalGeneration
    model, report = loader.from_pretrained(draft, dtype="auto", output_loading_info=True, local_files_only=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, report[key])):
            raise InputError(f"assemble: the parts do not fit: {key.replace('_', ' ')}, such as {names[0]}")
    written = model.state_dict()
    table = "model.language_model.embed_tokens.weight"
    for name, digest in sources.items():
        check_copy(name, written[name], digest, rows if name == table else None)
