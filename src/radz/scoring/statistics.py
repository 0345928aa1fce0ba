"""Ranking metrics, F1 rules and their bootstrap by patient: numpy in, plain values out.

Names of sizes: N rows, U bootstrap units (patients), R replicates, C columns (one finding of one scorer).

Every metric is computed from one object, `Ranking`: a column sorted once, evaluated under any number of row weights. A
bootstrap replicate is nothing but a weight per patient (how often the patient was drawn), so 1,000 replicates cost one
sort, one gather and one cumulative sum. Ties are exact: a tie group is passed as a whole, as scikit-learn does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

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


@dataclass(frozen=True)
class Measures:
    """Metrics of one column under R weightings, each float64 [R]; NaN where a weighting holds one class only."""

    auroc: NDArray[np.float64]
    auprc: NDArray[np.float64]
    best_f1: NDArray[np.float64]
    best_threshold: NDArray[np.float64]
    f1: NDArray[np.float64]  # [R, T], at the T thresholds asked for


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
            nothing = np.full(replicates, np.nan)
            return Measures(nothing, nothing, nothing, nothing, np.full((replicates, len(thresholds)), np.nan))
        unit = self.rows if units is None else units[self.rows]
        # Integer weights are summed as integers, so replicates are exact and do not depend on the order of addition.
        kind = np.int32 if np.issubdtype(weights.dtype, np.integer) else np.float64
        drawn = np.take(weights, unit, axis=1)
        called = np.cumsum(drawn, axis=1, dtype=kind)
        within = np.add.reduceat(drawn[:, self.positive_at], self._first_positive, axis=1, dtype=kind).astype(float)
        hits = np.cumsum(within, axis=1)
        up_to = called[:, self._end].astype(float)
        before = np.where(self._start > 0, called[:, np.maximum(self._start - 1, 0)], 0).astype(float)
        total, positives = called[:, -1].astype(float), hits[:, -1]
        negatives = total - positives
        usable = (positives > 0) & (negatives > 0)

        with np.errstate(invalid="ignore", divide="ignore"):
            # Twice the area above the curve: each positive, times the negatives above it and half of those tied.
            missed = (within * ((before - (hits - within)) + (up_to - hits))).sum(axis=1)
            auroc = 1.0 - missed / (2.0 * positives * negatives)
            precision = np.divide(hits, up_to, out=np.zeros_like(hits), where=up_to > 0)
            auprc = (within * precision).sum(axis=1) / positives
            f1_at_group = 2.0 * hits / (up_to + positives[:, None])
            best = f1_at_group[usable].argmax(axis=1)
        best_f1, best_threshold = np.full(replicates, np.nan), np.full(replicates, np.nan)
        best_f1[usable] = f1_at_group[usable, best]
        best_threshold[usable] = self.scores[self._end[best]]

        f1 = np.full((replicates, len(thresholds)), np.nan)
        for column, threshold in enumerate(thresholds):
            if np.isnan(threshold):
                continue
            rows_called = int((self.scores >= threshold).sum())
            groups_called = int((self._start < rows_called).sum())
            found = hits[usable, groups_called - 1] if groups_called else 0.0
            marked = called[usable, rows_called - 1] if rows_called else 0.0
            f1[usable, column] = 2.0 * found / (marked + positives[usable])
        auroc[~usable] = auprc[~usable] = np.nan
        return Measures(auroc, auprc, best_f1, best_threshold, f1)


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


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """False-positive rate, true-positive rate and threshold, float64 [T] each, from (0, 0) at inf to (1, 1).

    Points on a straight line between their neighbours are left out. Raises ValueError when a class is missing.
    """
    reason = undefined_reason(labels)
    if reason:
        raise ValueError(f"no ROC curve: {reason}")
    ranking = Ranking(labels, scores)
    positive = np.zeros(len(ranking.rows), dtype=np.int64)
    positive[ranking.positive_at] = 1
    last = np.flatnonzero(np.r_[np.diff(ranking.scores) != 0, True])
    hits = np.r_[0, np.cumsum(positive)[last]]
    false = np.r_[0, last + 1] - hits
    rise, run = np.diff(hits), np.diff(false)
    corner = np.r_[True, rise[:-1] * run[1:] != rise[1:] * run[:-1], True]
    threshold = np.r_[np.inf, ranking.scores[last]]
    return false[corner] / false[-1], hits[corner] / hits[-1], threshold[corner]


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
    generator = np.random.default_rng(seed)
    rows_at_once = max(1, _CHUNK // max(1, len(units)))
    parts: list[list[Measures]] = [[] for _ in rankings]
    for first in range(0, replicates, rows_at_once):
        counts = draw(generator, len(names), min(rows_at_once, replicates - first))
        for column, ranking in enumerate(rankings):
            parts[column].append(ranking.measure(counts, units, thresholds[column]))
    return [
        Measures(*(np.concatenate([getattr(p, field) for p in part]) for field in Measures.__dataclass_fields__))
        for part in parts
    ]


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
