"""A random backbone small enough for a laptop, written as an ordinary Hugging Face folder.

Nothing below the writing knows that it is small: the folder is loaded by the same code as one of 7 billion weights.
The weights of the LLaVA families are random but structured where that is known to help small transformers trained from
scratch (`tiny_start.py`); the other families show that every step runs, and promise no accuracy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from radz.backbones.tiny_models import image_processor, random_model
from radz.backbones.tiny_tokenizer import tiny_tokenizer
from radz.config import TinyConfig


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
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{kind}-"))
        write(draft)
        try:
            draft.rename(folder)
        except OSError:  # another process was faster; its folder is equal
            shutil.rmtree(draft)
    return folder


def write_tiny(folder: Path, config: TinyConfig, texts: Iterable[str]) -> None:
    """Write model, tokenizer and image processor of a random backbone into `folder`."""
    tokenizer = tiny_tokenizer(config, texts)
    state = torch.random.get_rng_state()
    torch.manual_seed(config.seed)
    model = random_model(config, tokenizer)
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor(config).save_pretrained(folder)
