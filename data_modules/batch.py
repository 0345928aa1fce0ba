"""The one batch type of both floors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

TENSORS = ("pixels", "image_counts", "text_digest", "label_states", "corpus", "rows", "repeats")


@dataclass
class StudyBatch:
    """B studies with M >= B images in all; the images of study b follow those of study b - 1."""

    pixels: Tensor
    """uint8 [M, C, H, W], C 1 or 3."""
    image_counts: Tensor
    """int64 [B], images of each study, the slices of a CT each counted; sums to M."""
    reports: list[str]
    """B texts, empty where the study has none."""
    text_digest: Tensor
    """int64 [B], equal for equal texts (`reports.digest64`)."""
    label_states: Tensor
    """int8 [B, K], the four states of `findings`."""
    corpus: Tensor
    """int64 [B], index into the table's corpora."""
    rows: Tensor
    """int64 [B], index into the study table."""
    repeats: Tensor
    """int64 [B], how often the epoch has drawn each study before; above 0 with class-aware sampling only."""

    def __len__(self) -> int:
        return len(self.reports)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StudyBatch:
        """Return the batch with all tensors on `device`."""
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=non_blocking) for name in TENSORS})

    def pin_memory(self) -> StudyBatch:
        """Return the batch in page-locked memory (called by a DataLoader with ``pin_memory=True``)."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in TENSORS})
