"""Variance of AUROC and paired tests after DeLong et al. 1988, by midranks (Sun & Xu 2014), and Holm's correction.

Rows of one patient go together (Obuchowski 1997, doi.org/10.2307/2533958): what the rows add to an area is summed by
patient before it is squared. With one row a patient that is DeLong's variance itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Parts:
    """What each of U patients adds to the AUROC of one column of scores."""

    auroc: float
    ones: NDArray[np.float64]
    """[U], over the patient's positives: share of negatives beaten, minus the AUROC, over the number of positives"""
    zeros: NDArray[np.float64]
    """[U], over the patient's negatives, likewise"""
    with_ones: int
    """patients with a positive"""
    with_zeros: int
    """patients with a negative"""
    with_either: int

    @property
    def variances(self) -> tuple[float, float]:
        """That of the positives' part and of the negatives'; they add up where no patient has both."""
        of_ones, of_zeros = float(self.ones @ self.ones), float(self.zeros @ self.zeros)
        return _unbiased(self.with_ones) * of_ones, _unbiased(self.with_zeros) * of_zeros

    @cached_property
    def influence(self) -> NDArray[np.float64]:
        """[U]; sums of products of two columns' are their covariance."""
        return math.sqrt(_unbiased(self.with_ones)) * self.ones + math.sqrt(_unbiased(self.with_zeros)) * self.zeros


def parts(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, count: int) -> Parts:
    """AUROC and its parts by patient, on the rows whose label is known.

    A single patient of a class is its own mean and shows no spread; its part is then told against chance, .5.

    Args:
        labels: [N], 1 present, 0 absent, NaN unknown; both classes must be there.
        scores: [N], finite where the label is known.
        patients: int [N], number of each row's patient, below `count`.
    """
    truth, raw = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = np.isfinite(truth)
    values, positive, code = raw[known], truth[known] == 1, np.asarray(patients)[known]
    if not np.isfinite(values).all():
        raise ValueError("scores of rows with a known label must be finite")
    from scipy.stats import rankdata  # slow to import

    ones, zeros = int(positive.sum()), int((~positive).sum())
    rank = rankdata(values)
    # Of each positive the share of negatives it beats, of each negative the share of positives that beat it.
    beats = (rank[positive] - rankdata(values[positive])) / zeros
    beaten = 1.0 - (rank[~positive] - rankdata(values[~positive])) / ones
    with_ones, with_zeros, either = (
        int(np.count_nonzero(np.bincount(code[rows], minlength=count))) for rows in (positive, ~positive, slice(None))
    )
    auroc = float(beats.mean())
    sums = [
        np.bincount(code[rows], shares - (auroc if with_class > 1 else 0.5), count) / len(shares)
        for rows, shares, with_class in ((positive, beats, with_ones), (~positive, beaten, with_zeros))
    ]
    return Parts(auroc, sums[0], sums[1], with_ones, with_zeros, either)


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
        """Two-sided p of equal AUROC; NaN where their difference shows no spread: both are 0 or 1, or rank alike."""
        c = self.covariance
        variance = c[first, first] + c[second, second] - 2 * c[first, second]
        difference = float(self.auroc[first] - self.auroc[second])
        if variance <= 1e-14:  # rounding leaves about 1e-17
            return math.nan
        return math.erfc(abs(difference) / math.sqrt(2 * variance))


def delong(labels: ArrayLike, scores: Sequence[ArrayLike], patients: ArrayLike | None = None) -> DeLong:
    """AUROC and covariance of scorers on the rows whose label is known.

    Args:
        labels: [N], 1 present, 0 absent, NaN unknown.
        scores: S columns [N], finite where the label is known.
        patients: [N], patient of each row, whatever it is called; None takes every row for a patient of its own.

    Raises:
        ValueError: fewer than two patients with a row of a class, of which no variance can be told.
    """
    truth = np.asarray(labels, dtype=np.float64)
    codes = np.arange(len(truth)) if patients is None else pd.factorize(np.asarray(patients))[0]
    count = int(codes.max()) + 1 if len(codes) else 0
    with_class = [len(np.unique(codes[truth == label])) for label in (1, 0)]
    if min(with_class) < 2:
        unit = "rows" if patients is None else "patients"
        raise ValueError(f"DeLong needs two {unit} of each class, there are {with_class[0]} positive and "
                         f"{with_class[1]} negative")  # fmt: skip
    return covariance([parts(truth, column, codes, count) for column in scores])


def covariance(columns: Sequence[Parts]) -> DeLong:
    """Obuchowski's covariance of columns that share labels and patients."""
    first = columns[0]
    ones, zeros = (np.stack([getattr(one, side) for one in columns]) for side in ("ones", "zeros"))
    # Only patients with rows of both classes add to these products; without any they are 0, which is DeLong's own.
    across = ones @ zeros.T
    products = (
        _unbiased(first.with_ones) * (ones @ ones.T)
        + _unbiased(first.with_zeros) * (zeros @ zeros.T)
        + _unbiased(first.with_either) * (across + across.T)
    )
    return DeLong(np.array([one.auroc for one in columns]), products)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given."""
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for step, place in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[place]))
        adjusted[place] = highest
    return [float(p) for p in adjusted]


def _unbiased(patients: int) -> float:
    """n / (n - 1); 1 for a single patient, whose part is not told against its own mean."""
    return patients / (patients - 1) if patients > 1 else 1.0
