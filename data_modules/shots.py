"""Few shots: a training split of a few positive studies of each finding, and as many studies without any finding."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError
from data_modules.findings import NO_FINDING, UNCERTAIN
from data_modules.study import StudyTable
from data_modules.subsets import rank

log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]


def few_shots(table: StudyTable, labels: NDArray[np.float32], shots: int, seed: int) -> StudyTable:
    """Keep `shots` positive training studies of each finding and as many without any, at most one of a patient.

    In round m of `shots` every finding with fewer than m positives gets one more, the rarest finding first; so what n
    keeps, n + 1 keeps too. Those come first that bring the fewest other findings above m, then patients in the order of
    `fraction_of_patients`. A finding has more than `shots` only where others are never had without it, as narrower
    findings bring the wider one. `no_finding` counts as none.

    Args:
        labels: [N, K] under the loss policy, 1, 0 or NaN.

    Raises:
        InputError: no training label is positive.
    """
    rows = _in_order(table, seed)
    columns = np.flatnonzero([name != NO_FINDING for name in table.findings])
    positive = labels[np.ix_(rows, columns)] == 1
    if not positive.any():
        raise InputError(
            f"data.shots={shots}: no training label says that a finding is present, so there is nothing to draw from; "
            "set it to 0 or give the corpus labels"
        )
    states = table.states[np.ix_(rows, columns)]
    without = ~positive.any(1) & ~(states == UNCERTAIN).any(1) & (labels[np.ix_(rows, columns)] == 0).any(1)
    kept = _chosen(positive, without, table.people[rows], shots)
    _tell([table.findings[k] for k in columns], positive, kept, without, shots)
    return table.take(np.sort(np.concatenate([np.flatnonzero(table.split != "train"), rows[kept]])))


def _in_order(table: StudyTable, seed: int) -> NDArray[np.int64]:
    """Training rows by the hash of their patient; names settle equal ones, so that the order of the table does not."""
    names = table.numberings

    def key(row: int) -> tuple[tuple[bytes, str], str, str]:
        corpus = table.corpus[row]
        return rank(seed, names[corpus], table.patient[row]), table.corpora[corpus], table.study_id[row]

    return np.array(sorted(table.rows("train").tolist(), key=key), dtype=np.int64)


def _chosen(positive: Mask, without: Mask, people: NDArray[np.int64], shots: int) -> list[int]:
    """Positions that are kept.

    Args:
        positive: [M, K], of studies in the order in which they are drawn. without: [M], studies without any finding.
        people: [M], the patient of each.
    """
    free = np.ones(len(positive), dtype=bool)
    count = np.zeros(positive.shape[1], dtype=np.int64)
    kept: list[int] = []

    def keep(study: int) -> None:
        free[people == people[study]] = False
        count[:] += positive[study]
        kept.append(study)

    rarest_first = np.argsort([len(np.unique(people[column])) for column in positive.T], kind="stable")
    empty = _empty(without, people, people[positive.any(1)])
    with_finding = 0
    for number in range(1, min(shots, len(positive)) + 1):
        for k in rarest_first:
            candidates = np.flatnonzero(free & positive[:, k]) if count[k] < number else ()
            if len(candidates):
                above = positive[candidates][:, count >= number].sum(1)
                keep(int(candidates[above.argmin()]))
                with_finding += 1
        while len(kept) < 2 * with_finding:
            study = next((study for study in empty if free[study]), None)
            if study is None:
                break
            keep(study)
    return kept


def _empty(without: Mask, people: NDArray[np.int64], have: NDArray[np.int64]) -> Iterator[int]:
    """Studies without any finding, those of patients who never `have` one first, since the others may be needed."""
    needed = np.isin(people, have)
    yield from np.flatnonzero(without & ~needed).tolist()
    yield from np.flatnonzero(without & needed).tolist()


def _tell(findings: list[str], positive: Mask, kept: list[int], without: Mask, shots: int) -> None:
    counts, empty = positive[kept].sum(0), int(without[kept].sum())
    log.info(
        "data.shots=%d: %d studies with a finding and %d without any (of %d), one of a patient, of %d training studies",
        shots, len(kept) - empty, empty, without.sum(), len(positive),
    )  # fmt: skip
    numbers = dict(zip(findings, counts.tolist(), strict=True))
    for what, names in {
        "fewer": [name for name, n in numbers.items() if n < shots],
        "more, since other findings bring it": [name for name, n in numbers.items() if n > shots],
    }.items():
        if names:
            log.info("data.shots=%d: %s: %s", shots, what, ", ".join(f"{name} {numbers[name]}" for name in names))
