"""The findings of a table: one column each in a wide one, one row each in a long one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_modules.errors import InputError
from radz.runs.other_scores.headers import LABEL, ROLES, ColumnNames, first_of

SEPARATOR = "|"
"""of findings in one cell, as in NIH's `Finding Labels`"""


@dataclass(frozen=True)
class Column:
    """One finding of one scorer, as the file has it."""

    scorer: str
    """'' where the file names none; `label` for the labels of a prediction file"""
    finding: str
    header: str
    """of a wide table; in a long or listing one the word for the finding"""
    how: str
    cells: list[str]
    """[N]; '' where the file has none"""
    rows: list[int]
    """[N], row of each cell in the file"""


def wide_columns(
    frame: pd.DataFrame, path: Path, names: ColumnNames, kind: str, rest: Sequence[str],
    wide: Mapping[str, tuple[str, str, str]],
) -> tuple[list[Column], list[str]]:  # fmt: skip
    """The columns of findings, and the headers that are not read."""
    predictions = any(scorer == LABEL for scorer, *_ in wide.values())
    rows, columns, unread = [int(row) for row in frame.index], [], []
    for header in rest:
        scorer, finding, how = wide.get(header, ("", "", ""))
        if finding and (scorer != LABEL if kind == "score" else scorer == (LABEL if predictions else "")):
            columns.append(Column(scorer, finding, header, how, [str(cell) for cell in frame[header]], rows))
        elif not finding and kind == "score" and not names.is_beside(header):
            raise InputError(
                f"{path}: column '{header}' is no finding{names.nearest(header)}; rename it, or leave it out by "
                f"ignore={header}"
            )
        elif not finding:
            unread.append(header)
    by_cell: dict[tuple[str, str], str] = {}
    for column in columns:
        other = by_cell.setdefault((column.scorer, column.finding), column.header)
        if other != column.header:
            raise InputError(
                f"{path}: columns '{other}' and '{column.header}' are both {column.finding}; leave one out by "
                f"ignore={column.header}"
            )
    return columns, unread


def long_columns(
    frame: pd.DataFrame, path: Path, names: ColumnNames, kind: str, rest: Sequence[str], finding: str,
    units: Sequence[tuple[str, str]],
) -> tuple[list[Column], list[int]]:  # fmt: skip
    """Columns out of rows, and the first row (a position) of every study or image."""
    value, scorer = first_of(rest, ROLES[kind]), first_of(rest, ROLES["scorer"])
    if value is None:
        known = ", ".join(ROLES[kind])
        raise InputError(f"{path}: a long table without a column of {kind}s; call it one of: {known}")
    place: dict[tuple[str, str], int] = {}
    for unit in units:
        place.setdefault(unit, len(place))
    cells: dict[tuple[str, str], Column] = {}
    first: list[int] = []
    words, values = ([str(cell) for cell in frame[header]] for header in (finding, value))
    models = [str(cell) for cell in frame[scorer]] if scorer and kind == "score" else [""] * len(frame)
    for at, (row, unit, word, name) in enumerate(zip(frame.index, units, words, models, strict=True)):
        found = names.find(word)
        if found is None:
            raise InputError(
                f"{path} row {row}, column '{finding}': '{word[:30]}' is no finding{names.nearest(word)}; correct "
                "it, or remove its rows"
            )
        column = cells.setdefault(
            (name, found[0]), Column(name, found[0], word, found[1], [""] * len(place), [0] * len(place))
        )
        if column.rows[place[unit]]:
            raise InputError(
                f"{path} rows {column.rows[place[unit]]} and {row} are of the same study and {found[0]}; keep one"
            )
        column.cells[place[unit]], column.rows[place[unit]] = values[at], int(row)
        if place[unit] == len(first):
            first.append(at)
    for column in cells.values():  # a cell that the file lacks is told by the first row of its study
        column.rows[:] = [row or int(frame.index[first[n]]) for n, row in enumerate(column.rows)]
    return list(cells.values()), first


def listed_columns(frame: pd.DataFrame, path: Path, names: ColumnNames, header: str) -> list[Column]:
    """Columns out of one that lists the findings of each row, `A|B`: those are present, and the others of it absent.

    An empty cell says nothing. One word of each finding stands for it in what is told.
    """
    rows, cells = [int(row) for row in frame.index], [str(cell) for cell in frame[header]]
    found: dict[str, Column] = {}
    for at, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        for word in filter(None, map(str.strip, cell.split(SEPARATOR))):
            known = names.find(word)
            if known is None:
                raise InputError(
                    f"{path} row {row}, column '{header}': '{word[:30]}' is no finding{names.nearest(word)}; correct "
                    f"it, or give columns of findings and ignore={header}"
                )
            if known[0] not in found:
                found[known[0]] = Column("", known[0], word, known[1], ["0" if other else "" for other in cells], rows)
            found[known[0]].cells[at] = "1"
    # In the order of the ontology, so that that of the rows changes no mean in its last digit.
    return [found[name] for name in names.canonical if name in found]
