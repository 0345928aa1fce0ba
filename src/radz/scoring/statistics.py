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

from radz.scoring.measures import SPECIFICITY, Counts, Measures

# Elements of the [R, N] work array of one bootstrap chunk: 8 MB of int32 stays near the processor's cache.
_CHUNK = 2_000_000


def undefined_reason(labels: ArrayLike) -> str | None:
    """Why no metric exists for these labels (1, 0, NaN = unknown), or None when both classes are there."""
    values = np.asarray(labels, dtype=np.float64)
    known = int(np.isfinite(values).sum())
    positives = int((values == 1).sum())
    if known == 0:
        return "no known label"
    if positives == 0:
        return f"no positive among {known:,} known labels"
    if positives == known:
        return f"no negative among {known:,} known labels"
    return None


class Ranking:
    """One column of scores with its labels, unknown labels left out, sorted by falling score.

    Args:
        labels: [N], 1 present, 0 absent, NaN unknown.
        scores: [N], higher means more likely present. Must be finite where the label is known.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        values, raw = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if values.shape != raw.shape or values.ndim != 1:
            raise ValueError(f"labels {values.shape} and scores {raw.shape} must be two columns of one length")
        rows = np.flatnonzero(np.isfinite(values))
        if not np.isfinite(raw[rows]).all():
            raise ValueError("scores of rows with a known label must be finite")
        if not np.isin(values[rows], (0.0, 1.0)).all():
            raise ValueError("known labels must be 0 or 1")
        rows = rows[np.argsort(-raw[rows], kind="stable")]
        self.rows = rows
        self.scores = raw[rows]
        self.positive_at = np.flatnonzero(values[rows] == 1)
        self.defined = 0 < len(self.positive_at) < len(rows)
        # Tie groups; only those that hold a positive can add area, precision or a better F1.
        start_of_group = np.flatnonzero(np.r_[True, np.diff(self.scores) != 0]) if len(rows) else np.zeros(0, np.int64)
        group_of_row = np.repeat(np.arange(len(start_of_group)), np.diff(np.r_[start_of_group, len(rows)]))
        groups, self._first_positive = np.unique(group_of_row[self.positive_at], return_index=True)
        self._start = start_of_group[groups]
        self._end = np.r_[start_of_group, len(rows)][groups + 1] - 1

    @staticmethod
    def pooled(labels: NDArray[np.floating], scores: NDArray[np.floating]) -> Ranking:
        """All findings as one column, for micro means: [N, C] each, every cell a row of the unit of its row."""
        ranking = Ranking(labels.ravel(order="F"), scores.ravel(order="F"))
        ranking.rows = ranking.rows % len(labels)
        return ranking

    def measure(
        self, weights: NDArray[np.generic], units: NDArray[np.int64] | None = None, thresholds: Sequence[float] = ()
    ) -> Measures:
        """All metrics under R weightings.

        Args:
            weights: [R, U] weight of each unit, integer or float, not negative.
            units: int64 [N], the unit of each original row; None means that row i is unit i.
            thresholds: T values; a row is called positive when its score >= threshold. NaN gives an F1 of NaN.
        """
        replicates = len(weights)
        if not self.defined:
            none = np.full(replicates, np.nan)
            one, each = (np.full((replicates, width), np.nan) for width in (1, len(thresholds)))
            return Measures(none, none, none, none, Counts(one, one, none, none), Counts(each, each, none, none))
        unit = self.rows if units is None else units[self.rows]
        # Integer weights are summed as integers, so replicates are exact and do not depend on the order of addition.
        kind = np.int32 if np.issubdtype(weights.dtype, np.integer) else np.float64
        drawn = np.take(weights, unit, axis=1)
        called = np.cumsum(drawn, axis=1, dtype=kind)
        within = np.add.reduceat(drawn[:, self.positive_at], self._first_positive, axis=1, dtype=kind).astype(float)
        hits = np.cumsum(within, axis=1)
        up_to = called[:, self._end].astype(float)
        before = np.where(self._start > 0, called[:, np.maximum(self._start - 1, 0)], 0).astype(float)
        total, positives = called[:, -1].astype(float), hits[:, -1].copy()
        negatives = total - positives
        every, usable, counted = np.arange(replicates), (positives > 0) & (negatives > 0), positives.copy()
        positives[~usable] = np.nan

        with np.errstate(invalid="ignore", divide="ignore"):
            # Twice the area above the curve: each positive, times the negatives above it and half of those tied.
            missed = (within * ((before - (hits - within)) + (up_to - hits))).sum(axis=1)
            auroc = 1.0 - missed / (2.0 * positives * negatives)
            precision = np.divide(hits, up_to, out=np.zeros_like(hits), where=up_to > 0)
            auprc = (within * precision).sum(axis=1) / positives
            # False positives only grow along the groups, so those within bounds are the first ones.
            bound = (1.0 - SPECIFICITY) * negatives * (1 + 1e-12)
            inside = (up_to - hits <= bound[:, None]).sum(axis=1)
            sensitivity = np.where(inside > 0, hits[every, np.maximum(inside - 1, 0)], 0.0) / positives
            np.add(up_to, positives[:, None], out=precision)
            f1_at_group = np.divide(hits, precision, out=precision)
            f1_at_group[~usable] = 0.0
            place = f1_at_group.argmax(axis=1)
        # Without any positive the best rule calls none, without any negative all.
        place = np.where(usable, place, len(self._end) - 1)
        best_called = np.where(counted > 0, up_to[every, place], 0.0)
        best = Counts(hits[every, place][:, None], best_called[:, None], counted, total)
        best_threshold = np.where(usable, self.scores[self._end[place]], np.nan)

        blank = np.full((replicates, len(thresholds)), np.nan)
        fixed = Counts(blank, blank.copy(), counted, total)
        for column, threshold in enumerate(thresholds):
            if np.isnan(threshold):
                continue
            rows_called = int(np.searchsorted(-self.scores, -threshold, side="right"))
            groups_called = int((self._start < rows_called).sum())
            fixed.found[:, column] = hits[:, groups_called - 1] if groups_called else 0.0
            fixed.called[:, column] = called[:, rows_called - 1] if rows_called else 0.0
        return Measures(auroc, auprc, sensitivity, best_threshold, best, fixed)


def _once(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, thresholds: Sequence[float] = ()
) -> Measures:
    ones = np.ones(np.asarray(labels).shape) if weights is None else np.asarray(weights)
    return Ranking(labels, scores).measure(ones[None], thresholds=thresholds)


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve of one finding; NaN when `undefined_reason` gives a reason. All arguments [N]."""
    return float(_once(labels, scores, weights).auroc[0])


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Sum of precision times step in recall, scikit-learn's definition (no interpolation); NaN when undefined."""
    return float(_once(labels, scores, weights).auprc[0])


def best_f1(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """The oracle rule: (threshold, F1) of the best F1 over all thresholds, the highest of equals; NaNs if undefined."""
    measures = _once(labels, scores, weights)
    return float(measures.best_threshold[0]), float(measures.best_f1[0])


def f1_at(labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> float:
    """F1 when rows with score >= threshold are called positive; 0 when none is, NaN when undefined."""
    return float(_once(labels, scores, weights, [threshold]).f1[0, 0])


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
    return [Measures.joined(part) for part in parts]


def draws(units: int, replicates: int, seed: int, longest: int) -> Iterator[NDArray[np.int32]]:
    """The resamples of `bootstrap` in chunks [r, U], small enough for work arrays of r x `longest`."""
    generator = np.random.default_rng(seed)
    rows_at_once = max(1, _CHUNK // max(1, longest))
    for first in range(0, replicates, rows_at_once):
        yield draw(generator, units, min(rows_at_once, replicates - first))


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
