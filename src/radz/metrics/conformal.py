"""When not to answer: conformal sets of a finding, with a promise for studies that have it and for those that lack it.

Split conformal by class (Vovk, Gammerman and Shafer 2005, Mondrian): of validation studies with a finding, the share
that scores lower than a new one's says how unusual it would be as a case of the finding; likewise without it. An answer
that would be among the most unusual `level` of its class is not given. Exchangeable studies of either class then have
their own answer in the set in at least 1 - level of cases, whatever the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radz.metrics.calibration import Platt
from radz.metrics.score_table import ScoreTable

LEVEL = 0.1
"""share of either class whose own answer may be missing"""
ANSWERS = ("unusual", "absent", "present", "unsure")
"""of the four sets: empty, one answer or the other, both"""
COVERAGES = tuple(round(0.05 * n, 2) for n in range(1, 21))
"""shares of the studies of which the surest are answered, for the curve"""


@dataclass(frozen=True)
class Sets:
    """Of one finding, at LEVEL; infinite limits leave nothing out."""

    least: float
    """score from which `present` stands in the set"""
    most: float
    """score up to which `absent` does"""

    def answer(self, scores: ArrayLike) -> NDArray[np.int64]:
        """Numbers of ANSWERS, of the shape of the scores."""
        raw = np.asarray(scores, dtype=np.float64)
        return 2 * (raw >= self.least).astype(np.int64) + (raw <= self.most)

    def plain(self) -> list[float | None]:
        """For JSON: least and most, None where nothing is left out; `read` takes it back."""
        return [value if math.isfinite(value) else None for value in (self.least, self.most)]

    @staticmethod
    def read(plain: Sequence[float | None]) -> Sets:
        """Of what `plain` gave; ValueError or TypeError for something else."""
        least, most = plain
        return Sets(-math.inf if least is None else float(least), math.inf if most is None else float(most))


def fit(labels: ArrayLike, scores: ArrayLike) -> Sets:
    """Of validation labels [N] (1, 0, NaN unknown) and scores [N]."""
    truth, raw = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    present, absent = np.sort(raw[truth == 1]), np.sort(raw[truth == 0])
    # A p value (count of as unusual + 1) / (n + 1) above the level needs a count of floor(level x (n + 1)).
    ones, zeros = (math.floor(LEVEL * (len(part) + 1) + 1e-9) for part in (present, absent))
    least = -math.inf if ones == 0 else float(present[ones - 1])
    return Sets(least, math.inf if zeros == 0 else float(absent[len(absent) - zeros]))


def answers(
    table: ScoreTable, scorer: str, fitted: Mapping[str, Sets], fits: Mapping[str, Platt], primary: Sequence[str]
) -> dict[str, Any] | None:
    """What sets do on a table; None where validation had no finding with both labels.

    Args:
        fitted, fits: by finding, from validation.

    Returns:
        level; findings: {name: {present, absent: limits (None: always in the set), coverage_present, coverage_absent:
        share of studies of either class whose set holds it, answered: share whose set is one answer, unusual: share
        whose set is empty, error: share of the answered that are wrong}}; curve: {coverage, risk} of calls at a
        probability of one half, of the studies whose probability is farthest from it, means over the primary findings.
    """
    known = {
        name: (labels[keep], scores[keep])
        for number, name in enumerate(table.findings)
        if name in fitted
        for labels, scores in [table.column(scorer, number)]
        for keep in [np.isfinite(labels)]
        if keep.any() and not np.isnan(scores[keep]).any()
    }
    if not known:
        return None
    findings = {
        name: {**dict(zip(("present", "absent"), fitted[name].plain(), strict=True)), **_shares(*pair, fitted[name])}
        for name, pair in known.items()
    }
    risks = [_risks(*known[name], fits[name]) for name in primary if name in known and name in fits]
    mean = np.mean(risks, axis=0) if risks else ()
    curve = [{"coverage": share, "risk": float(risk)} for share, risk in zip(COVERAGES, mean, strict=False)]
    return {"level": LEVEL, "findings": findings, "curve": curve}


def _risks(labels: NDArray[Any], scores: NDArray[Any], fit: Platt) -> list[float]:
    """Share of wrong calls among the surest studies, at each of COVERAGES; ties in the order of the rows."""
    p = fit(scores)
    wrong = (p >= 0.5) != (labels == 1)
    order = np.argsort(-np.abs(p - 0.5), kind="stable")
    return [float(wrong[order[: max(1, round(share * len(order)))]].mean()) for share in COVERAGES]


def _shares(labels: NDArray[Any], scores: NDArray[Any], sets: Sets) -> dict[str, float | None]:
    said, denied = scores >= sets.least, scores <= sets.most
    answered, has = said ^ denied, labels == 1
    wrong = answered & np.where(has, denied, said)
    return {
        "coverage_present": _share(said[has]), "coverage_absent": _share(denied[~has]),
        "answered": _share(answered), "unusual": _share(~said & ~denied), "error": _share(wrong[answered]),
    }  # fmt: skip


def _share(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
