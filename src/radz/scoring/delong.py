"""Variance of AUROC and paired tests after DeLong et al. 1988, by midranks (Sun & Xu 2014), and Holm's correction.

Rows count as independent: with several rows per patient the bootstrap by patient holds its level, this does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class DeLong:
    """AUROC of S scorers on the same rows."""

    auroc: NDArray[np.float64]
    """[S]"""
    covariance: NDArray[np.float64]
    """[S, S]"""

    def interval(self, scorer: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Wald interval of one AUROC, kept within [0, 1] (as pROC does)."""
        half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(max(self.covariance[scorer, scorer], 0.0))
        value = float(self.auroc[scorer])
        return max(0.0, value - half), min(1.0, value + half)

    def p_value(self, first: int = 0, second: int = 1) -> float:
        """Two-sided p of equal AUROC; 1 where the two rank all rows alike."""
        c = self.covariance
        variance = c[first, first] + c[second, second] - 2 * c[first, second]
        difference = float(self.auroc[first] - self.auroc[second])
        if variance <= 1e-14:
            # Without spread only equal areas are no surprise; rounding leaves about 1e-17.
            return 1.0 if abs(difference) < 1e-12 else 0.0
        return math.erfc(abs(difference) / math.sqrt(2 * variance))


def delong(labels: ArrayLike, scores: Sequence[ArrayLike]) -> DeLong:
    """AUROC and covariance of scorers on the rows whose label is known.

    Args:
        labels: [N], 1 present, 0 absent, NaN unknown.
        scores: S columns [N], finite where the label is known.

    Raises:
        ValueError: fewer than two rows of a class, of which no variance can be told.
    """
    truth = np.asarray(labels, dtype=np.float64)
    known = np.isfinite(truth)
    positive = truth[known] == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if min(ones, zeros) < 2:
        raise ValueError(f"DeLong needs two rows of each class, there are {ones} positive and {zeros} negative")
    shares_of_ones, shares_of_zeros = [], []
    for column in scores:
        values = np.asarray(column, dtype=np.float64)[known]
        if not np.isfinite(values).all():
            raise ValueError("scores of rows with a known label must be finite")
        rank = midranks(values)
        # Of each positive the share of negatives it beats, of each negative the share of positives that beat it.
        shares_of_ones.append((rank[positive] - midranks(values[positive])) / zeros)
        shares_of_zeros.append(1.0 - (rank[~positive] - midranks(values[~positive])) / ones)
    v10, v01 = np.stack(shares_of_ones), np.stack(shares_of_zeros)
    covariance = np.atleast_2d(np.cov(v10)) / ones + np.atleast_2d(np.cov(v01)) / zeros
    return DeLong(v10.mean(axis=1), covariance)


def midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing their mean rank."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    start = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else np.zeros(0, np.int64)
    size = np.diff(np.r_[start, len(values)])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(start + (size + 1) / 2, size)
    return ranks


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given."""
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for step, place in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[place]))
        adjusted[place] = highest
    return [float(p) for p in adjusted]
