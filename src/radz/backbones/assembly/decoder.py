"""The language model of an assembled backbone: a Hugging Face folder, a hub id or a GGUF file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from data_modules.errors import InputError
from data_modules.listing import listed
from data_modules.progress import Bar
from radz.backbones.assembly.chat import IMAGE
from radz.backbones.folder import reading
from radz.backbones.hub import resolve

TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text")
"""`model_type` of causal language models that LLaVA can hold"""
PAD = "<pad>"


def load_decoder(source: str, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """The causal language model of a source, and its tokenizer.

    Args:
        source: Hugging Face folder, hub id, or a file *.gguf, whose weights are made whole.
        dtype: of the weights; None is that of the folder, and float32 for a GGUF file.

    Raises:
        InputError: nothing there, another architecture, unreadable weights, or a tokenizer that has <image>.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils

    file = Path(source).expanduser()
    is_gguf = file.suffix == ".gguf"
    if is_gguf:
        check_gguf(file)
    folder = file.parent if is_gguf else resolve(source, "decoder")
    if not is_gguf and not (folder / "config.json").is_file():
        raise InputError(f"decoder: {source}: no Hugging Face folder, hub id or .gguf file; give one of them")
    of_file: dict[str, Any] = {"gguf_file": file.name} if is_gguf else {}
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, **of_file}
    told = ("decoder", f"copy it from its source again, or give a {', '.join(TYPES)} model")
    with reading(source, "config", *told):
        config = AutoConfig.from_pretrained(folder, **local)
    if config.model_type not in TYPES:
        raise InputError(f"decoder: {source}: is a {config.model_type} model; known: {', '.join(TYPES)}")
    if not is_gguf and not listed(folder, "*.safetensors"):
        raise InputError(f"decoder: {source}: no safetensors weights; convert them first (pickles are not read)")
    with reading(source, "tokenizer", *told):
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    if is_gguf and config.eos_token_id is not None:
        # transformers 5.17 takes the first word of a text for its end in files of Llama's class.
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(config.eos_token_id)
    if IMAGE in tokenizer.get_vocab():
        raise InputError(f"decoder: {source}: its tokenizer has {IMAGE} already; give a model of text alone")
    if is_gguf:
        # This bar of transformers does not heed its own switch, and a log would keep every drawing of it.
        modeling_gguf_pytorch_utils.tqdm = Bar  # type: ignore[attr-defined]
    loader: Any = AutoModelForCausalLM
    with reading(source, "weights", *told):
        model, report = loader.from_pretrained(
            folder, config=config, dtype=dtype or (torch.float32 if is_gguf else "auto"), output_loading_info=True,
            ignore_mismatched_sizes=True, **({} if is_gguf else {"use_safetensors": True}), **local,
        )  # fmt: skip
    lost = sorted([*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])])
    if lost:
        raise InputError(f"decoder: {source}: {len(lost)} weights are missing or of another shape, such as {lost[0]}")
    return model.eval(), tokenizer


def check_gguf(file: Path) -> None:
    """InputError where a GGUF file is not there, or cannot be read for want of a package."""
    if not file.is_file():
        raise InputError(f"decoder: {file}: no such file")
    if importlib.util.find_spec("gguf") is None:
        raise InputError("decoder: a GGUF file is read with the package gguf; run pip install 'radz[gguf]'")
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise InputError(f"decoder: {file}: is no GGUF file; copy it from its source again")


def add_tokens(tokenizer: Any) -> None:
    """Give a tokenizer <image>, and a pad token of its own where it pads with another token or none.

    A pad token that is the end of a turn would be masked in losses on the end of a text.
    """
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    others = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token, None}
    if tokenizer.pad_token in others:
        tokenizer.add_special_tokens({"pad_token": PAD})
