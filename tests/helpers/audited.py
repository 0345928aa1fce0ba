"""What the tests of the audit and its thumbnails share: images of their own pixels, read as `radz data check` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from small_corpus import Corpus

from data_modules.audit import lenient
from data_modules.chest_xray import ChestXrayDataModule
from data_modules.config import DataConfig
from data_modules.corpus_config import CorpusConfig


def filled(corpus: Corpus) -> CorpusConfig:
    """Write the corpus, each image noise of its own; returns its config."""
    corpus.write(images=False)
    for i, row in enumerate(corpus.rows):
        noise = np.random.default_rng([i, len(corpus.root.name)]).integers(0, 256, (20, 30), dtype=np.uint8)
        Image.fromarray(noise).save(corpus.root / "images" / row["filename"])
    return corpus.config()


def look(*configs: CorpusConfig, sample: int | None = None, **changes: Any) -> ChestXrayDataModule:
    """The data of these corpora with the settings of the audit; the cache lies beside the first."""
    settings = DataConfig(corpora=list(configs), **{"image_size": 16, **changes})
    data = ChestXrayDataModule(lenient(settings), Path(str(configs[0].root)).parent / "cache", 0, sample)
    data.prepare_data()
    return data
