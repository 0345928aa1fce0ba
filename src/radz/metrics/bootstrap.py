"""Ranking metrics, threshold rules and their bootstrap by patient: numpy in, plain values out.

Names of sizes: N rows, U bootstrap units (patients), R replicates, T thresholds, C columns (one finding of one scorer).

Every metric is computed from one object, `Ranking`: a column sorted once, evaluated under any number of row weights. A
bootstrap replicate is nothing but a weight per patient (how often the patient was drawn), so 1,000 replicates cost one
sort, one gather and one cumulative sum. Ties are exact: a tie group is passed as a whole, as scikit-learn does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from radz.metrics.ranking import Measures, Ranking, joined

# Elements of the [R, N] work array of one bootstrap chunk: 8 MB of int32 stays near the processor's cache.
_CHUNK = 2_000_000


def bootstrap(
    rankings: Sequence[Ranking],
    patients: ArrayLike,
    thresholds: Sequence[Sequence[float]],
    replicates: int = 1000,
    seed: int = 0,
) -> list[Measures]:
    """Measures [R] of every column under the same R resamples of patients.

    Patients are drawn with replacement, as many as there are; a patient brings all of its rows. All columns share the
    draws, so replicates of two scorers or two findings may be compared or averaged one by one. The draws follow from
    `seed` and the number of patients alone, and asking for more replicates leaves the first ones as they were.

    Args:
        rankings: C columns over the same N rows.
        patients: [N] patient of each row; only which rows are equal counts, not what they hold.
        thresholds: C lists, the fixed thresholds whose F1 is wanted.
    """
    # Numbered as they come, not sorted: patients are salted hashes, and intervals must not depend on the user's salt.
    codes, names = pd.factorize(np.asarray(patients))
    units = codes.astype(np.int64)
    longest = max([len(units), *(len(ranking.rows) for ranking in rankings)])
    parts: list[list[Measures]] = [[] for _ in rankings]
    for counts in draws(len(names), replicates, seed, longest) if rankings else ():
        for column, ranking in enumerate(rankings):
            parts[column].append(ranking.measure(counts, units, thresholds[column]))
    return [joined(chunks) for chunks in parts]


def draws(units: int, replicates: int, seed: int, longest: int) -> Iterator[NDArray[np.int32]]:
    """The resamples of `bootstrap` in chunks [r, U], small enough for work arrays of r x `longest`."""
    generator = np.random.default_rng(seed)
    rows_at_once = max(1, _CHUNK // max(1, longest))
    for first in range(0, replicates, rows_at_once):
        yield draw(generator, units, min(rows_at_once, replicates - first))


def means_by_unit(
    hits: NDArray[np.float64], units: Sequence[str] | NDArray, replicates: int, seed: int
) -> NDArray[np.float64]:  # fmt: skip
    """Means [R, k] of hits [N, k] under resamples of units [N]."""
    # A mean is a ratio of sums by unit, so a resample costs one product and no gather of rows.
    codes, names = pd.factorize(np.asarray(units))
    sums = np.stack([np.bincount(codes, column, len(names)) for column in (*hits.T, np.ones(len(hits)))], axis=1)
    drawn = [counts @ sums for counts in draws(len(names), replicates, seed, len(names))]
    totals = np.concatenate(drawn)
    return totals[:, :-1] / totals[:, -1:]


def draw(generator: np.random.Generator, units: int, replicates: int) -> NDArray[np.int32]:
    """How often each unit occurs in each resample of `units` out of `units`: int32 [R, U], rows sum to U."""
    counts = np.zeros((replicates, units), dtype=np.int32)
    for row in counts if units else ():
        row[:] = np.bincount(generator.integers(units, size=units), minlength=units)
    return counts


def interval(samples: ArrayLike, level: float = 0.95) -> tuple[float, float, int]:
    """Percentile interval of [R] replicates and the number of undefined (NaN) ones, left out; NaNs if all are."""
    values = np.asarray(samples, dtype=np.float64)
    defined = values[np.isfinite(values)]
    if not len(defined):
        return float("nan"), float("nan"), len(values)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), len(values) - len(defined)


def macro(samples: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Mean over columns in each replicate, [R]: over the columns that have both labels in that replicate."""
    table = np.stack([np.asarray(column, dtype=np.float64) for column in samples])
    counts = np.isfinite(table).sum(axis=0)
    return np.divide(np.nansum(table, axis=0), counts, out=np.full(table.shape[1], np.nan), where=counts > 0)
