"""Numbers of several arms side by side: mean and range over seeds, and paired differences with intervals by patient."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError
from radz.scoring import statistics
from radz.scoring.table import ScoreTable

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
        known = result["scorers"][name]["findings"]
        groups = {seen: [f for f in known if known[f]["seen"] == seen] for seen in ("label", "text", "none")}
        primary = [f for f in result["primary"] if f in known]
        for group, findings in {"primary": primary, **groups}.items():
            if findings and (group == "primary" or set(findings) != set(primary)):
                points, drawn = _macro(tables, name, findings, replicates, seed)
                found.append(ArmScores(arm, key, group, name, tuple(findings), points, drawn))
    return found


def difference(arm: ArmScores, base: ArmScores) -> Estimate | None:
    """Mean over seeds of `arm` minus `base` with the paired interval; None when they score other findings."""
    if arm.findings != base.findings or arm.replicates.shape != base.replicates.shape:
        return None
    low, high, _ = statistics.interval(arm.replicates - base.replicates)
    return Estimate(float(arm.points.mean() - base.points.mean()), low, high)


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
