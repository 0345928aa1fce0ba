"""Small things that several tests share: a tiny backbone folder, an encoder, one trained run."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small_run import SMALL
from tiny_families import NAMES, SHAPE, TEXTS

from data_modules.corpora.phantom import written
from radz.backbones import load_backbone
from radz.backbones.tiny import write_tiny
from radz.cli import main
from radz.config.files import load_experiment
from radz.config.schema import BackboneConfig, DfatConfig, TinyConfig
from radz.models.encoder import Encoder
from radz.runs.train import train


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _quiet_after() -> Iterator[None]:
    """`main` sets up logging; the handlers of pytest come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with 2; returns its one line."""

    def run(*arguments: str, alone: bool = False) -> str:
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        lines = shown.err.splitlines()
        faults = [line for line in lines if line.startswith("radz: ")]
        assert len(faults) == 1 and lines[-1] == faults[0], shown.err
        assert not alone or len(lines) == 1, shown.err
        return faults[0]

    return run


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
    """A finished run of the demo in small, with LoRA so that the plain peft test has something to load.

    The first worker trains it; each works on a copy of its own.
    """
    runs = cache_dir.with_name("trained")
    lora = [
        "backbone.train=lora",
        "backbone.lora_rank=4",
        "dfat.learning_rate=0.01",
        "dfat.alignment_weight=0.5",
        "scoring.headline=fused",
    ]
    with cache_dir.with_name("trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (runs / "metrics.json").is_file():
            train(load_experiment("demo", [*SMALL, *lora, f"run_dir={runs}", f"cache_dir={cache_dir}"]))
    copy = Path(shutil.copytree(runs, tmp_path_factory.mktemp("runs") / "trained"))
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace(str(runs), str(copy)))
    return copy


@pytest.fixture(scope="session")
def phantom_folder(trained_run: Path, cache_dir: Path) -> Path:
    """The phantom of SMALL (52 studies), which `trained_run` has written."""
    return written(load_experiment("demo", SMALL).data.corpora[0].phantom, cache_dir)
