"""Numbers of several arms side by side: mean and range over seeds, and paired differences with intervals by patient."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError
from radz.scoring import statistics
from radz.scoring.table import ScoreTable

log = logging.getLogger(__name__)
SEEN = {"primary": "primary findings", "label": "seen by label", "text": "seen in text only", "none": "never named"}


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass
class ArmScores:
    """The macro AUROC of the headline scorer of one arm on one test split and one group of findings.

    Sizes: S seeds, R replicates; the replicates of all arms are the same resamples of patients.
    """

    arm: str
    key: str
    """<corpus>/<split>"""
    group: str
    """a key of SEEN"""
    scorer: str
    findings: tuple[str, ...]
    rows: str
    """digest of studies, patients and labels"""
    points: NDArray[np.float64]
    """[S]"""
    replicates: NDArray[np.float64]
    """[R], means over seeds"""

    @property
    def estimate(self) -> Estimate:
        """Mean over seeds; the interval is that of the test set."""
        low, high, _ = statistics.interval(self.replicates)
        return Estimate(float(self.points.mean()), low, high)


def scores(arm: str, runs: Sequence[Path], scorer: str | None, replicates: int, seed: int) -> list[ArmScores]:
    """Score the prediction files of an arm's runs; `scorer` None is the headline of each run."""
    found = []
    metrics = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in runs]
    for key, result in metrics[0]["results"].items():
        name = scorer or metrics[0]["headline_scorer"]
        if name not in result["scorers"]:
            raise InputError(f"{runs[0]}: {key} has no scorer {name}; known: {', '.join(result['scorers'])}")
        tables = [ScoreTable.read_csv(run / "predictions" / f"{key.replace('/', '_')}.csv") for run in runs]
        for table in tables[1:]:
            if (table.study_id, table.image_id) != (tables[0].study_id, tables[0].image_id):
                raise InputError(f"{key}: the seeds of {arm} scored other studies; compare runs on the same data")
        every = [one["results"][key] for one in metrics]
        known = _common(arm, key, [one["scorers"].get(name, {"findings": {}})["findings"] for one in every])
        groups = {seen: [f for f, of in known.items() if of == {seen}] for seen in ("label", "text", "none")}
        primary = [f for f in result["primary"] if f in known and all(f in one["primary"] for one in every)]
        for group, findings in {"primary": primary, **groups}.items():
            if findings and (group == "primary" or set(findings) != set(primary)):
                points, drawn = _macro(tables, name, findings, replicates, seed)
                rows = _rows(tables[0], findings)
                found.append(ArmScores(arm, key, group, name, tuple(findings), rows, points, drawn))
    return found


def difference(arm: ArmScores, base: ArmScores) -> Estimate | None:
    """Mean over seeds of `arm` minus `base` with the paired interval; None when they score other findings or rows."""
    if (arm.findings, arm.rows) != (base.findings, base.rows) or arm.replicates.shape != base.replicates.shape:
        return None
    low, high, _ = statistics.interval(arm.replicates - base.replicates)
    return Estimate(float(arm.points.mean() - base.points.mean()), low, high)


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


def _macro(
    tables: Sequence[ScoreTable], scorer: str, findings: Sequence[str], replicates: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Macro AUROC of each seed [S], and its mean over seeds in each resample [R]."""
    points, drawn = [], []
    for table in tables:
        columns = [table.findings.index(name) for name in findings]
        rankings = [statistics.Ranking(table.labels[:, c], table.scores[scorer][:, c]) for c in columns]
        once = np.ones((1, len(table)), dtype=np.int64)
        points.append(statistics.macro([ranking.measure(once).auroc for ranking in rankings])[0])
        samples = statistics.bootstrap(rankings, table.patient, [()] * len(rankings), replicates, seed)
        drawn.append(statistics.macro([measures.auroc for measures in samples]))
    return np.array(points), np.mean(drawn, axis=0)
