"""From the score table to the numbers of metrics.json: support, metrics, intervals, macro means, exclusions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError, nearest
from radz.scoring import statistics
from radz.scoring.table import ScoreTable

SEEN = ("label", "text", "none")
METRICS = ("auroc", "auprc", "f1_oracle", "f1_validation", "f1_half")
HALF = 0.5

Thresholds = Mapping[str, Mapping[str, float]]
"""Scorer -> finding -> threshold."""


def thresholds_from(table: ScoreTable) -> dict[str, dict[str, float]]:
    """Best-F1 threshold per scorer and finding, for `results(thresholds_validation=...)`.

    Findings without both labels, or without this scorer, have no entry.
    """
    return {
        scorer: {
            finding: statistics.best_f1(table.labels[:, column], values[:, column])[0]
            for column, finding in enumerate(table.findings)
            if _excluded(table, scorer, column) is None
        }
        for scorer, values in table.scores.items()
    }


def results(
    table: ScoreTable,
    seen: Mapping[str, str],
    primary: Iterable[str],
    thresholds_validation: Thresholds | None,
    replicates: int = 1000,
    seed: int = 0,
    coverage: Mapping[str, Any] | None = None,
    headline: str | None = None,
) -> dict[str, Any]:
    """The value of `results["<corpus>/<split>"]` in metrics.json, ready for `json.dumps(allow_nan=False)`.

    Point values come from all rows, intervals from a percentile bootstrap by patient whose resamples all scorers and
    findings share; `f1_oracle` finds its best threshold anew in every replicate. Undefined numbers are None (null).

    Args:
        seen: finding -> "label" (named in training labels), "text" (only in training text) or "none".
        primary: findings of the protocol's macro; the others stand in the table and in `macro_by_seen` only.
        thresholds_validation: of `thresholds_from(validation table)`; None when no validation split was scored.
        coverage: counts to record; studies and patients are filled in from the table when absent.
        headline: scorer to compare with every other one, under `differences`: macro AUROC of the headline minus that of
            the other, over the primary findings that both score, paired (the same resamples for both).
    """
    chosen = list(primary)
    _check_names(table, seen, chosen, headline)
    columns = [(scorer, column) for scorer in table.scores for column in range(len(table.findings))]
    excluded = {cell: reason for cell in columns if (reason := _excluded(table, *cell)) is not None}
    cells = [cell for cell in columns if cell not in excluded]
    given = thresholds_validation or {}
    validation = {(s, c): given.get(s, {}).get(table.findings[c], math.nan) for s, c in cells}

    rankings = [statistics.Ranking(table.labels[:, c], table.scores[scorer][:, c]) for scorer, c in cells]
    thresholds = [(validation[cell], HALF) for cell in cells]
    once = np.ones((1, len(table)), dtype=np.int64)
    whole = [ranking.measure(once, thresholds=rule) for ranking, rule in zip(rankings, thresholds, strict=True)]
    drawn = statistics.bootstrap(rankings, table.patient, thresholds, replicates, seed)
    points = {cell: _by_metric(measures) for cell, measures in zip(cells, whole, strict=True)}
    samples = {cell: _by_metric(measures) for cell, measures in zip(cells, drawn, strict=True)}
    oracle = {cell: float(measures.best_threshold[0]) for cell, measures in zip(cells, whole, strict=True)}

    def macro(scorer: str, findings: Collection[str]) -> dict[str, dict[str, float | None]]:
        mine = [cell for cell in cells if cell[0] == scorer and table.findings[cell[1]] in findings]
        if not mine:
            return {metric: _entry(math.nan, np.zeros(0)) for metric in METRICS}
        return {
            metric: _entry(
                statistics.macro([points[cell][metric] for cell in mine])[0],
                statistics.macro([samples[cell][metric] for cell in mine]),
            )
            for metric in METRICS
        }

    def difference(other: str) -> dict[str, float | None]:
        pairs = [((headline, c), (other, c)) for s, c in cells if s == headline and table.findings[c] in chosen]
        pairs = [pair for pair in pairs if pair[1] in points]
        if not pairs:
            return _entry(math.nan, np.zeros(0))
        point, sample = (
            statistics.macro([of[ours]["auroc"] - of[theirs]["auroc"] for ours, theirs in pairs])
            for of in (points, samples)
        )
        return _entry(point[0], sample)

    def finding(cell: tuple[str, int]) -> dict[str, Any]:
        values = {metric: _entry(points[cell][metric][0], samples[cell][metric]) for metric in METRICS}
        undefined = statistics.interval(samples[cell]["auroc"])[2]
        seen_as = seen[table.findings[cell[1]]]
        return {**values, **_support(table, cell[1]), "seen": seen_as, "undefined_replicates": undefined}

    why = "no validation split was scored" if thresholds_validation is None else "no threshold from validation"
    scorers: dict[str, Any] = {}
    for scorer in table.scores:
        own = {table.findings[column]: (scorer, column) for s, column in cells if s == scorer}
        left_out = {table.findings[column]: reason for (s, column), reason in excluded.items() if s == scorer}
        no_threshold = {name: why for name, cell in own.items() if math.isnan(validation[cell])}
        scorers[scorer] = {
            "macro": macro(scorer, chosen),
            "macro_by_seen": {group: macro(scorer, [f for f in own if seen[f] == group]) for group in SEEN},
            "findings": {name: finding(cell) for name, cell in own.items()},
            "excluded": left_out,
            "unavailable": {"f1_validation": no_threshold} if no_threshold else {},
        }
    return {
        "coverage": {"studies": len(set(table.study_id)), "patients": len(set(table.patient)), **(coverage or {})},
        "primary": chosen,
        "bootstrap": {"unit": "patient", "replicates": replicates, "seed": seed, "interval": "percentile 95 %"},
        "thresholds": {
            "half": HALF,
            "validation": _nested(table, {cell: value for cell, value in validation.items() if math.isfinite(value)}),
            "oracle": _nested(table, oracle),
        },
        "differences": {s: {"auroc": difference(s)} for s in table.scores if s != headline} if headline else {},
        "scorers": scorers,
    }


def _nested(table: ScoreTable, values: Mapping[tuple[str, int], float]) -> dict[str, dict[str, float]]:
    """Scorer -> finding -> value."""
    return {
        scorer: {table.findings[column]: float(value) for (s, column), value in values.items() if s == scorer}
        for scorer in table.scores
    }


def _by_metric(measures: statistics.Measures) -> dict[str, NDArray[np.float64]]:
    """Name the measures taken at the thresholds (validation, HALF)."""
    columns = (measures.auroc, measures.auprc, measures.best_f1, measures.f1[:, 0], measures.f1[:, 1])
    return dict(zip(METRICS, columns, strict=True))


def _entry(point: float, samples: NDArray[np.float64]) -> dict[str, float | None]:
    low, high, _ = statistics.interval(samples)
    numbers = {"value": float(point), "low": low, "high": high}
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def _support(table: ScoreTable, column: int) -> dict[str, int]:
    """Counts among the rows with a known label; `positives` and `rows` count scored units, images or studies."""
    known = np.flatnonzero(np.isfinite(table.labels[:, column]))
    return {
        "positives": int((table.labels[known, column] == 1).sum()),
        "rows": len(known),
        "studies": len({table.study_id[i] for i in known}),
        "patients": len({table.patient[i] for i in known}),
    }


def _excluded(table: ScoreTable, scorer: str, column: int) -> str | None:
    if len(table) and np.isnan(table.scores[scorer][:, column]).all():
        return "scorer not available for this finding"
    return statistics.undefined_reason(table.labels[:, column])


def _check_names(table: ScoreTable, seen: Mapping[str, str], primary: Sequence[str], headline: str | None) -> None:
    if headline is not None and headline not in table.scores:
        raise InputError(f"{table.key}: headline scorer '{headline}' is not scored{nearest(headline, table.scores)}")
    for finding in table.findings:
        if seen.get(finding) not in SEEN:
            raise InputError(f"{table.key}: finding '{finding}' has seen '{seen.get(finding)}', must be one of {SEEN}")
    for finding in primary:
        if finding not in table.findings:
            hint = nearest(finding, table.findings)
            raise InputError(f"{table.key}: primary class '{finding}' is not scored{hint}; correct the protocol")
    if "" in table.patient:
        row = table.patient.index("") + 1
        raise InputError(f"{table.key} row {row}: no patient, so no bootstrap by patient; name the patient column")
