"""From the score table to the numbers of metrics.json: support, metrics, intervals, macro means, exclusions."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError, nearest
from radz.metrics import bootstrap, calibration, conformal
from radz.metrics.choice import Denied, two_scales
from radz.metrics.conformal import Sets
from radz.metrics.delong import covariance, holm
from radz.metrics.estimates import HALF, METRICS, Calibrations, Cell, Entry, Estimates, Thresholds, excluded
from radz.metrics.frequency import GROUPS as FREQUENCY
from radz.metrics.intervals import FEW, few, none_reason
from radz.metrics.ranking import SPECIFICITY, best_f1
from radz.metrics.score_table import ScoreTable

Value = TypeVar("Value")
log = logging.getLogger(__name__)
SEEN = ("label", "text", "none")
RANKED = ("auroc", "auprc", "sensitivity_90")
"""metrics that rank rows; micro, rows of all findings together"""
NOT_KNOWN = "unknown"
"""in place of these where nobody says what training had read"""
GROUPS = (*SEEN, NOT_KNOWN)


def thresholds_from(table: ScoreTable) -> dict[str, dict[str, float]]:
    """Best-F1 threshold per scorer and finding, for `results(thresholds_validation=...)`.

    Findings without both labels, or without this scorer, have no entry.
    """
    return _of_measured(table, lambda labels, scores: best_f1(labels, scores)[0])


def calibrations_from(table: ScoreTable) -> dict[str, dict[str, calibration.Platt]]:
    """Platt's fit per scorer and finding, for `results(calibrations=...)`; entries as in `thresholds_from`."""
    return _of_measured(table, calibration.fit)


def sets_from(table: ScoreTable) -> dict[str, dict[str, Sets]]:
    """Limits of conformal sets per scorer and finding, for `results(sets=...)`; entries as in `thresholds_from`."""
    return _of_measured(table, conformal.fit)


def _of_measured(table: ScoreTable, value: Callable[[NDArray, NDArray], Value]) -> dict[str, dict[str, Value]]:
    """Scorer -> finding -> what `value` makes of labels and scores [N], of those that can be measured."""
    return {
        scorer: {
            finding: value(*table.column(scorer, number))
            for number, finding in enumerate(table.findings)
            if excluded(table, scorer, number) is None
        }
        for scorer in table.scores
    }


