"""Probabilities by a fit on validation (Platt 1999), and how far they are off: Brier score and calibration error.

Names of sizes: N rows, U bootstrap units (patients), R replicates, B bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 10
"""of equal mass, by the quantiles of the rows measured"""
_STEPS = 100


@dataclass(frozen=True)
class Platt:
    """p = 1 / (1 + exp(-(slope * score + intercept)))."""

    slope: float
    intercept: float

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities, of the shape of the scores."""
        return 0.5 * (1.0 + np.tanh(0.5 * (self.slope * np.asarray(scores, dtype=np.float64) + self.intercept)))

    def moved(self, fitted: float, wanted: float) -> Platt:
        """The fit where the finding is rarer or more frequent but looks the same.

        Log-odds gain logit(wanted) - logit(fitted): by Bayes' rule the odds of a score are those of the prevalence
        times its likelihood ratio, and the latter stays (Saerens, Latinne and Decaestecker 2002).

        Args:
            fitted, wanted: prevalences in (0, 1), of the data fitted on and of those that are asked about.
        """
        return Platt(self.slope, self.intercept + _logit(wanted) - _logit(fitted))


def _logit(share: float) -> float:
    return math.log(share) - math.log1p(-share)


def fit(labels: ArrayLike, scores: ArrayLike) -> Platt:
    """Platt's fit with his targets (n1 + 1)/(n1 + 2) and 1/(n0 + 2), which keep it finite where classes separate.

    Args:
        labels: [N], 1, 0 or NaN (left out). scores: [N].

    Raises:
        ValueError: one class only, or scores that are all equal.
    """
    truth, raw = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = np.isfinite(truth)
    truth, raw = truth[known], raw[known]
    ones, zeros = float((truth == 1).sum()), float((truth == 0).sum())
    if not ones or not zeros:
        raise ValueError("no Platt fit: one class only")
    centre, spread = raw.mean(), raw.std()
    if raw.min() == raw.max():
        raise ValueError("no Platt fit: all scores are equal")
    x = np.stack([(raw - centre) / spread, np.ones_like(raw)])
    target = np.where(truth == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))

    def loss(weights: NDArray[np.float64]) -> float:
        line = weights @ x
        return float((np.logaddexp(0, line) - target * line).sum())

    # By hand, since metrics.json holds all digits and LogisticRegression stops some digits earlier.
    # Newton's steps, halved while they do not help; the problem is convex with two unknowns.
    weights = np.array([0.0, np.log((ones + 1) / (zeros + 1))])
    for _ in range(_STEPS):
        p = Platt(1.0, 0.0)(weights @ x)
        gradient, curvature = x @ (p - target), (x * (p * (1 - p))) @ x.T
        step = np.linalg.solve(curvature, gradient)
        before, size = loss(weights), 1.0
        while loss(weights - size * step) > before and size > 1e-8:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-12:
            break
    return Platt(float(weights[0] / spread), float(weights[1] - weights[0] * centre / spread))


class Calibration:
    """Calibration error of one column of probabilities, and its Brier score under any number of row weights.

    Bins hold equal numbers of the rows given; equal probabilities share one.
    """

    def __init__(self, labels: ArrayLike, probabilities: ArrayLike, units: ArrayLike | None = None) -> None:
        """All [N]; `units` are the bootstrap units of the rows, None means that row i is unit i."""
        truth, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
        known = np.flatnonzero(np.isfinite(truth))
        unit = known if units is None else np.asarray(units, dtype=np.int64)[known]
        y, p = truth[known], p[known]
        edges = np.quantile(p, np.linspace(0, 1, BINS + 1)) if len(p) else np.zeros(BINS + 1)
        self.bin = np.searchsorted(edges[1:-1], p)
        self.labels, self.probabilities, self.unit = y, p, unit
        # All that a resample needs are sums by patient: of squared errors, and of rows.
        count = int(unit.max()) + 1 if len(unit) else 0
        self._sums = np.column_stack([np.bincount(unit, (p - y) ** 2, count), np.bincount(unit, minlength=count)])

    @staticmethod
    def joined(parts: Sequence[Calibration]) -> Calibration:
        """All rows of several columns over the same units as one, binned anew."""
        labels, p, unit = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "probabilities", "unit")
        )
        return Calibration(labels, p, unit)

    def brier(self, weights: NDArray[np.generic]) -> NDArray[np.float64]:
        """Brier score [R] under weights [R, U]; NaN without weight on any row."""
        sums = weights[:, : len(self._sums)].astype(np.float64) @ self._sums
        return sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)

    @property
    def error(self) -> float:
        """Expected calibration error of the rows as they are; NaN without any.

        Not of resamples: these add to a mean of absolute gaps, and no interval made of them holds what it claims.
        """
        gaps = np.bincount(self.bin, self.probabilities - self.labels, BINS)
        return float(np.abs(gaps).sum() / len(self.labels)) if len(self.labels) else math.nan

    def curve(self) -> list[tuple[int, float, float]]:
        """Of each bin that holds rows: their number, mean probability and share of positives."""
        return [
            (int(inside.sum()), float(self.probabilities[inside].mean()), float(self.labels[inside].mean()))
            for inside in (self.bin == number for number in np.unique(self.bin))
        ]
