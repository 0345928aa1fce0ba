"""P9, P10, P11: metrics, bootstrap and DeLong of 100,000 rows x 14 findings beside scikit-learn and torchmetrics."""

from __future__ import annotations

import platform
import statistics as median_of
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from benchmarks.common import Result, rates, seconds
from radz.metrics import bootstrap as intervals
from radz.metrics import ranking
from radz.metrics.delong import delong

ROWS, FINDINGS, REPLICATES = 100_000, 14, 1_000
PAIRS, ALTERNATIONS = 400, 3


def metrics() -> Iterator[Result]:
    """P9: AUROC, AUPRC, best F1 and calls at two thresholds, against AUROC and AUPRC alone."""
    labels, scores = _data()

    def radz() -> None:
        once = np.ones((1, ROWS), dtype=np.int32)
        for column in range(FINDINGS):
            ranking.Ranking(labels[:, column], scores[:, column]).measure(once, thresholds=(0.5, 0.6))

    def sklearn() -> None:
        for column in range(FINDINGS):
            roc_auc_score(labels[:, column], scores[:, column])
            average_precision_score(labels[:, column], scores[:, column])

    tensors = torch.from_numpy(scores), torch.from_numpy(labels).long()

    def torchmetrics() -> None:
        for column in range(FINDINGS):
            binary_auroc(tensors[0][:, column], tensors[1][:, column])
            binary_average_precision(tensors[0][:, column], tensors[1][:, column])

    what = f"metrics of {ROWS:,} rows x {FINDINGS} findings"
    for name, reference in (("scikit-learn", sklearn), ("torchmetrics, exact", torchmetrics)):
        yield rates("P9", f"{what}, ours with F1, MCC and more, against {name}", "passes/s", 1, radz, reference)


def bootstrap() -> Iterator[Result]:
    """P10: replicates by patient with every metric, against one AUROC per resample of scikit-learn.

    scikit-learn's time is that of one replicate of all findings, taken before and after each of our passes, times the
    replicates: in full it would take minutes to an hour. Ours are run in full.
    """
    labels, scores = _data()
    rankings = [ranking.Ranking(labels[:, c], scores[:, c]) for c in range(FINDINGS)]
    patients, rules = np.arange(ROWS), [(0.5, 0.6)] * FINDINGS
    generator = np.random.default_rng(1)

    def sklearn() -> None:
        drawn = generator.integers(ROWS, size=ROWS)
        for column in range(FINDINGS):
            roc_auc_score(labels[drawn, column], scores[drawn, column])

    sklearn()
    ours: list[float] = []
    theirs = [seconds(sklearn)]
    for _ in range(ALTERNATIONS):
        ours.append(seconds(lambda: intervals.bootstrap(rankings, patients, rules, REPLICATES)))
        theirs.append(seconds(sklearn))
    beside = [REPLICATES * (a + b) / 2 for a, b in pairwise(theirs)]
    ratios = [slow / fast for slow, fast in zip(beside, ours, strict=True)]
    yield _result(
        "P10", f"bootstrap of {ROWS:,} rows x {FINDINGS} findings, all metrics, against AUROC by scikit-learn "
        f"(its time extrapolated from {len(theirs)} replicates between ours)", "replicates/s",
        REPLICATES / median_of.median(ours), REPLICATES / median_of.median(beside), ratios,
    )  # fmt: skip


def tests() -> Iterator[Result]:
    """P11: DeLong's covariance of two scorers by midranks, against its definition over all pairs on a part.

    The pairs of all rows do not fit into memory; the definition is timed on PAIRS positives and as many negatives, and
    its time grows with their product.
    """
    labels, scores = _data()
    second = scores + np.random.default_rng(2).normal(size=scores.shape)
    small = [np.r_[tuple(np.flatnonzero(labels[:, c] == y)[:PAIRS] for y in (1, 0))] for c in (0, 1)]
    ones = labels.sum(axis=0)
    factor = float((ones * (ROWS - ones)).sum() / (len(small) * PAIRS**2))

    def radz() -> None:
        for column in range(FINDINGS):
            delong(labels[:, column], [scores[:, column], second[:, column]])

    def plain() -> None:
        for column, rows in enumerate(small):
            _by_pairs(labels[rows, column], [scores[rows, column], second[rows, column]])

    one = rates("P11", "", "passes/s", 1, radz, plain)
    yield replace(
        one, what=f"DeLong's covariance, {ROWS:,} rows x {FINDINGS} findings, against its definition over all pairs "
        f"(extrapolated from {PAIRS} x {PAIRS} pairs)", reference=one.reference / factor, ratio=one.ratio * factor,
        low=one.low * factor, high=one.high * factor,
    )  # fmt: skip


def _by_pairs(labels: NDArray[np.float64], scores: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    positive = labels == 1
    wins = [(s[positive][:, None] > s[~positive]) + 0.5 * (s[positive][:, None] == s[~positive]) for s in scores]
    rows, columns = (np.cov([w.mean(axis=axis) for w in wins]) for axis in (1, 0))
    return rows / positive.sum() + columns / (~positive).sum()


def _data() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels of 1 to 30 per cent, scores without ties."""
    rng = np.random.default_rng(0)
    labels = (rng.random((ROWS, FINDINGS)) < np.linspace(0.01, 0.3, FINDINGS)).astype(float)
    return labels, 1 / (1 + np.exp(-rng.normal(size=(ROWS, FINDINGS)) - labels))


def _result(name: str, what: str, unit: str, radz: float, reference: float, ratios: list[float]) -> Result:
    return Result(
        name, what, unit, radz, reference, median_of.median(ratios), min(ratios), max(ratios),
        platform.processor() or platform.machine(), torch.get_num_threads(), time.strftime("%Y-%m-%d"),
    )  # fmt: skip


RUNS: dict[str, Callable[[], Iterator[Result]]] = {"P9": metrics, "P10": bootstrap, "P11": tests}
