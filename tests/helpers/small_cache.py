"""The pixel cache of the small corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small_corpus import SALT

from data_modules.cache import PixelCache, open_or_build
from data_modules.decode import Recipe
from data_modules.study import StudyTable

OTHER = np.tile(np.array([77, 177], np.uint8), (16, 8))
"""A picture of the size of the cache."""


def build(studies: StudyTable, folder: Path, workers: int | None = 0, size: int = 16) -> PixelCache:
    return open_or_build(studies, Recipe(size), folder, workers, SALT, progress=False)


def place(built: PixelCache) -> Path:
    """The one store of a one-corpus table."""
    (folder,) = built.folders
    return folder
