"""How far scores depend on the sentence, and whether a denial is told from its statement.

Names of sizes: N scored rows, C findings, U patients, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from data_modules.findings import NO_FINDING
from radz.metrics import bootstrap, intervals
from radz.metrics.delong import Parts, parts
from radz.metrics.estimates import entry
from radz.metrics.score_table import ScoreTable

Columns = list[tuple[int, NDArray[np.bool_]]]
"""findings that are measured: number, and which rows have a known label"""


def in_wordings(table: ScoreTable, primary: Sequence[str], replicates: int, seed: int) -> dict[str, Any] | None:
    """What the wordings of a table say of its primary findings; None without wordings, or a finding with both labels.

    Args:
        replicates, seed: of the resamples of patients behind the intervals of shares.

    Returns:
        auroc: {least, median, most, by_wording: {name: macro AUROC of what is said less what is denied}}.
        negation: of studies that have a finding, the share that agrees more with what is said (`present`), and of
            those without it, more with what is denied (`absent`), means over findings and wordings; `balanced`, of
            both; `contradiction`, the rank correlation over studies between what is said and what is denied: near 1
            where "no" is not read, below 0 where it is.
        intervals: {name of a wording, present, absent or balanced: {value, low, high}} by patient.
        findings: those that entered.
    """
    columns = _columns(table, primary)
    if not table.wordings or not columns:
        return None
    units = pd.factorize(np.asarray(table.patient))[0]
    sides = {name: np.split(values.astype(np.float64), 2, axis=1) for name, values in table.wordings.items()}
    cells = {name: _parts(table.labels, said - denied, columns, units) for name, (said, denied) in sides.items()}
    areas = {name: float(np.mean([cell.auroc for cell in own])) for name, own in cells.items()}
    ordered = sorted(areas, key=lambda name: areas[name])
    told = _told(table.labels, list(sides.values()), columns, units, replicates, seed)
    contradiction = np.mean([_correlation(said, denied, columns) for said, denied in sides.values()])
    return {
        "auroc": {
            "least": areas[ordered[0]], "median": float(np.median(list(areas.values()))), "most": areas[ordered[-1]],
            "by_wording": areas,
        },
        "negation": {
            **{name: each["value"] for name, each in told.items()}, "contradiction": float(contradiction)
        },
        "intervals": {
            **{name: _between(areas[name], *intervals.of_mean(own)) for name, own in cells.items()},
            **told,
        },
        "findings": [table.findings[number] for number, _ in columns],
    }  # fmt: skip


def in_prompt_sets(table: ScoreTable, primary: Sequence[str]) -> dict[str, Any] | None:
    """Macro AUROC of the primary findings by each published prompt set of a table; None without sets, or a finding with
    both labels.

    Returns:
        auroc: {set: {value, low, high}} by patient; spread: the most less the least; findings: those that entered.
    """
    columns = _columns(table, primary)
    if not table.prompt_sets or not columns:
        return None
    units = pd.factorize(np.asarray(table.patient))[0]
    cells = {
        name: _parts(table.labels, values.astype(np.float64), columns, units)
        for name, values in table.prompt_sets.items()
    }
    areas = {name: float(np.mean([cell.auroc for cell in own])) for name, own in cells.items()}
    return {
        "auroc": {name: _between(areas[name], *intervals.of_mean(own)) for name, own in cells.items()},
        "spread": _between(max(areas.values()) - min(areas.values()), *intervals.NONE),
        "findings": [table.findings[number] for number, _ in columns],
    }


def _columns(table: ScoreTable, primary: Sequence[str]) -> Columns:
    """The primary findings with both labels, without no_finding, which sentences cannot deny in these words."""
    return [
        (number, known)
        for number, name in enumerate(table.findings)
        if name in primary and name != NO_FINDING
        and len(np.unique(table.labels[known := np.isfinite(table.labels[:, number]), number])) == 2
    ]  # fmt: skip


def _parts(
    labels: NDArray[np.float32], nearer: NDArray[np.float64], columns: Columns, units: NDArray[np.int64]
) -> list[Parts]:
    return [parts(labels[:, number], nearer[:, number], units, int(units.max()) + 1) for number, _ in columns]


def _between(value: float, low: float, high: float) -> dict[str, float | None]:
    return {"value": value, "low": None if math.isnan(low) else low, "high": None if math.isnan(high) else high}


def _told(
    labels: NDArray[np.float32], sides: Sequence[Sequence[NDArray[np.float64]]], columns: Columns,
    units: NDArray[np.int64], replicates: int, seed: int,
) -> dict[str, dict[str, float | None]]:  # fmt: skip
    """{present | absent | balanced: {value, low, high}}: how often the nearer of two sentences is the true one."""
    count = int(units.max()) + 1
    right, rows = [], []
    for number, known in columns:
        for value in (1, 0):
            those = known & (labels[:, number] == value)
            # A study that is as near to both is told by neither.
            true = [
                ((said - denied)[:, number] > 0 if value else (said - denied)[:, number] < 0) for said, denied in sides
            ]
            right.append(np.bincount(units, np.mean(true, axis=0) * those, minlength=count))
            rows.append(np.bincount(units, those, minlength=count))
    of_right, of_rows = np.stack(right, axis=1), np.stack(rows, axis=1)

    def shares(weights: NDArray[Any]) -> NDArray[np.float64]:
        """[R, C, 2], NaN where no such study was drawn."""
        among = weights @ of_rows
        share = np.divide(weights @ of_right, among, out=np.full(among.shape, np.nan), where=among > 0)
        return share.reshape(len(weights), len(columns), 2)

    whole = shares(np.ones((1, count)))
    drawn = np.concatenate([shares(weights) for weights in bootstrap.draws(count, replicates, seed, count)])
    present, absent = ([bootstrap.macro([*each[:, :, side].T]) for each in (whole, drawn)] for side in (0, 1))
    both = [(a + b) / 2 for a, b in zip(present, absent, strict=True)]
    named = {"present": present, "absent": absent, "balanced": both}
    return {name: entry(float(point[0]), samples) for name, (point, samples) in named.items()}


def _correlation(said: NDArray[np.float64], denied: NDArray[np.float64], columns: Columns) -> float:
    """Mean over findings of the rank correlation; 0 where one side is the same for all."""
    found = []
    for number, known in columns:
        yes, no = said[known, number], denied[known, number]
        constant = yes.min() == yes.max() or no.min() == no.max()
        found.append(0.0 if constant else float(spearmanr(yes, no).statistic))
    return float(np.mean(found))
