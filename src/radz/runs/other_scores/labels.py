"""Reference labels of a table: from cells to the four states, and by the policy to 1, 0 and unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data_modules.cells import blank, folded
from data_modules.corpora.labels import OUTSIDE, states_of
from data_modules.corpora.official import CHEXPERT_CODING
from data_modules.corpus_config import MISSING, LabelPolicy, LabelRule
from data_modules.errors import InputError
from data_modules.findings import STATE_NAMES, Ontology, complete, policy_table
from radz.runs.other_scores.headers import LABEL
from radz.runs.other_scores.sheet import Column, Sheet

Value = TypeVar("Value")
WORDS = {"true": "1", "false": "0"} | {
    state: "" if code == "blank" else str(code)
    for code, state in CHEXPERT_CODING.items()
}  # fmt: skip
"""Words for a state -> its code."""


def labels_of(sheet: Sheet, policy: LabelPolicy, ontology: Ontology) -> dict[str, NDArray[np.float32]]:
    """Finding -> [N], 1 present, 0 absent, NaN unknown.

    As the readers of corpora do: present findings make their parents present, `no_finding` makes findings absent that
    nothing is said of, then the policy judges uncertain and unmentioned ones. Labels of a prediction file have been
    through that and stay as they are.

    Raises:
        InputError: a cell outside the coding, by row and column.
    """
    findings = [column.finding for column in sheet.columns]
    states = np.stack([_states(sheet, column) for column in sheet.columns], axis=1)
    if all(column.scorer == LABEL for column in sheet.columns):
        values = np.full(len(STATE_NAMES), np.nan, dtype=np.float32)
        values[:2] = 0.0, 1.0
        return {name: values[states[:, number]] for number, name in enumerate(findings)}
    table = policy_table([policy], findings, "metrics", [findings])[0]
    states = complete(states, findings, ontology)
    return {name: table[number][states[:, number]] for number, name in enumerate(findings)}


def by_study(sheet: Sheet) -> Sheet:
    """The studies of a table of images, in the order of their first image.

    Raises:
        InputError: images of one study have other labels.
    """
    first: dict[str, int] = {}
    for at, study in enumerate(sheet.study):
        first.setdefault(study, at)
    for column in sheet.columns:
        for at, study in enumerate(sheet.study):
            if folded(column.cells[at]) != folded(column.cells[first[study]]):
                raise InputError(
                    f"{sheet.path} rows {column.rows[first[study]]} and {column.rows[at]}, column '{column.header}': "
                    "images of one study have other labels, and the scores are of studies; make them agree"
                )
    kept = list(first.values())
    columns = [
        Column(c.scorer, c.finding, c.header, c.how, _taken(c.cells, kept), _taken(c.rows, kept)) for c in sheet.columns
    ]
    return Sheet(
        sheet.path, _taken(sheet.rows, kept), _taken(sheet.study, kept), [""] * len(kept),
        None if sheet.patient is None else _taken(sheet.patient, kept), columns, sheet.headers,
        {name: _taken(values, kept) for name, values in sheet.attributes.items()}, sheet.unread, sheet.hashed,
    )  # fmt: skip


def _taken(values: Sequence[Value], at: Sequence[int]) -> list[Value]:
    return [values[number] for number in at]


def _states(sheet: Sheet, column: Column) -> NDArray[np.int8]:
    """[N], state of each cell."""
    cells, _ = blank(np.array(column.cells, dtype=object), MISSING)
    cells = np.array([WORDS.get(folded(cell), cell) for cell in cells], dtype=object)
    found = states_of(LabelRule(column.header, numeric=dict(CHEXPERT_CODING)), cells)
    for at in np.flatnonzero(found == OUTSIDE)[:1]:
        raise InputError(
            f"{sheet.path} row {column.rows[at]}, column '{column.header}': '{column.cells[at][:30]}' is no label; "
            "write 1 (present), 0 (absent), -1 (uncertain) or nothing (not mentioned)"
        )
    return found
