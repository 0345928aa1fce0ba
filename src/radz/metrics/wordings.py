"""How far scores depend on the sentence, and whether a denial is told from its statement.

Names of sizes: N scored rows, C findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from data_modules.findings import NO_FINDING
from radz.metrics.score_table import ScoreTable


def in_wordings(table: ScoreTable, primary: Sequence[str]) -> dict[str, Any] | None:
    """What the wordings of a table say of its primary findings; None without wordings, or a finding with both labels.

    Returns:
        auroc: {least, median, most, by_wording: {name: macro AUROC of what is said less what is denied}}.
        negation: of studies that have a finding, the share that agrees more with what is said (`present`), and of
            those without it, more with what is denied (`absent`), means over findings and wordings; `balanced`, of
            both; `contradiction`, the rank correlation over studies between what is said and what is denied: near 1
            where "no" is not read, below 0 where it is.
        findings: those that entered.
    """
    columns = [
        (number, known)
        for number, name in enumerate(table.findings)
        if name in primary and name != NO_FINDING
        and len(np.unique(table.labels[known := np.isfinite(table.labels[:, number]), number])) == 2
    ]  # fmt: skip
    if not table.wordings or not columns:
        return None
    measured = {name: _measure(table.labels, values, columns) for name, values in table.wordings.items()}
    areas = {name: float(values[0]) for name, values in measured.items()}
    present, absent, contradiction = (float(value) for value in np.mean(list(measured.values()), axis=0)[1:])
    ordered = sorted(areas.values())
    return {
        "auroc": {
            "least": ordered[0], "median": float(np.median(ordered)), "most": ordered[-1], "by_wording": areas,
        },
        "negation": {
            "present": present, "absent": absent, "balanced": (present + absent) / 2, "contradiction": contradiction,
        },
        "findings": [table.findings[number] for number, _ in columns],
    }  # fmt: skip


def _measure(
    labels: NDArray[np.float32], values: NDArray[np.float32], columns: Sequence[tuple[int, NDArray[np.bool_]]]
) -> NDArray[np.float64]:
    """Means [4] over findings: AUROC, share of positives and of negatives that are nearer to the truth, correlation."""
    said, denied = np.split(values.astype(np.float64), 2, axis=1)
    found = []
    for number, known in columns:
        label, yes, no = labels[known, number], said[known, number], denied[known, number]
        nearer, has = yes - no, label == 1
        constant = yes.min() == yes.max() or no.min() == no.max()
        correlation = 0.0 if constant else float(spearmanr(yes, no).statistic)
        shares = (nearer[has] > 0).mean(), (nearer[~has] < 0).mean()
        found.append((roc_auc_score(label, nearer), *shares, correlation))
    return np.mean(found, axis=0)