def results(
    table: ScoreTable, seen: Mapping[str, str], primary: Iterable[str], thresholds_validation: Thresholds | None,
    replicates: int = 1000, seed: int = 0, coverage: Mapping[str, Any] | None = None, headline: str | None = None,
    calibrations: Calibrations | None = None, sets: Mapping[str, Mapping[str, Sets]] | None = None,
    frequency: Mapping[str, str] | None = None, denied: Denied | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The value of `results["<corpus>/<split>"]` in metrics.json, ready for `json.dumps(allow_nan=False)`.

    Point values come from all rows. Intervals of AUROC are those of `intervals`; of the other metrics they are
    percentiles of a bootstrap by patient whose resamples all scorers and findings share, in every replicate of which
    the oracle rule finds its threshold anew. Undefined numbers are None (null).

    Args:
        seen: finding -> "label" (named in training labels), "text" (only in training text), "none", or "unknown".
        primary: findings of the protocol's macro; the others stand in the table and in `macro_by_seen` only.
        thresholds_validation: of `thresholds_from(validation table)`; None when no validation split was scored.
        coverage: counts to record; studies and patients are filled in from the table when absent.
        headline: scorer to compare with every other one, under `differences`: macro AUROC of the headline minus that of
            the other, over the primary findings that both score, paired; and the same per finding, with DeLong's p and
            its correction after Holm.
        calibrations: of `calibrations_from(validation table)`, for Brier score and calibration error.
        sets: of `sets_from(validation table)`, for the answers of the headline.
        frequency: finding -> its group of `frequency.GROUPS`, for the means over the primary findings of each group;
            None where no training split says so.
        denied: of scorers that compare with sentences; where `two_scales`, micro has none of RANKED.
    """
    chosen = list(primary)
    _check_names(table, seen, chosen, headline)
    table, repeated = table.distinct()
    if repeated:
        log.warning(
            "%s: %d row(s) repeat a study and are left out, first row %d", table.key, len(repeated), repeated[0]
        )
    measured = Estimates(table, thresholds_validation or {}, calibrations or {}, replicates, seed)
    rules = {"f1_validation": thresholds_validation, "brier": calibrations}
    scorers = {scorer: _scorer(measured, scorer, seen, chosen, rules, frequency) for scorer in table.scores}
    for scorer, of in scorers.items():
        if why := two_scales(denied or {}, scorer, [name for name in chosen if name in of["findings"]]):
            of["micro"] |= {metric: dict.fromkeys(("value", "low", "high")) for metric in RANKED}
            of["not_pooled"] = why
    studies = {"studies": len(set(table.study_id)), "patients": len(set(table.patient))}
    return {
        "coverage": {**studies, **(coverage or {}), **({"duplicates": len(repeated)} if repeated else {})},
        "primary": chosen,
        "inference": inference(table),
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
        "conformal": _answers(table, headline, sets, calibrations, chosen) if headline else None,
        "scorers": scorers,
    }  # fmt: skip


def _answers(
    table: ScoreTable, headline: str, sets: Mapping[str, Mapping[str, Sets]] | None, fits: Calibrations | None,
    chosen: Sequence[str],
) -> dict[str, Any] | None:  # fmt: skip
    own = (sets or {}).get(headline, {}), (fits or {}).get(headline, {})
    return conformal.answers(table, headline, *own, chosen)


def _scorer(
    measured: Estimates, scorer: str, seen: Mapping[str, str], chosen: Sequence[str],
    rules: Mapping[str, Mapping[str, Mapping[str, Any]] | None], frequency: Mapping[str, str] | None,
) -> dict[str, Any]:  # fmt: skip
    """All of one scorer; `rules`: metric -> what validation gave for it, by scorer and finding, if there was one."""
    findings = measured.table.findings
    own = {findings[cell[1]]: cell for cell in measured.of(scorer, findings)}
    missing = {
        "f1_validation": [n for n, cell in own.items() if cell not in measured.thresholds["validation"]],
        "brier": [n for n in own if n not in (rules["brier"] or {}).get(scorer, {})],
    }
    shown = GROUPS if NOT_KNOWN in seen.values() else SEEN
    groups = {group: measured.of(scorer, [n for n in own if seen[n] == group]) for group in shown}
    often = frequency or {}
    by_frequency = {
        group: _macro(measured, measured.of(scorer, [n for n in chosen if often[n] == group]))
        for group in FREQUENCY if often
    }  # fmt: skip
    return {
        "macro": _macro(measured, measured.of(scorer, chosen)),
        "micro": measured.micro(measured.of(scorer, chosen)),
        **({"macro_by_frequency": by_frequency} if by_frequency else {}),
        "macro_by_seen": {group: _macro(measured, cells) for group, cells in groups.items()},
        "findings": {n: {**_finding(measured, cell), "seen": seen[n]} for n, cell in own.items()},
        "excluded": {findings[c]: why for (s, c), why in measured.excluded.items() if s == scorer},
        "unavailable": {
            metric: dict.fromkeys(names, _why(metric, rules[metric])) for metric, names in missing.items() if names
        },
    }


def paired(measured: Estimates, pairs: Mapping[str, tuple[Cell, Cell]]) -> dict[str, dict[str, Any]]:
    """Of each finding AUROC of the first cell minus the second with its paired interval, DeLong's p and Holm's.

    p is None where a class has fewer than two patients, or the difference shows no spread.
    """
    tests: dict[str, dict[str, Any]] = {}
    for name, (ours, theirs) in pairs.items():
        columns = [measured.parts(cell) for cell in (ours, theirs)]
        p_value = math.nan if none_reason(columns[0]) else covariance(columns).p_value()
        tests[name] = {"auroc": measured.difference([ours], [theirs]), "p": None if math.isnan(p_value) else p_value}
    # Undefined tests do not count among those that are corrected for.
    tested = {name: of["p"] for name, of in tests.items() if of["p"] is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {name: {**of, "p_holm": adjusted.get(name)} for name, of in tests.items()}


def inference(table: ScoreTable) -> dict[str, Any]:
    """How intervals and p values of a table are made, and what they leave out; docs/statistics.md has it at length."""
    rows = Counter(table.patient)
    several = len(rows) < len(table)
    return {
        "rows": len(table),
        "patients": len(rows),
        "most_rows_of_a_patient": max(rows.values(), default=0),
        "auroc": "score interval, variance by patient",
        "difference": "Student's t, variance by patient",
        "others": "percentiles of resamples of patients",
        "p": "DeLong, variance by patient (Obuchowski 1997)" if several else "DeLong",
        "few": FEW,
        "leaves_out": "the variance of training: these are scores of one training",
    }


def _macro(measured: Estimates, cells: Sequence[Cell]) -> dict[str, Entry]:
    return {metric: measured.macro(cells, metric) for metric in METRICS}


def _finding(measured: Estimates, cell: Cell) -> dict[str, Any]:
    """Metrics and support; `few` and `no_interval` hold a reason or None."""
    own = measured.parts(cell)
    missing = none_reason(own)
    low, high = (None, None) if missing else covariance([own]).interval()
    return {
        **_macro(measured, [cell]),
        **_support(measured.table, cell[1]),
        "few": few(own),
        "no_interval": missing,
        "delong": {"low": low, "high": high},
        "undefined_replicates": bootstrap.interval(measured.samples[cell]["auroc"])[2],
    }


def _differences(measured: Estimates, headline: str, chosen: Collection[str]) -> dict[str, Any]:
    others = {}
    for other in measured.table.scores:
        if other == headline:
            continue
        both = [(h, (other, h[1])) for h in measured.of(headline, chosen) if (other, h[1]) in measured.points]
        pairs = {measured.table.findings[ours[1]]: (ours, theirs) for ours, theirs in both}
        whole = measured.difference([ours for ours, _ in both], [theirs for _, theirs in both])
        others[other] = {"auroc": whole, "findings": paired(measured, pairs)}
    return others


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
        if seen.get(finding) not in GROUPS:
            raise InputError(
                f"{table.key}: finding '{finding}' has seen '{seen.get(finding)}', must be one of {GROUPS}"
            )
    for finding in primary:
        if finding not in table.findings:
            hint = nearest(finding, table.findings)
            raise InputError(f"{table.key}: primary class '{finding}' is not scored{hint}; correct the protocol")
    if "" in table.patient:
        row = table.patient.index("") + 1
        raise InputError(f"{table.key} row {row}: no patient, so no bootstrap by patient; name the patient column")
