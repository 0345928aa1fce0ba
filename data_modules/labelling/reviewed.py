"""Labels that a person has looked at again (`data.labels_reviewed`), in the table that `radz data denoise` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_modules.cells import stripped
from data_modules.corpora.csv_file import column, load
from data_modules.errors import InputError, nearest
from data_modules.findings import NO_FINDING, PRESENT, STATE_NAMES, ontology
from data_modules.privacy import pseudonym
from data_modules.study import StudyTable

ACCEPTED = "accepted"
"""the column that a person fills in: 1 present, 0 absent, -1 uncertain; blank leaves the label as it is"""
STATES = {"1": "present", "0": "absent", "-1": "uncertain"}
KEY = "data.labels_reviewed"


def apply_reviewed(table: StudyTable, path: Path, salt: bytes) -> int:
    """Set the accepted labels in `table.states`; returns how many cells changed.

    Raises:
        InputError: a column, corpus, study, finding or code that is not there, two rows that contradict each other, or
            a disease and no finding in one study.
    """
    frame = load(path, KEY)
    corpora, studies, findings, codes = (column(frame, name, path, KEY) for name in
                                         ("corpus", "study", "finding", ACCEPTED))  # fmt: skip
    places = {
        (table.corpora[number], pseudonym(table.corpora[number], str(study), salt)): row
        for row, (number, study) in enumerate(zip(table.corpus, table.study_id, strict=True))
    }
    known = {finding: k for k, finding in enumerate(table.findings)}
    wanted: dict[tuple[int, int], int] = {}
    lines: dict[tuple[int, int], str] = {}
    for line, corpus, study, finding, code in zip(frame.index, corpora, studies, findings, codes, strict=True):
        if (code := stripped(code)) == "":
            continue
        where = f"{path} row {line}"
        if code not in STATES:
            raise InputError(f"{where}: {ACCEPTED} is {code[:20]!r}; write 1, 0, -1, or nothing to keep the label")
        if finding not in known:
            raise InputError(f"{where}: no label is called '{finding}' here{nearest(finding, known)}")
        if (corpus, study) not in places:
            raise InputError(
                f"{where}: there is no study {study} in {corpus}; hashes are those of one cache_dir, and the corpus "
                "must be that of the run"
            )
        cell = places[corpus, study], known[finding]
        state = STATE_NAMES.index(STATES[code])
        lines[cell] = where
        if wanted.setdefault(cell, state) != state:
            raise InputError(f"{where}: contradicts an earlier row on the same study and finding; keep one")
    before = table.states.copy()
    for cell, state in wanted.items():
        table.states[cell] = state
    _check_no_finding(table, lines)
    return int(np.sum(before != table.states))


def _check_no_finding(table: StudyTable, lines: dict[tuple[int, int], str]) -> None:
    """InputError, by the line of a cell, where a study has a disease as well as no finding, one of them accepted."""
    known = ontology()
    diseases = [name for name in table.findings if name != NO_FINDING and (name not in known or known[name].pathology)]
    for (row, k), where in lines.items():
        name = table.findings[k]
        present = {one for one, state in zip(table.findings, table.states[row], strict=True) if state == PRESENT}
        others = diseases if name == NO_FINDING else [NO_FINDING] if name in diseases else []
        other = next((one for one in others if one in present and name in present), None)
        if other is not None:
            raise InputError(
                f"{where}: {name} is {ACCEPTED} as present, but {other} is present in that study too; add a row that "
                "sets the wrong one to 0"
            )
