"""What makes a batch of row numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_modules.batch import StudyBatch
from data_modules.cache import PixelCache
from data_modules.samplers import REPEAT


@dataclass(frozen=True)
class Collator:
    """Items of `RowDataset` -> batch. Holds only what a batch needs, so that it travels to worker processes."""

    cache: PixelCache
    offsets: NDArray[np.int64]
    texts: list[str]
    digests: NDArray[np.int64]
    states: NDArray[np.int8]
    corpus: NDArray[np.int16]

    def __call__(self, rows: Sequence[int]) -> StudyBatch:
        repeats, index = np.divmod(np.asarray(rows, dtype=np.int64), REPEAT)
        spans = [np.arange(self.offsets[row], self.offsets[row + 1]) for row in index]
        return StudyBatch(
            pixels=torch.from_numpy(self.cache.batch(np.concatenate(spans))),
            image_counts=torch.tensor([int(self.cache.slices[span].sum()) for span in spans]),
            reports=[self.texts[row] for row in index],
            text_digest=torch.from_numpy(self.digests[index]),
            label_states=torch.from_numpy(self.states[index]),
            corpus=torch.from_numpy(self.corpus[index].astype(np.int64)),
            rows=torch.from_numpy(index),
            repeats=torch.from_numpy(repeats),
        )
