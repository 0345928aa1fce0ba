"""A Hugging Face folder: what must lie in it, and its model, tokenizer and image processor settings."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from data_modules import files
from data_modules.errors import InputError
from data_modules.listing import listed
from radz.config.schema import BackboneConfig

log = logging.getLogger(__name__)

BASE_PARTS = {
    "weights, tokenizer or modality tokens": ("*.safetensors", "tokenizer.*", "config.json"),
    "image processor": ("preprocessor_config.json", "processor_config.json", "open_clip_config.json"),
    "chat template or tokenizer settings": ("chat_template.*", "tokenizer_config.json", "special_tokens_map.json"),
}
"""what a digest of a backbone folder covers, a part of it each, and its files"""
SEED_PART = "seed of the modality tokens"

SDPA = "scaled_dot_product_attention"

DAY = datetime(2024, 7, 26)
"""today in every chat template: the day that Llama's own take where they have no clock"""
_FORMS = {f"%{letter}": f"{DAY:%{letter}}" for letter in "aAbBcdDeFHIjmMpSTuUVwWxXyY"}
_FORMS |= {form.replace("%", "%-"): text.lstrip("0") or "0" for form, text in _FORMS.items()}
FIXED_TODAY = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('{form}', '{text}')" for form, text in _FORMS.items())
    + " }}{% endmacro %}\n"
)
"""what stands before a template that asks for today, in place of transformers' clock, and prints nothing itself"""


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a backbone folder; {} when it is not there."""
    return files.read_json(folder / name, "the backbone folder is damaged") or {}


@contextmanager
def reading(
    source: Path | str, part: str, key: str = "backbone.path", remedy: str = "copy the folder from its source again"
) -> Iterator[None]:
    """Turn what Hugging Face raises on a damaged or unknown `part` of a folder or file into one line.

    Its own report of missing weights, a table on stderr, is left out: what is missing is said by whoever reads.
    """
    loading = logging.getLogger("transformers.modeling_utils")
    loading.addFilter(_is_no_report)
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # tokenizers raises Exception itself, gguf, safetensors and config classes their own
        cause = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{key}: {source}: the {part} cannot be read ({cause}); {remedy}") from None
    finally:
        loading.removeFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    # A level would not do: transformers checks other things where that of its logger is high, and warns of them.
    return "LOAD REPORT" not in record.getMessage()


def check_folder(config: BackboneConfig, folder: Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        InputError: no folder, no config, no tokenizer, no image processor, no weights or a missing shard; or 4-bit
            weights where they cannot be.
    """
    if config.quantize == "4bit":
        _check_four_bit()
    if not folder.is_dir():
        raise InputError(f"backbone.path: {config.path}: no such folder; give a Hugging Face model folder")
    settings = read_json(folder, "config.json")
    if not settings:
        raise InputError(f"backbone.path: {folder}: no config.json; this is not a Hugging Face model folder")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise InputError(f"backbone.path: {folder}: no tokenizer.json or tokenizer.model; add the model's tokenizer")
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        raise InputError(f"backbone.path: {folder}: no preprocessor_config.json; add the model's image processor")
    if not listed(folder, "*.safetensors"):
        raise InputError(f"backbone.path: {folder}: no safetensors weights; convert them first (pickles are not read)")
    shards = read_json(folder, "model.safetensors.index.json").get("weight_map", {})
    absent = sorted({name for name in shards.values() if not (folder / name).is_file()})
    if absent:
        raise InputError(
            f"backbone.path: {folder}: {len(absent)} of {len(set(shards.values()))} weight files are missing, such as "
            f"{absent[0]}; copy the folder from its source again"
        )
    return settings


def image_settings(folder: Path, key_of: str = "backbone.path") -> dict[str, Any]:
    """The image processor's settings, with a mean and a spread of three numbers.

    Those nested in processor_config.json come first, as in transformers 5, which saves them there alone.
    """
    settings = read_json(folder, "processor_config.json").get("image_processor")
    settings = settings or read_json(folder, "preprocessor_config.json")
    for key in ("image_mean", "image_std"):
        values = settings.get(key)
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
            raise InputError(f"{key_of}: {folder}: the image processor gives no {key} of three numbers")
    if min(settings["image_std"]) <= 0:
        raise InputError(f"{key_of}: {folder}: image_std of the image processor must be above 0")
    return settings


