"""Every metric of every scorer and finding of a table: its value, and its replicates under shared resamples."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radz.metrics import bootstrap, intervals
from radz.metrics.calibration import Calibration, Platt
from radz.metrics.delong import Parts, parts
from radz.metrics.ranking import Measures, Ranking, undefined_reason
from radz.metrics.score_table import ScoreTable

RULES = ("oracle", "validation", "half")
"""How a threshold is chosen: best F1 on the rows measured (anew in each replicate), best F1 on validation, HALF."""
HALF = 0.5
METRICS = (
    "auroc", "auprc", *(f"{name}_{rule}" for name in ("f1", "accuracy", "mcc") for rule in RULES), "sensitivity_90",
    "brier", "calibration_error",
)  # fmt: skip

Cell = tuple[str, int]
"""Scorer and number of the finding."""
MICRO: Cell = ("micro", 0)
"""stands for all rows of several cells of a scorer, taken as one cell"""
Both = tuple[dict[Cell, Measures], dict[Cell, Measures]]
"""From all rows, R = 1, and from every resample."""
Entry = dict[str, float | None]
"""`value`, `low` and `high`; None for what is undefined."""
Values = dict[str, NDArray[np.float64]]
"""Metric -> one value per weighting."""
Thresholds = Mapping[str, Mapping[str, float]]
"""Scorer -> finding -> threshold."""
Calibrations = Mapping[str, Mapping[str, Platt]]
"""Scorer -> finding -> fit on validation."""


class Estimates:
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
        self._patients = int(self._units.max()) + 1 if len(self._units) else 0
        self._parts: dict[Cell, Parts] = {}
        self._calibrations = {
            cell: Calibration(labels, fit(scores), self._units)
            for cell, fit in fits.items()
            for labels, scores in [table.column(*cell)]
        }
        rankings = {cell: Ranking(*table.column(*cell)) for cell in self.cells}
        self._measures = self._measure(rankings, {cell: (validation[cell], HALF) for cell in self.cells})
        self.points, self.samples = self._values(self._measures, self._calibrations)
        self.thresholds = {
            "oracle": {cell: float(measures.best_threshold[0]) for cell, measures in self._measures[0].items()},
            "validation": {cell: value for cell, value in validation.items() if math.isfinite(value)},
        }

    def of(self, scorer: str, findings: Collection[str]) -> list[Cell]:
        """The measured cells of a scorer among these findings."""
        return [cell for cell in self.cells if cell[0] == scorer and self.table.findings[cell[1]] in findings]

    def parts(self, cell: Cell) -> Parts:
        """What each patient adds to the AUROC of a cell; computed once."""
        if cell not in self._parts:
            self._parts[cell] = parts(*self.table.column(*cell), self._units, self._patients)
        return self._parts[cell]

    def having(self, cells: Sequence[Cell], metric: str) -> list[Cell]:
        """Those of the cells that have a value of this metric, over which `macro` is a mean."""
        return [cell for cell in cells if cell in self.points and math.isfinite(self.points[cell][metric][0])]

    def macro(self, cells: Sequence[Cell], metric: str) -> Entry:
        """Mean over the cells `having` the metric with its interval: of AUROC by `intervals.of_mean`, else percentiles.

        None without cells. Where a cell is often missing in a resample its mean is of other findings than the value, so
        that has no interval.
        """
        if not (cells := self.having(cells, metric)):
            return _entry(math.nan, *intervals.NONE)
        point, sample = (bootstrap.macro([of[cell][metric] for cell in cells]) for of in (self.points, self.samples))
        own = [self.parts(cell) for cell in cells]
        if metric != "auroc" and len(cells) > 1 and intervals.often_missing(own):
            return _entry(float(point[0]), *intervals.NONE)
        return _with_interval(metric, float(point[0]), sample, own)

    def difference(self, ours: Sequence[Cell], theirs: Sequence[Cell]) -> Entry:
        """Macro AUROC of `ours` minus `theirs`, cell by cell, with its paired interval; None without cells."""
        pairs = list(zip(ours, theirs, strict=True))
        if not pairs:
            return _entry(math.nan, *intervals.NONE)
        value = float(np.mean([self.points[a]["auroc"] - self.points[b]["auroc"] for a, b in pairs]))
        own, other = ([self.parts(cell) for cell in side] for side in (ours, theirs))
        return _entry(value, *intervals.of_difference(own, other))

    def micro(self, cells: Sequence[Cell]) -> dict[str, Entry]:
        """Every metric over all rows of all cells, with its interval.

        Areas and sensitivity rank all rows together; F1, accuracy and MCC add up the calls at each finding's threshold.
        """
        if not cells:
            return {metric: self.macro(cells, metric) for metric in METRICS}
        columns = [column for _, column in cells]
        labels, scores = self.table.labels[:, columns], self.table.scores[cells[0][0]][:, columns]
        measures = self._measure({MICRO: Ranking.pooled(labels, scores)}, {MICRO: ()})
        # Rows of all findings rank together, but each finding is called at its own threshold: those counts add up.
        for of_micro, of_cells in zip(measures, self._measures, strict=True):
            best, fixed = (reduce(add, [getattr(of_cells[c], name) for c in cells]) for name in ("best", "fixed"))
            of_micro[MICRO] = replace(of_micro[MICRO], best=best, fixed=fixed)
        fitted = [self._calibrations[cell] for cell in cells if cell in self._calibrations]
        points, samples = self._values(
            measures, {MICRO: Calibration.joined(fitted)} if len(fitted) == len(cells) else {}
        )
        # Column by column, as `Ranking.pooled` lays them out; a patient's rows of all findings go together.
        units = np.tile(self._units, len(columns))
        together = parts(labels.ravel(order="F"), scores.ravel(order="F"), units, self._patients)
        return {
            metric: _with_interval(metric, points[MICRO][metric][0], samples[MICRO][metric], [together])
            for metric in METRICS
        }

    def _measure(self, rankings: Mapping[Cell, Ranking], rules: Mapping[Cell, Sequence[float]]) -> Both:
        once = np.ones((1, len(self.table)), dtype=np.int64)
        whole = {cell: ranking.measure(once, thresholds=rules[cell]) for cell, ranking in rankings.items()}
        drawn = bootstrap.bootstrap(
            list(rankings.values()), self.table.patient, list(rules.values()), self.replicates, self.seed
        )
        return whole, dict(zip(rankings, drawn, strict=True))

    def _values(
        self, measures: Both, calibrations: Mapping[Cell, Calibration]
    ) -> tuple[dict[Cell, Values], dict[Cell, Values]]:
        points, samples = ({cell: _by_metric(of_cell) for cell, of_cell in part.items()} for part in measures)
        once = np.ones((1, self._patients), dtype=np.int32)
        chunks: dict[Cell, list[NDArray[np.float64]]] = {cell: [] for cell in calibrations}
        # The same draws as those of the rankings, since they follow from the seed and the number of patients alone.
        for counts in bootstrap.draws(self._patients, self.replicates, self.seed, self._patients) if chunks else ():
            for cell, calibration in calibrations.items():
                chunks[cell].append(calibration.brier(counts))
        for cell, calibration in calibrations.items():
            points[cell] |= {"brier": calibration.brier(once), "calibration_error": np.array([calibration.error])}
            # A replicate of one class is undefined for every metric alike.
            gone = np.isnan(samples[cell]["auroc"])
            samples[cell]["brier"] = np.where(gone, np.nan, np.concatenate(chunks[cell]))
        return points, samples


def entry(point: float, samples: NDArray[np.float64]) -> Entry:
    """A value with the percentile interval of its replicates; None where its ends are one.

    Resamples that are all alike, as those of a share of 0 or 1, show no spread and tell of none.
    """
    low, high, _ = bootstrap.interval(samples)
    return _entry(point, *((low, high) if high - low > 1e-12 else intervals.NONE))  # rounding leaves about 1e-16


def mean_of_seeds(seeds: Sequence[Entry], within: intervals.Interval = intervals.ANY) -> Entry:
    """Mean of one number over trainings with an interval that holds patients and seeds; None where none has one.

    The patients' part is the mean of the single intervals' distances: never less than that of the mean. `within`: as
    for `intervals.with_seeds`.
    """
    points = np.array([math.nan if one["value"] is None else one["value"] for one in seeds])
    if all(one["low"] is None for one in seeds):
        return _entry(points.mean(), *intervals.NONE)
    # A seed whose resamples are all alike adds no distance.
    lows, highs = (
        np.array([point if one[end] is None else one[end] for point, one in zip(points, seeds, strict=True)])
        for end in ("low", "high")
    )
    return _entry(points.mean(), *intervals.with_seeds(points, (float(lows.mean()), float(highs.mean())), within))


def in_words(of: Mapping[str, float | None] | None, form: str = ".3f") -> str:
    """A value with its interval in words, `0.812 [0.790, 0.834]`; a dash for what is undefined."""
    value, low, high = (of.get(name) if of else None for name in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} [{low:{form}}, {high:{form}}]"


def excluded(table: ScoreTable, scorer: str, column: int) -> str | None:
    """Why a scorer has no metric for a finding, or None."""
    labels, scores = table.column(scorer, column)
    nan = np.isnan(scores)
    if len(table) and nan.all():
        return "scorer not available for this finding"
    if (reason := undefined_reason(labels)) is not None:
        return reason
    if nan.any():
        first = int(np.flatnonzero(nan)[0]) + 2  # of a file, whose header is row 1
        return f"{int(nan.sum())} of {len(scores)} scores are NaN, first in row {first}"
    known = scores[np.isfinite(labels)]
    return f"all {len(known):,} scores are equal" if known.min() == known.max() else None


def _entry(value: float, low: float, high: float) -> Entry:
    numbers = {"value": float(value), "low": low, "high": high}
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def _with_interval(metric: str, point: float, samples: NDArray[np.float64], cells: Sequence[Parts]) -> Entry:
    """A metric over cells: no metric has an interval where AUROC has none."""
    of_auroc = intervals.of_mean(cells)
    return _entry(point, *of_auroc) if metric == "auroc" or math.isnan(of_auroc[0]) else entry(point, samples)


def _by_metric(measures: Measures) -> Values:
    """Name the measures taken at the thresholds (validation, HALF); without thresholds their metrics are NaN."""
    nothing = np.full(len(measures.auroc), np.nan)
    metrics = {name: nothing for name in METRICS}
    metrics |= {"auroc": measures.auroc, "auprc": measures.auprc, "sensitivity_90": measures.sensitivity}
    for name in ("f1", "accuracy", "mcc"):
        fixed = getattr(measures.fixed, name)
        metrics[f"{name}_oracle"] = getattr(measures.best, name)[:, 0]
        for column, rule in enumerate(RULES[1:]):
            metrics[f"{name}_{rule}"] = fixed[:, column]
    return metrics
