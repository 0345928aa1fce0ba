"""Every metric of every scorer and finding of a table: its value, and its replicates under shared resamples."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radz.scoring import statistics
from radz.scoring.calibration import Calibration, Platt
from radz.scoring.measures import Counts, Measures
from radz.scoring.table import ScoreTable

RULES = ("oracle", "validation", "half")
"""How a threshold is chosen: best F1 on the rows measured (anew in each replicate), best F1 on validation, HALF."""
HALF = 0.5
METRICS = (
    "auroc", "auprc", *(f"{name}_{rule}" for name in ("f1", "accuracy", "mcc") for rule in RULES), "sensitivity_90",
    "brier", "calibration_error",
)  # fmt: skip

Cell = tuple[str, int]
"""Scorer and number of the finding."""
Values = dict[str, NDArray[np.float64]]
"""Metric -> one value per weighting."""
Thresholds = Mapping[str, Mapping[str, float]]
"""Scorer -> finding -> threshold."""
Calibrations = Mapping[str, Mapping[str, Platt]]
"""Scorer -> finding -> fit on validation."""


class Samples:
    """Metrics of the cells (scorer, finding) of a table that have both labels and scores that differ.

    Attributes:
        excluded: cell -> why it has no metric.
        points: cell -> metric -> [1], from all rows.
        samples: cell -> metric -> [R], under the same resamples of patients for every cell.
        thresholds: rule -> cell -> threshold.
    """

    def __init__(
        self, table: ScoreTable, thresholds: Thresholds, calibrations: Calibrations, replicates: int, seed: int
    ) -> None:
        """Measure; `thresholds` and `calibrations` are those of validation, with gaps where it has none."""
        self.table, self.replicates, self.seed = table, replicates, seed
        every = [(scorer, column) for scorer in table.scores for column in range(len(table.findings))]
        self.excluded = {cell: reason for cell in every if (reason := excluded(table, *cell)) is not None}
        self.cells = [cell for cell in every if cell not in self.excluded]
        names = table.findings
        validation = {(s, c): thresholds.get(s, {}).get(names[c], math.nan) for s, c in self.cells}
        fits = {(s, c): fit for s, c in self.cells if (fit := calibrations.get(s, {}).get(names[c])) is not None}
        self._units = pd.factorize(np.asarray(table.patient))[0].astype(np.int64)
        self._rankings = {cell: statistics.Ranking(*self._columns(cell)) for cell in self.cells}
        self._rules = {cell: (validation[cell], HALF) for cell in self.cells}
        self._calibrations = {
            cell: Calibration(labels, fit(scores), self._units)
            for cell, fit in fits.items()
            for labels, scores in [self._columns(cell)]
        }
        self._whole, self._drawn = self._measure(self._rankings, self._rules)
        self.points, self.samples = self._values(self._whole, self._drawn, self._calibrations)
        self.thresholds = {
            "oracle": {cell: float(measures.best_threshold[0]) for cell, measures in self._whole.items()},
            "validation": {cell: value for cell, value in validation.items() if math.isfinite(value)},
        }

    def of(self, scorer: str, findings: Collection[str]) -> list[Cell]:
        """The measured cells of a scorer among these findings."""
        return [cell for cell in self.cells if cell[0] == scorer and self.table.findings[cell[1]] in findings]

    def macro(self, cells: Sequence[Cell], metric: str) -> tuple[float, NDArray[np.float64]]:
        """Mean over cells: value and replicates [R]; NaN and none without cells."""
        if not cells:
            return math.nan, np.zeros(0)
        point, sample = (statistics.macro([of[cell][metric] for cell in cells]) for of in (self.points, self.samples))
        return float(point[0]), sample

    def difference(self, ours: Sequence[Cell], theirs: Sequence[Cell]) -> tuple[float, NDArray[np.float64]]:
        """Macro AUROC of `ours` minus `theirs`, cell by cell: value and replicates [R]; NaN and none without cells."""
        if not ours:
            return math.nan, np.zeros(0)
        point, sample = (
            statistics.macro([of[a]["auroc"] - of[b]["auroc"] for a, b in zip(ours, theirs, strict=True)])
            for of in (self.points, self.samples)
        )
        return float(point[0]), sample

    def micro(self, cells: Sequence[Cell]) -> tuple[Values, Values]:
        """Value [1] and replicates [R] of every metric over all rows of all cells.

        Areas and sensitivity rank all rows together; F1, accuracy and MCC add up the calls at each finding's threshold.
        """
        scorer, columns = cells[0][0], [column for _, column in cells]
        labels, scores = self.table.labels[:, columns], self.table.scores[scorer][:, columns]
        pooled = {("micro", 0): statistics.Ranking.pooled(labels, scores)}
        whole, drawn = self._measure(pooled, {("micro", 0): ()})
        parts: dict[Cell, Calibration] = {}
        if all(cell in self._calibrations for cell in cells):
            fitted = [self._calibrations[cell] for cell in cells]
            parts = {("micro", 0): Calibration.joined(fitted)}
        for pooled_measures, single in ((whole, self._whole), (drawn, self._drawn)):
            one = pooled_measures["micro", 0]
            best, fixed = (_added([getattr(single[cell], of) for cell in cells]) for of in ("best", "fixed"))
            pooled_measures["micro", 0] = Measures(
                one.auroc, one.auprc, one.sensitivity, one.best_threshold, best, fixed
            )
        points, samples = self._values(whole, drawn, parts)
        return points["micro", 0], samples["micro", 0]

    def _columns(self, cell: Cell) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scorer, column = cell
        return self.table.labels[:, column], self.table.scores[scorer][:, column]

    def _measure(
        self, rankings: Mapping[Cell, statistics.Ranking], rules: Mapping[Cell, Sequence[float]]
    ) -> tuple[dict[Cell, Measures], dict[Cell, Measures]]:
        once = np.ones((1, len(self.table)), dtype=np.int64)
        whole = {cell: ranking.measure(once, thresholds=rules[cell]) for cell, ranking in rankings.items()}
        drawn = statistics.bootstrap(
            list(rankings.values()), self.table.patient, list(rules.values()), self.replicates, self.seed
        )
        return whole, dict(zip(rankings, drawn, strict=True))

    def _values(
        self, whole: Mapping[Cell, Measures], drawn: Mapping[Cell, Measures], calibrations: Mapping[Cell, Calibration]
    ) -> tuple[dict[Cell, Values], dict[Cell, Values]]:
        points = {cell: _by_metric(measures) for cell, measures in whole.items()}
        samples = {cell: _by_metric(measures) for cell, measures in drawn.items()}
        patients = int(self._units.max()) + 1 if len(self._units) else 0
        once = np.ones((1, patients), dtype=np.int32)
        parts: dict[Cell, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {cell: [] for cell in calibrations}
        if calibrations:
            for counts in statistics.draws(patients, self.replicates, self.seed, patients):
                for cell, one in calibrations.items():
                    parts[cell].append(one.measure(counts))
        for cell, one in calibrations.items():
            points[cell]["brier"], points[cell]["calibration_error"] = one.measure(once)
            brier, error = (np.concatenate(values) for values in zip(*parts[cell], strict=True))
            # A replicate of one class is undefined for every metric alike.
            gone = np.isnan(samples[cell]["auroc"])
            samples[cell]["brier"], samples[cell]["calibration_error"] = (
                np.where(gone, np.nan, values) for values in (brier, error)
            )
        return points, samples


def excluded(table: ScoreTable, scorer: str, column: int) -> str | None:
    """Why a scorer has no metric for a finding, or None."""
    scores, labels = table.scores[scorer][:, column], table.labels[:, column]
    nan = np.isnan(scores)
    if len(table) and nan.all():
        return "scorer not available for this finding"
    if (reason := statistics.undefined_reason(labels)) is not None:
        return reason
    if nan.any():
        return f"{int(nan.sum())} of {len(scores)} scores are NaN, first in row {int(np.flatnonzero(nan)[0]) + 1}"
    known = scores[np.isfinite(labels)]
    return f"all {len(known):,} scores are equal" if known.min() == known.max() else None


def _by_metric(measures: Measures) -> Values:
    """Name the measures taken at the thresholds (validation, HALF); without thresholds their metrics are NaN."""
    nothing = np.full(len(measures.auroc), np.nan)
    found = {name: nothing for name in METRICS}
    found |= {"auroc": measures.auroc, "auprc": measures.auprc, "sensitivity_90": measures.sensitivity}
    for name in ("f1", "accuracy", "mcc"):
        fixed = getattr(measures.fixed, name)
        found[f"{name}_oracle"] = getattr(measures.best, name)[:, 0]
        for column, rule in enumerate(RULES[1:]):
            found[f"{name}_{rule}"] = fixed[:, column]
    return found


def _added(parts: Sequence[Counts]) -> Counts:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