def load_model(architecture: str, config: BackboneConfig, folder: Path) -> Any:
    """The transformers model `architecture` of a folder, with SDPA attention, complete and finite.

    Raises:
        InputError: damaged, incomplete or non-finite weights, or no SDPA.
    """
    import transformers

    auto = torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    dtype = {"auto": auto, "float32": torch.float32, "bfloat16": torch.bfloat16}[config.dtype]
    loader: Any = getattr(transformers, architecture)
    extra = {"quantization_config": _four_bit()} if config.quantize == "4bit" else {}
    with reading(folder, "model"):
        # Weights of another shape are let through here and refused by name below.
        model, report = loader.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, attn_implementation="sdpa", output_loading_info=True,
            ignore_mismatched_sizes=True, local_files_only=True, **extra,
        )  # fmt: skip
    unfit = sorted(entry[0] for entry in report["mismatched_keys"])
    if unfit:
        raise InputError(
            f"backbone.path: {folder}: {len(unfit)} weights have another shape than config.json says, such as "
            f"{unfit[0]}; copy the folder from its source again"
        )
    lost = sorted(report["missing_keys"])
    if lost:
        tied = "; where the model has no head, set tie_word_embeddings to true in config.json"
        hint = tied if lost == ["lm_head.weight"] else ""
        raise InputError(f"backbone.path: {folder}: {len(lost)} weights are missing, such as {lost[0]}{hint}")
    _check_attention(model, folder)
    _check_finite(model, folder)
    return model


def _check_four_bit() -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("backbone.quantize: 4bit needs the package bitsandbytes; run pip install 'radz[quantize]'")
    if not torch.cuda.is_available():
        raise InputError("backbone.quantize: 4bit needs an NVIDIA GPU, and none is visible; use none")


def _four_bit() -> Any:
    """Settings of 4-bit weights (QLoRA: Dettmers et al. 2023, arXiv 2305.14314); tower, projector and head stay."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=[
            "vision_tower",
            "visual",
            "vision_model",
            "multi_modal_projector",
            "connector",
            "lm_head",
        ],
    )


def _check_attention(model: Any, folder: Path) -> None:
    """Eager attention holds T x T scores of every head and layer, so it is no silent fallback."""
    for part in (model.config, model.config.text_config, model.config.vision_config):
        if part._attn_implementation != "sdpa":
            raise InputError(
                f"backbone.path: {folder}: {type(part).__name__} runs with {part._attn_implementation} attention; radz "
                f"needs torch's {SDPA}, so choose a model that has it"
            )


@torch.no_grad()
def _check_finite(model: Any, folder: Path) -> None:
    """Smallest and largest value of every tensor: one pass over the memory, and NaN goes through both."""
    for name, weight in model.named_parameters():
        if weight.numel() and weight.is_floating_point() and not torch.isfinite(torch.stack(weight.aminmax())).all():
            raise InputError(
                f"backbone.path: {folder}: {name} holds NaN or infinite values; copy the folder from its source again"
            )


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer with a padding token: nothing attends to it, so that any special one will do."""
    from transformers import AutoTokenizer

    with reading(folder, "tokenizer"):
        # Code that a folder brings along is never run, nor asked about.
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token or tokenizer.bos_token
    if tokenizer.pad_token_id is None:
        raise InputError(f"backbone.path: {folder}: the tokenizer names no pad_token; add it to tokenizer_config.json")
    return tokenizer


