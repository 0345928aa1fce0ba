"""Batches that need no data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from data_modules.batch import StudyBatch


def study_batch(
    pixels: Tensor, counts: Sequence[int], reports: Sequence[str] = (), states: Tensor | None = None
) -> StudyBatch:
    """Studies of a corpus, so many images each; without `reports` empty ones, without `states` nothing is known."""
    n, zeros = len(counts), torch.zeros(len(counts), dtype=torch.int64)
    return StudyBatch(
        pixels[: sum(counts)], torch.tensor(counts), list(reports) or [""] * n, torch.arange(n) if reports else zeros,
        torch.zeros(n, 2, dtype=torch.int8) if states is None else states, zeros, torch.arange(n), zeros,
    )  # fmt: skip
