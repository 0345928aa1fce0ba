"""ROC, precision-recall and reliability curves, for pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radz.scoring import statistics


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """False-positive rate, true-positive rate and threshold, float64 [T] each, from (0, 0) at inf to (1, 1).

    Points on a straight line between their neighbours are left out. Raises ValueError when a class is missing.
    """
    reason = statistics.undefined_reason(labels)
    if reason:
        raise ValueError(f"no ROC curve: {reason}")
    ranking = statistics.Ranking(labels, scores)
    positive = np.zeros(len(ranking.rows), dtype=np.int64)
    positive[ranking.positive_at] = 1
    last = np.flatnonzero(np.r_[np.diff(ranking.scores) != 0, True])
    hits = np.r_[0, np.cumsum(positive)[last]]
    false = np.r_[0, last + 1] - hits
    rise, run = np.diff(hits), np.diff(false)
    corner = np.r_[True, rise[:-1] * run[1:] != rise[1:] * run[:-1], True]
    threshold = np.r_[np.inf, ranking.scores[last]]
    return false[corner] / false[-1], hits[corner] / hits[-1], threshold[corner]


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """Recall, precision and threshold, float64 [T] each, one point per distinct score from the highest down.

    Raises ValueError when a class is missing.
    """
    reason = statistics.undefined_reason(labels)
    if reason:
        raise ValueError(f"no precision-recall curve: {reason}")
    ranking = statistics.Ranking(labels, scores)
    positive = np.zeros(len(ranking.rows), dtype=np.int64)
    positive[ranking.positive_at] = 1
    last = np.flatnonzero(np.r_[np.diff(ranking.scores) != 0, True])
    hits = np.cumsum(positive)[last]
    return hits / hits[-1], hits / (last + 1), ranking.scores[last]
