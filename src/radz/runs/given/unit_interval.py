"""Scores of any scale as float32 in [0, 1] under which no two change places, and none that differ become equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

ONE = int(np.float32(1.0).view(np.int32))
"""Floats of [0, 1] in order are the whole numbers from 0 to this."""
ROUNDING = 1e-5
"""By so much a softmax may miss [0, 1]."""


def to_unit_interval(tables: Sequence[NDArray[np.float64]]) -> tuple[list[NDArray[np.float32]], bool]:
    """Scores of one scorer, all findings and splits together, as float32 in [0, 1], and whether they were logits.

    Numbers within [0, 1] stay as they are; where one lies outside, all are taken as logits and go through the logistic
    function. float32 would make ties of scores that differ by little (of most logits above 17): those are moved to
    the next free number, so that every rank, and every metric made of ranks, is that of the scores as given.
    NaN stays NaN.
    """
    every = np.concatenate([np.ravel(table) for table in tables])
    distinct = np.unique(every[~np.isnan(every)])
    logits = bool(len(distinct)) and bool(distinct[0] < -ROUNDING or distinct[-1] > 1 + ROUNDING)
    mapped = (expit(distinct) if logits else distinct.clip(0, 1)).astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0
    steps = np.arange(len(distinct))
    numbers = np.maximum.accumulate(mapped.view(np.int32).astype(np.int64) - steps) + steps
    numbers = np.minimum(numbers, ONE - steps[::-1])
    values = numbers.astype(np.int32).view(np.float32)
    return [_replaced(table, distinct, values) for table in tables], logits


def _replaced(
    table: NDArray[np.float64], distinct: NDArray[np.float64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    found = np.full(table.shape, np.nan, dtype=np.float32)
    known = ~np.isnan(table)
    found[known] = values[np.searchsorted(distinct, table[known])]
    return found
