"""What is measured on one column of scores, as arrays over the replicates of a bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPECIFICITY = 0.9
"""of `Measures.sensitivity`"""


@dataclass(frozen=True)
class Counts:
    """Rows called positive at T thresholds under R weightings: float64, [R, T] and [R]; NaN where nothing is known.

    What is computed from them is NaN where a weighting holds one class only; the counts still add up.
    """

    found: NDArray[np.float64]
    """[R, T], true positives"""
    called: NDArray[np.float64]
    """[R, T], true and false positives"""
    positives: NDArray[np.float64]
    """[R]"""
    total: NDArray[np.float64]
    """[R], all rows"""

    def __add__(self, other: Counts) -> Counts:
        """Counts over the rows of both, for micro means."""
        return Counts(
            self.found + other.found, self.called + other.called, self.positives + other.positives,
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
        return 2.0 * self.found / (self.called + self._positives)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """[R, T], share of rows called rightly."""
        total = self.total[:, None]
        return (total - self.called - self._positives + 2.0 * self.found) / total

    @property
    def mcc(self) -> NDArray[np.float64]:
        """[R, T], Matthews' correlation; 0 when all rows are called alike, as in scikit-learn."""
        positives, total = self._positives, self.total[:, None]
        spread = positives * (total - positives) * self.called * (total - self.called)
        top = self.found * total - positives * self.called
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

    @property
    def f1(self) -> NDArray[np.float64]:
        """[R, T], at the thresholds asked for."""
        return self.fixed.f1

    @staticmethod
    def joined(parts: Sequence[Measures]) -> Measures:
        """One after the other along R."""

        def joined(name: str) -> NDArray[np.float64]:
            return np.concatenate([getattr(part, name) for part in parts])

        def counts(of: str) -> Counts:
            mine = [getattr(part, of) for part in parts]
            columns = {
                name: np.concatenate([getattr(one, name) for one in mine]) for name in Counts.__dataclass_fields__
            }
            return Counts(**columns)

        return Measures(
            joined("auroc"), joined("auprc"), joined("sensitivity"), joined("best_threshold"), counts("best"),
            counts("fixed"),
        )  # fmt: skip
