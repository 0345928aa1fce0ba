"""Fixtures of the ground floor's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept import spied
from small_corpus import SALT, Corpus, Make

from data_modules import decode
from data_modules.chest_xray import ChestXrayDataModule
from data_modules.config import DataConfig
from data_modules.corpora import table
from data_modules.corpus_config import CorpusConfig
from data_modules.findings import ontology
from data_modules.pixels import read_gray
from data_modules.study import StudyTable


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path / "ours")


@pytest.fixture
def another(tmp_path: Path) -> Callable[[str], Corpus]:
    return lambda name: Corpus(tmp_path / name)


@pytest.fixture
def make(corpus: Corpus, tmp_path: Path) -> Make:
    """A DataModule of the small corpus; keyword arguments change the DataConfig."""

    def build(corpora: list[CorpusConfig] | None = None, seed: int = 0, **changes: Any) -> ChestXrayDataModule:
        if corpora is None:
            corpus.write()
            corpora = [corpus.config()]
        settings = {"image_size": 16, "batch_size": 2, "eval_batch_size": 3} | changes
        return ChestXrayDataModule(DataConfig(corpora=corpora, **settings), tmp_path / "cache", seed)

    return build


@pytest.fixture
def studies(corpus: Corpus) -> StudyTable:
    """The table of the small corpus."""
    corpus.write()
    return table.read(corpus.config(), ontology(), SALT)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded in this process."""
    names: list[str] = []

    def spy(path: Path, name: str | None = None, *_: str) -> np.ndarray:
        names.append(Path(path).name)
        return read_gray(path, name)

    monkeypatch.setattr(decode, "read_gray", spy)
    return names


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The readers that were called; tables of any size are kept."""
    return spied(monkeypatch)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
