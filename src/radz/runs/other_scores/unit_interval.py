"""Scores of any scale as float32 in [0, 1] under which no two change places, and none that differ become equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from data_modules.errors import InputError

ONE = int(np.float32(1.0).view(np.int32))
"""Floats of [0, 1] in order are the whole numbers from 0 to this."""
ROUNDING = 1e-5
"""By so much a softmax may miss [0, 1]."""
LEAST_PERCENT = 10.0
"""The largest of scores in percent lies above it; below, they may be probabilities that rounding took beyond 1."""
MANY, BEYOND_LOGITS = 20, 30.0
"""So many numbers within [0, 1] are no logits by chance, and what lies beyond no logit either."""
UNIT, PERCENT, LOGITS = "unit", "percent", "logits"


def scale_of(tables: Sequence[NDArray[np.float64]]) -> str:
    """The scale of scores; logits where positive ones up to 10 may also be percent."""
    distinct = _distinct(tables)
    if not len(distinct) or (distinct[0] >= -ROUNDING and distinct[-1] <= 1 + ROUNDING):
        return UNIT
    percent = distinct[0] >= -ROUNDING and LEAST_PERCENT < distinct[-1] <= 100 * (1 + ROUNDING)
    return PERCENT if percent else LOGITS


def check_one_scale(test: Sequence[NDArray[np.float64]], val: Sequence[NDArray[np.float64]], where: str) -> None:
    """InputError for files of two scales: thresholds of validation would mean nothing in the test.

    That is where one lies within [0, 1] and the other far outside, or one is in percent and the other negative or
    beyond 100. Files of few numbers, cosines, and logits that happen to be positive are left alone.
    """
    scales = {scale_of(tables): _distinct(tables) for tables in (test, val) if len(_distinct(tables))}
    unit, percent, logits = (scales.get(scale) for scale in (UNIT, PERCENT, LOGITS))
    far = logits is not None and (logits[0] < -1 or logits[-1] > 2)
    if unit is not None:
        differ = percent is not None or (far and len(unit) >= MANY)
    else:
        differ = percent is not None and logits is not None and percent[-1] > BEYOND_LOGITS
        differ = differ and scale_of([*test, *val]) != PERCENT
    if differ:
        one, other = (f"from {of[0]:g} to {of[-1]:g}" for of in map(_distinct, (val, test)))
        raise InputError(
            f"{where} go {one} in validation and {other} in the test table, which is not one scale; give both as "
            "probabilities, both in percent or both as logits"
        )


def to_unit_interval(tables: Sequence[NDArray[np.float64]]) -> tuple[list[NDArray[np.float32]], str]:
    """Scores of one scorer, all findings and splits together, as float32 in [0, 1], and their scale.

    Numbers within [0, 1] stay as they are (UNIT). Where one lies outside, all go through the logistic function
    (LOGITS), or are divided by 100 where none is negative and the largest in (10, 100] (PERCENT): calibration, which is
    fitted by a line, is then that of the scores as given, whatever they are. float32 would make ties of scores that
    differ by little (of most logits above 17): those are moved to the next free number, so that every rank, and every
    metric made of ranks, is that of the scores as given. NaN stays NaN.
    """
    distinct, scale = _distinct(tables), scale_of(tables)
    within = expit(distinct) if scale == LOGITS else (distinct / (100 if scale == PERCENT else 1)).clip(0, 1)
    mapped = within.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0
    steps = np.arange(len(distinct))
    numbers = np.maximum.accumulate(mapped.view(np.int32).astype(np.int64) - steps) + steps
    numbers = np.minimum(numbers, ONE - steps[::-1])
    values = numbers.astype(np.int32).view(np.float32)
    return [_replaced(table, distinct, values) for table in tables], scale


def _distinct(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    every = np.concatenate([np.empty(0), *map(np.ravel, tables)])
    return np.unique(every[~np.isnan(every)])


def _replaced(
    table: NDArray[np.float64], distinct: NDArray[np.float64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    found = np.full(table.shape, np.nan, dtype=np.float32)
    known = ~np.isnan(table)
    found[known] = values[np.searchsorted(distinct, table[known])]
    return found
