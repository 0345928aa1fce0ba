"""Fixtures of the ground floor's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_corpus import Corpus, Make

from data_modules.chest_xray import ChestXrayDataModule
from data_modules.config import CorpusConfig, DataConfig


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
