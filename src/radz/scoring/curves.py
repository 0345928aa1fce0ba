"""ROC, precision-recall and reliability curves, for pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radz.scoring import statistics


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """False-positive rate, true-positive rate and threshold, float64 [T] each, from (0, 0) at inf to (1, 1).

    Points on a straight line between their neighbours are left out. Raises ValueError when a class is missing.
    """
    last, found, scores = _thresholds("ROC", labels, scores)
    hits = np.r_[0, found]
    false = np.r_[0, last + 1] - hits
    rise, run = np.diff(hits), np.diff(false)
    corner = np.r_[True, rise[:-1] * run[1:] != rise[1:] * run[:-1], True]
    threshold = np.r_[np.inf, scores]
    return false[corner] / false[-1], hits[corner] / hits[-1], threshold[corner]


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """Recall, precision and threshold, float64 [T] each, one point per distinct score from the highest down.

    Raises ValueError when a class is missing.
    """
    last, hits, scores = _thresholds("precision-recall", labels, scores)
    return hits / hits[-1], hits / (last + 1), scores


def _thresholds(curve: str, labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """At each distinct score, from the highest down: its last place, the positives up to there, the score itself."""
    if reason := statistics.undefined_reason(labels):
        raise ValueError(f"no {curve} curve: {reason}")
    ranking = statistics.Ranking(labels, scores)
    positive = np.zeros(len(ranking.rows), dtype=np.int64)
    positive[ranking.positive_at] = 1
    last = np.flatnonzero(np.r_[np.diff(ranking.scores) != 0, True])
    return last, np.cumsum(positive)[last], ranking.scores[last]
