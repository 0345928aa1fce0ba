"""Scores in their order: AUROC, average precision and F1 of many weighted resamples at once, and their curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SPECIFICITY = 0.9
"""of `Measures.sensitivity`"""
Curve = tuple[NDArray, NDArray, NDArray]


@dataclass(frozen=True)
class Counts:
    """Rows called positive at T thresholds under R weightings: float64, [R, T] and [R]; NaN where nothing is known.

    What is computed from them is NaN where a weighting holds one class only; the counts still add up.
    """

    true_positives: NDArray[np.float64]
    """[R, T]"""
    called: NDArray[np.float64]
    """[R, T], true and false positives"""
    positives: NDArray[np.float64]
    """[R]"""
    total: NDArray[np.float64]
    """[R], all rows"""

    def __add__(self, other: Counts) -> Counts:
        """Counts over the rows of both, for micro means."""
        return Counts(
            self.true_positives + other.true_positives, self.called + other.called, self.positives + other.positives,
            self.total + other.total,
        )  # fmt: skip

    @property
    def _positives(self) -> NDArray[np.float64]:
        """[R, 1]"""
        both = (self.positives > 0) & (self.positives < self.total)
        return np.where(both, self.positives, np.nan)[:, None]

    @property
    def f1(self) -> NDArray[np.float64]:
        """[R, T]; 0 when nothing is called positive."""
        return 2.0 * self.true_positives / (self.called + self._positives)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """[R, T], share of rows called rightly."""
        total = self.total[:, None]
        return (total - self.called - self._positives + 2.0 * self.true_positives) / total

    @property
    def mcc(self) -> NDArray[np.float64]:
        """[R, T], Matthews' correlation; 0 when all rows are called alike, as in scikit-learn."""
        positives, total = self._positives, self.total[:, None]
        spread = positives * (total - positives) * self.called * (total - self.called)
        top = self.true_positives * total - positives * self.called
        nothing = np.where(np.isnan(spread), np.nan, 0.0)
        return np.divide(top, np.sqrt(np.maximum(spread, 0.0)), out=nothing, where=spread > 0)


@dataclass(frozen=True)
class Measures:
    """Metrics of one column under R weightings, each float64 [R]; NaN where a weighting holds one class only."""

    auroc: NDArray[np.float64]
    auprc: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    """highest sensitivity of a threshold whose specificity is at least SPECIFICITY"""
    best_threshold: NDArray[np.float64]
    best: Counts
    """[R, 1], at the threshold of the best F1"""
    fixed: Counts
    """[R, T], at the T thresholds asked for"""

    @property
    def best_f1(self) -> NDArray[np.float64]:
        """[R], the F1 of the oracle rule."""
        return self.best.f1[:, 0]


def joined(parts: Sequence[Measures]) -> Measures:
    """The measures of several chunks of replicates, one after the other along R."""

    def along(name: str, of: Sequence[Any]) -> NDArray[np.float64]:
        return np.concatenate([getattr(part, name) for part in of])

    def counts(name: str) -> Counts:
        chunks = [getattr(part, name) for part in parts]
        return Counts(*(along(field.name, chunks) for field in fields(Counts)))

    plain = {name: along(name, parts) for name in ("auroc", "auprc", "sensitivity", "best_threshold")}
    return Measures(**plain, best=counts("best"), fixed=counts("fixed"))


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


# Not scikit-learn's functions: they sort for each weighting anew, and a bootstrap has thousands over one order.
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
            fixed.true_positives[:, column] = hits[:, groups_called - 1] if groups_called else 0.0
            fixed.called[:, column] = called[:, rows_called - 1] if rows_called else 0.0
        return Measures(auroc, auprc, sensitivity, best_threshold, best, fixed)


def _once(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> Measures:
    ones = np.ones(np.asarray(labels).shape) if weights is None else np.asarray(weights)
    return Ranking(labels, scores).measure(ones[None])


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve of one finding; NaN when `undefined_reason` gives a reason. All arguments [N]."""
    return float(_once(labels, scores, weights).auroc[0])


def with_both_labels(
    labels: NDArray[np.floating], corpus: NDArray[np.integer]
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Rows with a known label, and column, of each corpus and finding with both labels there.

    What is chosen on validation is measured on these: over rows of corpora of other prevalence, scores that tell the
    hospitals apart would rank as those that find the disease.

    Args:
        labels: [N, C], 1 present, 0 absent, NaN unknown. corpus: [N], number of each row's corpus.
    """
    for number in np.unique(corpus):
        for column in range(labels.shape[1]):
            rows = np.flatnonzero((corpus == number) & ~np.isnan(labels[:, column]))
            if undefined_reason(labels[rows, column]) is None:
                yield rows, column


def macro_auroc(labels: NDArray[np.floating], scores: NDArray[np.floating], corpus: NDArray[np.integer]) -> float:
    """Mean AUROC of scores [N, C] over `with_both_labels`; NaN where there is none, or one of them lacks a score."""
    cells = [(labels[rows, k], scores[rows, k]) for rows, k in with_both_labels(labels, corpus)]
    values = [math.nan if np.isnan(of).any() else auroc(known, of) for known, of in cells]
    return float(np.mean(values)) if values else math.nan


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Sum of precision times step in recall, scikit-learn's definition (no interpolation); NaN when undefined."""
    return float(_once(labels, scores, weights).auprc[0])


def best_f1(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """The oracle rule: (threshold, F1) of the best F1 over all thresholds, the highest of equals; NaNs if undefined."""
    measures = _once(labels, scores, weights)
    return float(measures.best_threshold[0]), float(measures.best_f1[0])


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """False-positive rate, true-positive rate and threshold, float64 [T] each, from (0, 0) at inf to (1, 1).

    Points on a straight line between their neighbours are left out. Raises ValueError when a class is missing.
    """
    from sklearn.metrics import roc_curve

    truth, values = _known("ROC", labels, scores)
    false, true, threshold = roc_curve(truth, values, drop_intermediate=False)
    # Of equal steps alone scikit-learn drops the points between. Whole numbers of rows are compared without rounding.
    rise, run = (np.diff(np.rint(rate * (truth == of).sum())) for rate, of in ((true, 1), (false, 0)))
    corner = np.r_[True, rise[:-1] * run[1:] != rise[1:] * run[:-1], True]
    return false[corner], true[corner], threshold[corner]


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """Recall, precision and threshold, float64 [T] each, one point per distinct score from the highest down.

    Raises ValueError when a class is missing.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, threshold = precision_recall_curve(*_known("precision-recall", labels, scores))
    return recall[-2::-1], precision[-2::-1], threshold[::-1]  # the last point, recall 0, belongs to no score


def _known(curve: str, labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray]:
    """The rows whose label is known."""
    if reason := undefined_reason(labels):
        raise ValueError(f"no {curve} curve: {reason}")
    truth, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = np.isfinite(truth)
    return truth[known], values[known]
