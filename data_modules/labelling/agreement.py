"""Labels against the reports that stand beside them: what both say of each finding, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.config import DataConfig
from data_modules.files import write_rows
from data_modules.findings import ABSENT, PRESENT, STATE_NAMES, UNMENTIONED
from data_modules.labelling.many import label_many
from data_modules.labelling.table import PROOF
from data_modules.privacy import pseudonym, write_private
from data_modules.study import StudyTable

POOR = 0.4
"""Kappa below which labels and reports are said to disagree; Landis and Koch (doi 10.2307/2529310) call it fair."""
ENOUGH = 20
"""Studies with both that a finding needs before that is said of it."""


@dataclass(frozen=True)
class Conflict:
    """One cell on which label and report are sure and differ."""

    corpus: str
    row: int
    study: str
    """salted hash"""
    finding: str
    label: str
    report: str
    sentence: str
    words: str


def compare(table: StudyTable, config: DataConfig, salt: bytes) -> tuple[list[dict[str, Any]], list[Conflict]]:
    """Per corpus and finding with both: counts, kappa and F1; and every conflict.

    `states` of an entry is [4][4]: studies by state of the label (rows) and of the report (columns), each present,
    absent, uncertain and unmentioned in the order of STATE_NAMES. Kappa is over the studies on which both are sure, F1
    is that of `present` in the reports against it in the labels, over the studies whose label is sure. Corpora whose
    labels are read from their reports are left out, and so are studies without a report.
    """
    found: list[dict[str, Any]] = []
    conflicts: list[Conflict] = []
    for number, (name, corpus) in enumerate(zip(table.corpora, config.corpora, strict=True)):
        rows = np.flatnonzero(table.corpus == number)
        rows = rows[[table.told[row] != "" for row in rows]] if len(rows) else rows
        if corpus.reads_reports or not len(rows):
            continue
        reports = np.array([table.told[row] for row in rows], dtype=object)
        labels = label_many(reports, corpus.modality, corpus.findings)
        for k in (table.findings.index(finding) for finding in table.coded[number]):
            finding, given = table.findings[k], table.states[rows, k]
            read = np.array(
                [STATE_NAMES.index(one[finding].state) if finding in one else UNMENTIONED for one in labels],
                dtype=np.int8,
            )
            if (read == UNMENTIONED).all() or (given == UNMENTIONED).all():
                continue
            found.append({"corpus": name, "finding": finding, **measured(given, read)})
            for i in np.flatnonzero((given != read) & _sure(given) & _sure(read)):
                proof = labels[i][finding]
                conflicts.append(
                    Conflict(
                        name, int(table.source_rows[rows[i]]), pseudonym(name, str(table.study_id[rows[i]]), salt),
                        finding, STATE_NAMES[given[i]], proof.state, proof.sentence, proof.words,
                    )
                )  # fmt: skip
    return found, conflicts


def measured(given: NDArray[np.int8], read: NDArray[np.int8]) -> dict[str, Any]:
    """`states`, `both`, `kappa` and `f1` of the states [N] of labels and of reports; None where undefined."""
    states = np.zeros((len(STATE_NAMES), len(STATE_NAMES)), dtype=int)
    np.add.at(states, (given, read), 1)
    two = states[np.ix_([PRESENT, ABSENT], [PRESENT, ABSENT])]
    both, agreed = int(two.sum()), two.trace()
    chance = (two.sum(0) * two.sum(1)).sum() / both**2 if both else 1.0
    sure = states[[PRESENT, ABSENT]]
    hits, said, there = sure[0, PRESENT], sure[:, PRESENT].sum(), sure[0].sum()
    return {
        "states": states.tolist(),
        "both": both,
        "kappa": float((agreed / both - chance) / (1 - chance)) if chance < 1 else None,
        "f1": float(2 * hits / (said + there)) if said + there else None,
    }


def _sure(states: NDArray[np.int8]) -> NDArray[np.bool_]:
    return (states == PRESENT) | (states == ABSENT)


def lines(found: Sequence[dict[str, Any]], conflicts: Sequence[Conflict]) -> list[str]:
    """The agreement as lines to print; none where no corpus has both."""
    shown = []
    for corpus, group in pd.DataFrame(found).groupby("corpus", sort=False) if found else ():
        every = group.set_index("finding")[["both", "kappa", "f1"]]
        shown.append(f"labels against reports of {corpus} (studies where both are sure):\n{every.round(3).to_string()}")
        poor = every[(every["kappa"].astype(float) < POOR) & (every["both"] >= ENOUGH)]
        if len(poor):
            shown.append(
                f"{corpus}: labels and reports disagree on {', '.join(poor.index)} (kappa below {POOR}); are the "
                "reports those of the images, and does the coding of the labels say what it is taken for?"
            )
    if found:
        shown.append(f"labels that their report contradicts: {len(conflicts) or 'none'}")
    return shown


def write_conflicts(conflicts: Sequence[Conflict], folder: Path, private: Path) -> None:
    """label_conflicts.csv in `folder` without a word of a report, and in `private` (0600) with sentences and words."""
    named = ("corpus", "row", "study", "finding", "label", "report")
    for path, columns, write in ((folder, named, write_rows), (private, (*named, *PROOF[4:6]), write_private)):
        cells = ([getattr(conflict, column) for column in columns] for conflict in conflicts)
        write(path / "label_conflicts.csv", [columns, *cells])
