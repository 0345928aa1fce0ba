"""One of several findings chosen: accuracy of the highest score where exactly one of them is present.

What CheXpert 5x200 is scored by (GLoRIA, Huang et al., ICCV 2021; MedCLIP, Wang et al., EMNLP 2022): the five findings
compete, and the one with the highest score is the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radz.metrics.bootstrap import means_by_unit
from radz.metrics.estimates import entry
from radz.metrics.score_table import ScoreTable

log = logging.getLogger(__name__)
Denied = Mapping[str, Collection[str]]
"""Scorer -> the findings whose score is what says them less what denies them; the others have no denial."""


def chosen(table: ScoreTable, findings: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions [n] of the rows of which one finding alone is known to be present and all others absent; which, [n]."""
    labels = table.labels[:, [table.findings.index(name) for name in findings]]
    alone = np.flatnonzero(np.isfinite(labels).all(axis=1) & (labels.sum(axis=1) == 1))
    return alone, labels[alone].argmax(axis=1)


def two_scales(denied: Denied, scorer: str, findings: Sequence[str]) -> str | None:
    """Why the scores of one finding do not compare with those of another, or None.

    A difference of cosines lies about 0, a cosine where all sentences of its kind lie: no fixed map makes them one
    scale. Each finding's own ranking is as good as ever.
    """
    with_denial = [name for name in findings if name in denied.get(scorer, ())]
    without = [name for name in findings if name not in with_denial]
    if not with_denial or not without:
        return None
    return (
        f"{with_denial[0]} is scored less its denial, {without[0]} is not, and such scores do not compare; give all "
        "findings negative sentences, or none"
    )


def choice(
    table: ScoreTable, findings: Sequence[str], replicates: int, seed: int, denied: Denied | None = None
) -> dict[str, Any] | None:
    """Accuracy per scorer, with 95 % intervals by patient; None where not every finding is the answer of some row.

    `accuracy` takes the scores as they are: no row is judged by the others. `accuracy_standardised` first takes from
    each finding's scores their mean over all scored rows and divides by their deviation, as GLoRIA does; it is
    transductive: the answer for an image depends on which other images are scored with it. `balanced` is the mean over
    findings of the share of their rows that are answered rightly. Of m equal highest scores each counts 1/m. `chance`
    is the share of the most frequent finding. `not_compared`: scorer -> why, of those that `two_scales` speaks of.
    """
    rows = truth = np.zeros(0, dtype=np.int64)
    if set(findings) <= set(table.findings):
        rows, truth = chosen(table, findings)
    if lost := [name for number, name in enumerate(findings) if number not in truth]:
        log.warning("%s: scoring.choice is not measured: no row has %s alone", table.key, " or ".join(lost))
        return None
    patients = [table.patient[row] for row in rows]
    columns = [table.findings.index(name) for name in findings]
    found: dict[str, Any] = {}
    apart = {scorer: why for scorer in table.scores if (why := two_scales(denied or {}, scorer, findings))}
    for scorer, why in apart.items():
        log.warning("%s: scoring.choice of %s is not measured: %s", table.key, scorer, why)
    for scorer, scores in table.scores.items():
        every = scores[:, columns].astype(float)
        own = every[rows]
        if scorer in apart or np.isnan(own).any():
            continue
        spread = np.nanstd(every, axis=0)
        level = (own - np.nanmean(every, axis=0)) / np.where(spread > 0, spread, 1.0)
        right = np.stack([_right(own, truth), _right(level, truth)], axis=1)
        samples = means_by_unit(right, patients, replicates, seed)
        found[scorer] = {
            "accuracy": entry(right[:, 0].mean(), samples[:, 0]),
            "accuracy_standardised": entry(right[:, 1].mean(), samples[:, 1]),
            "balanced": float(np.mean([right[truth == k, 0].mean() for k in range(len(findings))])),
            "of_finding": {name: float(right[truth == k, 0].mean()) for k, name in enumerate(findings)},
        }
    counts = np.bincount(truth, minlength=len(findings))
    return {
        "findings": list(findings),
        "rows": len(rows),
        "left_out": len(table) - len(rows),
        "support": dict(zip(findings, counts.tolist(), strict=True)),
        "chance": float(counts.max() / len(rows)),
        "scorers": found,
        **({"not_compared": apart} if apart else {}),
    }


def _right(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of right answers [n] among the highest scores [n, K] of each row."""
    highest = scores == scores.max(axis=1, keepdims=True)
    return highest[np.arange(len(truth)), truth] / highest.sum(axis=1)
