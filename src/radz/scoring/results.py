"""From the score table to the numbers of metrics.json: support, metrics, intervals, macro means, exclusions."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError, nearest
from radz.scoring import calibration, statistics
from radz.scoring.delong import delong, holm
from radz.scoring.measures import SPECIFICITY
from radz.scoring.samples import HALF, METRICS, Calibrations, Cell, Samples, Thresholds, excluded
from radz.scoring.table import ScoreTable

__all__ = ["HALF", "METRICS", "SEEN", "Calibrations", "Thresholds", "calibrations_from", "results", "thresholds_from"]
log = logging.getLogger(__name__)
SEEN = ("label", "text", "none")


def thresholds_from(table: ScoreTable) -> dict[str, dict[str, float]]:
    """Best-F1 threshold per scorer and finding, for `results(thresholds_validation=...)`.

    Findings without both labels, or without this scorer, have no entry.
    """
    return {
        scorer: {
            finding: statistics.best_f1(table.labels[:, column], values[:, column])[0]
            for column, finding in enumerate(table.findings)
            if excluded(table, scorer, column) is None
        }
        for scorer, values in table.scores.items()
    }


def calibrations_from(table: ScoreTable) -> dict[str, dict[str, calibration.Platt]]:
    """Platt's fit per scorer and finding, for `results(calibrations=...)`; entries as in `thresholds_from`."""
    return {
        scorer: {
            finding: calibration.fit(table.labels[:, column], values[:, column])
            for column, finding in enumerate(table.findings)
            if excluded(table, scorer, column) is None
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
    calibrations: Calibrations | None = None,
) -> dict[str, Any]:
    """The value of `results["<corpus>/<split>"]` in metrics.json, ready for `json.dumps(allow_nan=False)`.

    Point values come from all rows, intervals from a percentile bootstrap by patient whose resamples all scorers and
    findings share; the oracle rule finds its threshold anew in every replicate. Undefined numbers are None (null).

    Args:
        seen: finding -> "label" (named in training labels), "text" (only in training text) or "none".
        primary: findings of the protocol's macro; the others stand in the table and in `macro_by_seen` only.
        thresholds_validation: of `thresholds_from(validation table)`; None when no validation split was scored.
        coverage: counts to record; studies and patients are filled in from the table when absent.
        headline: scorer to compare with every other one, under `differences`: macro AUROC of the headline minus that of
            the other, over the primary findings that both score, paired (the same resamples for both); and the same per
            finding, with DeLong's p and its correction after Holm.
        calibrations: of `calibrations_from(validation table)`, for Brier score and calibration error.
    """
    chosen = list(primary)
    _check_names(table, seen, chosen, headline)
    table, repeated = table.distinct()
    if repeated:
        log.warning(
            "%s: %d row(s) repeat a study and are left out, first row %d", table.key, len(repeated), repeated[0]
        )
    measured = Samples(table, thresholds_validation or {}, calibrations or {}, replicates, seed)
    scorers: dict[str, Any] = {}
    for scorer in table.scores:
        own = {table.findings[cell[1]]: cell for cell in measured.of(scorer, table.findings)}
        missing = {
            "f1_validation": [n for n, cell in own.items() if cell not in measured.thresholds["validation"]],
            "brier": [n for n in own if n not in (calibrations or {}).get(scorer, {})],
        }
        groups = {group: measured.of(scorer, [n for n in own if seen[n] == group]) for group in SEEN}
        scorers[scorer] = {
            "macro": _macro(measured, measured.of(scorer, chosen)),
            "micro": _micro(measured, measured.of(scorer, chosen)),
            "macro_by_seen": {group: _macro(measured, cells) for group, cells in groups.items()},
            "findings": {n: {**_finding(measured, cell), "seen": seen[n]} for n, cell in own.items()},
            "excluded": {table.findings[c]: why for (s, c), why in measured.excluded.items() if s == scorer},
            "unavailable": {
                metric: dict.fromkeys(names, _why(metric, thresholds_validation if metric[0] == "f" else calibrations))
                for metric, names in missing.items() if names
            },
        }  # fmt: skip
    studies = {"studies": len(set(table.study_id)), "patients": len(set(table.patient))}
    return {
        "coverage": {**studies, **(coverage or {}), **({"duplicates": len(repeated)} if repeated else {})},
        "primary": chosen,
        "bootstrap": {"unit": "patient", "replicates": replicates, "seed": seed, "interval": "percentile 95 %"},
        "calibration": {
            "fit": "Platt, on validation", "error": f"{calibration.BINS} bins of equal mass",
            "parameters": {s: {n: [fit.slope, fit.intercept] for n, fit in of.items()} for s, of in
                           (calibrations or {}).items()},
        },
        "sensitivity_90": {"specificity": SPECIFICITY, "threshold": "on this split"},
        "thresholds": {
            "half": HALF,
            **{rule: _nested(table, measured.thresholds[rule]) for rule in ("validation", "oracle")},
        },
        "differences": _differences(measured, headline, chosen) if headline else {},
        "scorers": scorers,
    }  # fmt: skip


def paired(measured: Samples, pairs: Mapping[str, tuple[Cell, Cell]]) -> dict[str, dict[str, Any]]:
    """Of each finding AUROC of the first cell minus the second with its paired interval, DeLong's p and Holm's.

    p is None where a class has fewer than two rows.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, (ours, theirs) in pairs.items():
        found[name] = {
            "auroc": entry(*measured.difference([ours], [theirs])),
            "p": _p_value(measured.table, ours, theirs),
        }
    tested = [name for name, values in found.items() if values["p"] is not None]
    adjusted = holm([found[name]["p"] for name in tested])
    return {
        name: {**values, "p_holm": dict(zip(tested, adjusted, strict=True)).get(name)} for name, values in found.items()
    }


def entry(point: float, samples: NDArray[np.float64]) -> dict[str, float | None]:
    """A value with its interval; None for what is undefined."""
    low, high, _ = statistics.interval(samples)
    numbers = {"value": float(point), "low": low, "high": high}
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def _macro(measured: Samples, cells: Sequence[Cell]) -> dict[str, dict[str, float | None]]:
    return {metric: entry(*measured.macro(cells, metric)) for metric in METRICS}


def _micro(measured: Samples, cells: Sequence[Cell]) -> dict[str, dict[str, float | None]]:
    if not cells:
        return _macro(measured, cells)
    points, samples = measured.micro(cells)
    return {metric: entry(points[metric][0], samples[metric]) for metric in METRICS}


def _finding(measured: Samples, cell: Cell) -> dict[str, Any]:
    values = {metric: entry(*measured.macro([cell], metric)) for metric in METRICS}
    support = _support(measured.table, cell[1])
    undefined = statistics.interval(measured.samples[cell]["auroc"])[2]
    low = high = None
    if min(support["positives"], support["rows"] - support["positives"]) > 1:
        low, high = delong(measured.table.labels[:, cell[1]], [measured.table.scores[cell[0]][:, cell[1]]]).interval()
    return {**values, **support, "delong": {"low": low, "high": high}, "undefined_replicates": undefined}


def _differences(measured: Samples, headline: str, chosen: Collection[str]) -> dict[str, Any]:
    found = {}
    for other in measured.table.scores:
        if other == headline:
            continue
        both = [(h, (other, h[1])) for h in measured.of(headline, chosen) if (other, h[1]) in measured.points]
        pairs = {measured.table.findings[ours[1]]: (ours, theirs) for ours, theirs in both}
        whole = measured.difference([ours for ours, _ in both], [theirs for _, theirs in both])
        found[other] = {"auroc": entry(*whole), "findings": paired(measured, pairs)}
    return found


def _p_value(table: ScoreTable, ours: Cell, theirs: Cell) -> float | None:
    columns = [table.scores[scorer][:, column] for scorer, column in (ours, theirs)]
    try:
        return delong(table.labels[:, ours[1]], columns).p_value()
    except ValueError:  # one row of a class: no variance
        return None


def _why(metric: str, given: object) -> str:
    if given is None:
        return "no validation split was scored"
    return "no threshold from validation" if metric == "f1_validation" else "no Platt fit from validation"


def _nested(table: ScoreTable, values: Mapping[Cell, float]) -> dict[str, dict[str, float]]:
    """Scorer -> finding -> value."""
    return {
        scorer: {table.findings[column]: float(value) for (s, column), value in values.items() if s == scorer}
        for scorer in table.scores
    }


def _support(table: ScoreTable, column: int) -> dict[str, int]:
    """Counts among the rows with a known label; `positives` and `rows` count scored units, images or studies."""
    known = np.flatnonzero(np.isfinite(table.labels[:, column]))
    return {
        "positives": int((table.labels[known, column] == 1).sum()),
        "rows": len(known),
        "studies": len({table.study_id[i] for i in known}),
        "patients": len({table.patient[i] for i in known}),
    }


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
