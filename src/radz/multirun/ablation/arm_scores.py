"""Numbers of several arms side by side: means over seeds and paired differences, with intervals by patient and seed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.errors import InputError
from radz.metrics import intervals
from radz.metrics.delong import Parts, parts
from radz.metrics.results_file import headline_in, read_results
from radz.metrics.score_table import ScoreTable, prediction_file

log = logging.getLogger(__name__)
SEEN = {"primary": "primary findings", "label": "seen by label", "text": "seen in text only", "none": "never named"}


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; NaN where it is undefined."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def holds(self) -> str:
        """What the interval holds."""
        return intervals.holds(self.seeds)


@dataclass
class ArmScores:
    """The macro AUROC of the headline scorer of one arm on one test split and one group of findings.

    Sizes: S seeds.
    """

    arm: str
    key: str
    """<corpus>/<split>"""
    group: str
    """a key of SEEN"""
    scorer: str
    """those of the seeds, which may have chosen different ones"""
    findings: tuple[str, ...]
    rows: str
    """digest of studies, patients and labels"""
    points: NDArray[np.float64]
    """[S]"""
    of_patients: intervals.Interval
    """of the mean over seeds, as far as patients go"""
    cells: list[list[Parts]]
    """of each seed, those of the findings"""

    @property
    def estimate(self) -> Estimate:
        """Mean over seeds; the interval holds patients, and seeds where there are several."""
        return _over_seeds(self.points, self.of_patients, intervals.UNIT)


def scores(arm: str, runs: Sequence[Path], scorer: str | None) -> list[ArmScores]:
    """Score the prediction files of an arm's runs, one a seed; `scorer` None is the headline of each run."""
    found = []
    metrics = [read_results(run) for run in runs]
    names = [scorer or headline_in(one, run) for one, run in zip(metrics, runs, strict=True)]
    for key, result in metrics[0]["results"].items():
        tables = [ScoreTable.read_csv(prediction_file(run, key)) for run in runs]
        for table in tables[1:]:
            if (table.study_id, table.image_id) != (tables[0].study_id, tables[0].image_id):
                raise InputError(f"{key}: the seeds of {arm} scored other studies; compare runs on the same data")
        every = [one["results"][key] for one in metrics]
        for name, one, run in zip(names, every, runs, strict=True):
            if name not in one["scorers"]:
                raise InputError(f"{run}: {key} has no scorer {name}; known: {', '.join(one['scorers'])}")
        known = _common(arm, key, [one["scorers"][name]["findings"] for name, one in zip(names, every, strict=True)])
        groups = {seen: [f for f, of in known.items() if of == {seen}] for seen in ("label", "text", "none")}
        primary = [f for f in result["primary"] if f in known and all(f in one["primary"] for one in every)]
        for group, findings in {"primary": primary, **groups}.items():
            if findings and (group == "primary" or set(findings) != set(primary)):
                cells = [_cells(table, name, findings) for name, table in zip(names, tables, strict=True)]
                found.append(ArmScores(
                    arm, key, group, ", ".join(dict.fromkeys(names)), tuple(findings), _rows(tables[0], findings),
                    np.array([np.mean([cell.auroc for cell in of]) for of in cells]),
                    intervals.of_mean([cell for of in cells for cell in of]),
                    cells,
                ))  # fmt: skip
    return found


def difference(arm: ArmScores, base: ArmScores) -> Estimate | None:
    """Mean of `arm` minus `base`, seed by seed over those that both have run; None on other findings or rows."""
    if (arm.findings, arm.rows) != (base.findings, base.rows):
        return None
    seeds = min(len(arm.points), len(base.points))
    points = arm.points[:seeds] - base.points[:seeds]
    ours, theirs = ([cell for of in one.cells[:seeds] for cell in of] for one in (arm, base))
    return _over_seeds(points, intervals.of_difference(ours, theirs))


def _over_seeds(
    points: NDArray[np.float64], of_patients: intervals.Interval, within: intervals.Interval = intervals.ANY
) -> Estimate:
    return Estimate(float(points.mean()), *intervals.with_seeds(points, of_patients, within), len(points))


def _cells(table: ScoreTable, scorer: str, findings: Sequence[str]) -> list[Parts]:
    codes, names = pd.factorize(np.asarray(table.patient))
    columns = [table.findings.index(name) for name in findings]
    return [parts(table.labels[:, c], table.scores[scorer][:, c], codes, len(names)) for c in columns]


def _common(arm: str, key: str, of_seeds: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """The findings that every seed measured, with the groups (`seen`) that they stand in; others are told."""
    every = dict.fromkeys(name for one in of_seeds for name in one)
    lost = [name for name in every if not all(name in one for one in of_seeds)]
    if lost:
        log.warning("%s, %s: %s not measured with every seed; left out", arm, key, ", ".join(lost))
    return {name: {one[name]["seen"] for one in of_seeds} for name in every if name not in lost}


def _rows(table: ScoreTable, findings: Sequence[str]) -> str:
    """12 hex digits of what is scored: studies, images, patients, and the labels of these findings."""
    columns = [table.findings.index(name) for name in findings]
    digest = hashlib.blake2b(json.dumps([table.study_id, table.image_id, table.patient]).encode(), digest_size=6)
    digest.update(np.ascontiguousarray(table.labels[:, columns]).tobytes())
    return digest.hexdigest()
