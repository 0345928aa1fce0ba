"""The encoder of an experiment, from its backbone folder, and the texts of its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from data_modules.config import DataConfig
from radz.backbones import load_backbone
from radz.backbones.folder import folder_digest
from radz.backbones.hub import resolve
from radz.config.checks import known_findings
from radz.config.schema import BackboneConfig, DfatConfig, TinyClipConfig, TinyConfig
from radz.distributed import has_bf16
from radz.models.descriptions import load_descriptions
from radz.models.encoder import Encoder
from radz.models.labels import finding_text
from radz.models.zero_shot import ClassTexts

Tiny = TypeVar("Tiny", TinyConfig, TinyClipConfig)
TINY_TEXTS = 2000
"""phantom reports that the tiny backbone's tokenizer learns from"""


def backbone_folder(backbone: BackboneConfig, instruction: str, seed: int, cache_dir: str) -> Path:
    """The configured folder, the local copy of a hub id, or the tiny backbone's folder, written when missing.

    Args:
        instruction: `dfat.instruction`, which the tiny tokenizer knows as well.
    """
    if backbone.path is not None:
        return resolve(backbone.path)
    from radz.backbones.tiny import tiny_folder

    texts = [*tiny_texts(), *[instruction] * TINY_TEXTS]
    return tiny_folder(seeded(backbone.tiny, seed), texts, Path(cache_dir))


def seeded(tiny: Tiny, seed: int) -> Tiny:
    """The shape of a tiny model with the seed of the run where it has none of its own."""
    return replace(tiny, seed=seed) if tiny.seed is None else tiny


@cache
def tiny_texts() -> tuple[str, ...]:
    """Reports of the phantom, made once a process (half a second), which the tokenizers of tiny models learn from."""
    from data_modules.phantom.report import training_reports

    return tuple(training_reports(TINY_TEXTS, seed=0))


def encoder(
    backbone: BackboneConfig, dfat: DfatConfig, seed: int, cache_dir: str, accelerator: str
) -> tuple[Encoder, str]:
    """The encoder with base weights and fresh heads, seeded, and the digest of its base."""
    folder = backbone_folder(backbone, dfat.instruction, seed, cache_dir)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    loaded = load_backbone(on_device(backbone, accelerator), folder, dfat.image_tokens, dfat.text_tokens, seed=seed)
    module = Encoder(loaded, dfat)
    torch.random.set_rng_state(state)
    return module, folder_digest(folder, loaded.image_ids + loaded.text_ids, seed)


def on_device(backbone: BackboneConfig, accelerator: str) -> BackboneConfig:
    """The section with `dtype: auto` as what the device of the run computes well."""
    auto = "bfloat16" if has_bf16(accelerator) else "float32"
    return replace(backbone, dtype=auto) if backbone.dtype == "auto" else backbone


def class_texts(findings: Sequence[str], file: Path, data: DataConfig, aspects: Sequence[str]) -> ClassTexts:
    """Names and descriptions of the findings to be scored.

    Args:
        file: descriptions; aspects: what of them is read, see `dkam.aspects`.
    """
    words, known = known_findings(data), load_descriptions(file)
    described = [known[name].text(aspects) if name in known else "" for name in findings]
    return ClassTexts(tuple(findings), tuple(finding_text(words, name) for name in findings), tuple(described))
