"""Small things that several tests share: a tiny backbone folder, an encoder, one trained run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from small_run import SMALL

from data_modules.corpora.phantom import written
from radz.backbones import FAMILIES, load_backbone
from radz.backbones.tiny import write_tiny
from radz.config import BackboneConfig, DfatConfig, TinyConfig
from radz.encode import Encoder
from radz.experiment import load_experiment
from radz.run import train

TEXTS = [
    "There is a small left pleural effusion with a meniscus.",
    "The heart is enlarged. No pneumothorax is seen. Patchy opacity in the right lower zone, ill defined.",
    "Normal chest radiograph.",
    "Rounded opacity in the left mid zone, 20 mm, well defined, in keeping with a nodule.",
    "A pacemaker lies over the left chest wall. Findings of this chest X-ray",
]
NAMES = dict(zip(("llava", "llava_next", "qwen2_5_vl", "gemma3"), FAMILIES, strict=True))
"""architecture of every tiny family"""
SHAPE = {"image_size": 64, "vision_width": 32, "width": 32, "vocabulary": 400, "context": 256}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA folder."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder, TinyConfig(**SHAPE), TEXTS * 20)
    return folder


@pytest.fixture
def make_encoder(tiny_path: Path):
    """Encoder of the tiny folder; keywords go to BackboneConfig, `dfat` to DfatConfig."""

    def build(dfat: dict | None = None, **backbone) -> Encoder:
        settings = DfatConfig(**{"image_tokens": 2, "text_tokens": 3, **(dfat or {})})
        config = BackboneConfig(path=str(tiny_path), **{"lora_rank": 4, "lora_alpha": 8, **backbone})
        torch.manual_seed(0)
        return Encoder(load_backbone(config, tiny_path, settings.image_tokens, settings.text_tokens), settings)

    return build


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny folder of every family."""
    found = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, folder in found.items():
        write_tiny(folder, TinyConfig(family=name, **SHAPE), TEXTS * 20)
    return found


@pytest.fixture
def make_family(family_folders: dict[str, Path]):
    """Encoder of a family's tiny folder, identity heads; keywords go to BackboneConfig."""

    def build(family: str, **backbone) -> Encoder:
        folder = family_folders[family]
        config = BackboneConfig(path=str(folder), **{"lora_rank": 4, "lora_alpha": 8, **backbone})
        torch.manual_seed(0)
        settings = DfatConfig(image_tokens=2, text_tokens=3, head="identity")
        return Encoder(load_backbone(config, folder, 2, 3), settings)

    return build


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache (phantom, pixels, backbones) for the whole session and all its workers, which share it as users do."""
    own = tmp_path_factory.getbasetemp()
    cache = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A finished run of the demo in small, with LoRA so that the plain peft test has something to load."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    lora = [
        "backbone.train=lora",
        "backbone.lora_rank=4",
        "dfat.learning_rate=0.01",
        "dfat.alignment_weight=0.5",
        "scoring.headline=fused",
    ]
    return train(load_experiment("demo", [*SMALL, *lora, f"run_dir={folder}", f"cache_dir={cache_dir}"]))


@pytest.fixture(scope="session")
def phantom_folder(trained_run: Path, cache_dir: Path) -> Path:
    """The phantom of SMALL (52 studies), which `trained_run` has written."""
    return written(load_experiment("demo", SMALL).data.corpora[0].phantom, cache_dir)
