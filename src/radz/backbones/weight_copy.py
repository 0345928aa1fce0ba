"""Weights written into another folder: enlarged vocabularies, and the proof that the rest is as it was."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

MULTIPLE = 64
"""Vocabularies are padded to a multiple of this, as Hugging Face's own LLaVA folders are."""


def padded_rows(rows: int, tokens: int) -> int:
    """Rows of a table of `rows` once it holds all tokens: a multiple of `MULTIPLE`, never fewer than before."""
    return -(-max(rows, tokens) // MULTIPLE) * MULTIPLE


def mean_rows(table: Tensor, count: int) -> Tensor:
    """Rows [count, d] to add to a table [V, d]: each the mean of its rows, taken in fp32 before rounding."""
    return table.float().mean(0, keepdim=True).to(table.dtype).expand(count, -1)


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row by row."""
    values: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return memoryview(values)


def sha256(tensor: Tensor) -> str:
    """Digest of a tensor's bytes."""
    return hashlib.sha256(raw(tensor)).hexdigest()


def check_copy(name: str, written: Tensor, digest: str, rows: int | None = None) -> None:
    """Compare what was written as `name`, of a table its first `rows`, with the digest of what was read.

    Raises:
        RuntimeError: they differ; the disk did that, not the user.
    """
    if sha256(written if rows is None else written[:rows]) != digest:
        raise RuntimeError(f"{name} was not written as it was read; the disk may be full or damaged")