def image_placeholder(model: Any, tokenizer: Any, folder: Path) -> str:
    """Text of the image token, after a check that model and tokenizer know the same tokens.

    Raises:
        InputError: token ids beyond the embedding table, or an image id that is not a special token.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    last, token = max((number, token) for token, number in tokenizer.get_vocab().items())
    if last >= rows:
        raise InputError(
            f"backbone.path: {folder}: the tokenizer knows ids up to {last} ({token}), but the model's embedding table "
            f"has {rows} rows; tokenizer and weights are of different models"
        )
    number = model.config.image_token_id
    added = tokenizer.added_tokens_decoder
    if number not in added:
        plain = tokenizer.convert_ids_to_tokens(number) if number <= last else None
        raise InputError(
            f"backbone.path: {folder}: config.json gives the image token the id {number}, which is "
            f"{'no special token' if plain else 'no token'} of the tokenizer; tokenizer and weights are of different "
            "models"
        )
    return str(added[number].content)


def folder_digest(folder: Path, token_ids: list[int], seed: int | None = None) -> str:
    """12 hex digits for each of `BASE_PARTS`, of a backbone folder, joined by dashes, and the seed of new token rows.

    An earlier radz wrote the first part alone.
    """
    parts = []
    for number, patterns in enumerate(BASE_PARTS.values()):
        digest = hashlib.blake2b(str(token_ids).encode() if number == 0 else b"", digest_size=6)
        for file in sorted({file for pattern in patterns for file in listed(folder, pattern)}):
            digest.update(file.name.encode())
            files.add_file(digest, file)
        parts.append(digest.hexdigest())
    return "-".join(parts if seed is None else [*parts, str(seed)])


def base_change(before: str, now: str) -> str:
    """What differs between two digests of `folder_digest`, in words; empty where nothing does."""
    if before == now:
        return ""
    if "-" not in before and before == now.split("-")[0]:
        return (
            "an earlier radz wrote this digest, which covers neither image processor, chat template nor seed of the "
            "modality tokens"
        )
    one, other = before.split("-"), now.split("-")
    pairs = zip([*BASE_PARTS, SEED_PART], one, other, strict=False)
    changed = [name for name, a, b in pairs if a != b] if len(one) == len(other) else []
    return f"other {' and '.join(changed)}" if changed else "another backbone"


def message(instruction: str, images: int, spelled: str | None) -> str | list[dict[str, str]]:
    """A message of images and words: as parts, or as one string in which each image is `spelled`."""
    if spelled is None:
        return [{"type": "image"}] * images + [{"type": "text", "text": instruction}]
    return spelled * images + instruction


def turn(tokenizer: Any, content: Any, template: str | None = None, system: Any = None) -> str:
    """A user's message of this content in a chat template, the tokenizer's own if none is given, behind that of the
    system if there is one.
    """
    said = [{"role": "system", "content": system}] if system else []
    text: str = tokenizer.apply_chat_template(
        [*said, {"role": "user", "content": content}], chat_template=template, add_generation_prompt=True,
        tokenize=False,
    )  # fmt: skip
    return text


def choose_template(folder: Path, tokenizer: Any, mark: str, spelled: str) -> str | None:
    """Give the tokenizer the first chat template of the folder that shows an image once and the words as they are.

    The processor's come before the tokenizer's, which in some folders is that of the language model alone: such a
    template takes a message as one string, in which the image is spelled.

    Args:
        mark: what a template shows for an image. spelled: an image in a message that is one string.

    Returns:
        `spelled` where the template takes strings, None where it takes parts; see `message`.

    Raises:
        InputError: there is none, or none does so.
    """
    probe, templates = "Say what you see.", _chat_templates(folder, tokenizer)
    for form in (None, spelled):
        for name, template in templates.items():
            try:
                text = turn(tokenizer, message(probe, 1, form), template)
            except Exception:  # templates raise whatever their authors and jinja2 think of
                continue
            if text.count(mark) == 1 and text.count(probe) == 1 and "{'type'" not in text:
                tokenizer.chat_template = template
                if form is not None:
                    log.info("backbone.path: %s takes messages as strings; the image is spelled in them", name)
                return form
    if not templates:
        raise InputError(f"backbone.path: {folder}: no chat template; add chat_template.jinja to the folder")
    raise InputError(
        f"backbone.path: {folder}: no chat template ({', '.join(templates)}) shows an image and the words beside it "
        "once; put the processor's chat_template.jinja into the folder"
    )


def _chat_templates(folder: Path, tokenizer: Any) -> dict[str, str]:
    """{where: template} of a folder, the processor's first; one that prints today's date prints that of `DAY`.

    Else features change from day to day. It stands in the template, since transformers takes no function from who
    renders one, and so reaches exports.
    """
    files = ("chat_template.json", "processor_config.json")
    templates = {name: read_json(folder, name).get("chat_template") for name in files}
    plain = folder / "chat_template.jinja"
    templates[plain.name] = plain.read_text(encoding="utf-8") if plain.is_file() else None
    own = tokenizer.chat_template
    templates["tokenizer_config.json"] = own.get("default") if isinstance(own, dict) else own
    texts = {name: text for name, text in templates.items() if isinstance(text, str) and text}
    undated = {name for name, text in texts.items() if "strftime_now" not in text or FIXED_TODAY in text}
    return {name: text if name in undated else FIXED_TODAY + text for name, text in texts.items()}
