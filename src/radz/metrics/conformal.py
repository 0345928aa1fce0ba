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

from radz.metrics.score_table import ScoreTable

LEVELS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
"""share of either class whose own answer may be missing"""
LEVEL = 0.1
"""of the answers: nine in ten of either class keep their own"""
ANSWERS = ("unusual", "absent", "present", "unsure")
"""of the four sets: empty, one answer or the other, both"""
Limits = tuple[float, float]
"""Least score at which `present` stands in the set, and the highest at which `absent` does; infinite: always."""


@dataclass(frozen=True)
class Sets:
    """Of one finding, its limits at each of LEVELS."""

    limits: tuple[Limits, ...]

    def answer(self, scores: ArrayLike) -> NDArray[np.int64]:
        """Numbers of ANSWERS at LEVEL, of the shape of the scores."""
        least, most = self.limits[LEVELS.index(LEVEL)]
        raw = np.asarray(scores, dtype=np.float64)
        return 2 * (raw >= least).astype(np.int64) + (raw <= most)

    def plain(self) -> list[list[float | None]]:
        """For JSON; `read` takes it back."""
        return [[value if math.isfinite(value) else None for value in pair] for pair in self.limits]

    @staticmethod
    def read(plain: Sequence[Sequence[float | None]]) -> Sets:
        """Of what `plain` gave; ValueError or TypeError for something else."""
        if len(plain) != len(LEVELS):
            raise ValueError("limits of other levels")
        pairs = [(least, most) for least, most in plain]
        return Sets(
            tuple((-math.inf if a is None else float(a), math.inf if b is None else float(b)) for a, b in pairs)
        )


def fit(labels: ArrayLike, scores: ArrayLike) -> Sets:
    """Of validation labels [N] (1, 0, NaN unknown) and scores [N]."""
    truth, raw = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    present, absent = np.sort(raw[truth == 1]), np.sort(raw[truth == 0])

    def limits(level: float) -> Limits:
        # A p value (count of as unusual + 1) / (n + 1) above the level needs a count of floor(level x (n + 1)).
        ones, zeros = (math.floor(level * (len(part) + 1) + 1e-9) for part in (present, absent))
        least = -math.inf if ones == 0 else float(present[ones - 1])
        return least, math.inf if zeros == 0 else float(absent[len(absent) - zeros])

    return Sets(tuple(limits(level) for level in LEVELS))


def answers(
    table: ScoreTable, scorer: str, fitted: Mapping[str, Sets], primary: Sequence[str]
) -> dict[str, Any] | None:  # fmt: skip
    """What sets do on a table; None where validation had no finding with both labels.

    Returns:
        level; findings: {name: {present, absent: limits at LEVEL (None: always in the set), coverage_present,
        coverage_absent: share of studies of either class whose set holds it, answered: share whose set is one answer,
        unusual: share whose set is empty, error: share of the answered that are wrong}}; curve: of all levels {level,
        answered, error}, means over the primary findings.
    """
    known = {
        name: (fitted[name], labels[keep], scores[keep])
        for number, name in enumerate(table.findings)
        if name in fitted
        for labels, scores in [table.column(scorer, number)]
        for keep in [np.isfinite(labels)]
        if keep.any() and not np.isnan(scores[keep]).any()
    }
    if not known:
        return None
    findings, at = {}, LEVELS.index(LEVEL)
    for name, (own, labels, scores) in known.items():
        least, most = own.plain()[at]
        findings[name] = {"present": least, "absent": most, **_shares(labels, scores, *own.limits[at])}
    of_primary = [known[name] for name in primary if name in known]
    curve = []
    for number, level in enumerate(LEVELS if of_primary else ()):
        each = [_shares(labels, scores, *own.limits[number]) for own, labels, scores in of_primary]
        curve.append({"level": level, **{key: _mean([one[key] for one in each]) for key in ("answered", "error")}})
    return {"level": LEVEL, "findings": findings, "curve": curve}


def _shares(labels: NDArray[Any], scores: NDArray[Any], least: float, most: float) -> dict[str, float | None]:
    said, denied = scores >= least, scores <= most
    answered, has = said ^ denied, labels == 1
    wrong = answered & np.where(has, denied, said)
    return {
        "coverage_present": _share(said[has]), "coverage_absent": _share(denied[~has]),
        "answered": _share(answered), "unusual": _share(~said & ~denied), "error": _share(wrong[answered]),
    }  # fmt: skip


def _share(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
