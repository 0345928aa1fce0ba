"""A table of scores or of labels, wide (a column a finding), long (a row a finding) or, of labels, with the findings of
a row in one cell, as one row a study or image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.cells import blank, number
from data_modules.corpora.chexpert import TAIL
from data_modules.corpora.csv_file import VALUE, load
from data_modules.corpora.ids import check_ids
from data_modules.corpus_config import MISSING
from data_modules.errors import InputError, nearest
from radz.runs.other_scores.columns import Column, listed_columns, long_columns, wide_columns
from radz.runs.other_scores.headers import ATTRIBUTES, LABEL, ROLES, ColumnNames, first_of

UNITS = ("study", "image", "patient")


@dataclass(frozen=True)
class Named:
    """What the user says of the columns; None and empty leave it to the headers."""

    study: str | None = None
    image: str | None = None
    patient: str | None = None
    ignore: Sequence[str] = ()
    """columns that are not read"""
    subgroups: Sequence[str] = ()
    """further columns by whose values subgroups are made"""


@dataclass(frozen=True)
class Sheet:
    """N studies or images, each once, in the order of the file."""

    path: Path
    rows: list[int]
    """[N], the first row of each in the file"""
    study: list[str]
    """[N], '' where the file names no studies"""
    image: list[str]
    """[N], '' where its rows are studies"""
    patient: list[str] | None
    columns: list[Column]
    headers: tuple[str, ...]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    hashed: bool = False
    """patients and images are hashes of radz already"""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def of_images(self) -> bool:
        """Whether rows are images."""
        return any(self.image)

    @property
    def of_studies(self) -> bool:
        """Whether rows say which study they are of."""
        return any(self.study)

    def where(self, at: int) -> str:
        """A row in words."""
        return f"{self.path} row {self.rows[at]}"


def read_sheet(path: Path, key: str, names: ColumnNames, named: Named, kind: str) -> Sheet:
    """Read a table of `kind` score or label. `key` is the key of its path.

    Raises:
        InputError: no table, no column of studies or images, an id that is empty or stands twice, two columns of one
            finding; among scores also a column that is no finding. Rows and columns are named, ids are not.
    """
    if not path.is_file():
        raise InputError(f"{key}: there is no file {path}; correct the path")
    frame = load(path, key)
    if frame.empty:
        raise InputError(f"{path}: has a header but no rows")
    _headers_are_names(frame, path)
    taken = {role: _role(frame, role, named) for role in UNITS}
    if not taken["study"] and not taken["image"]:
        raise InputError(f"{path}: no column of studies or images; name it by study=COLUMN or image=COLUMN")
    groups = {name: first_of(frame.columns, words) for name, words in ATTRIBUTES.items()}
    groups |= {name: name for name in named.subgroups if name in frame.columns}
    used = {*taken.values(), *groups.values()} | set(named.ignore)
    rest = [header for header in frame.columns if header not in used]
    wide = {header: split for header in rest if (split := names.split(header)) is not None}
    finding, listing = (first_of(rest, ROLES[role]) for role in ("finding", "findings"))
    study, image, patient = _ids(frame, path, taken)
    hashed = {"study_id", "image_id", "patient"} <= set(frame.columns) and any(s == LABEL for s, *_ in wide.values())
    if not wide and finding is not None:
        columns, first = long_columns(frame, path, names, kind, rest, finding, list(zip(study, image, strict=True)))
        unread: list[str] = []
    elif not wide and kind == "label" and listing is not None:
        columns = listed_columns(frame, path, names, listing)
        unread, first = [header for header in rest if header != listing], list(range(len(frame)))
    else:
        columns, unread = wide_columns(frame, path, names, kind, rest, wide)
        first = list(range(len(frame)))
    rows = [int(frame.index[at]) for at in first]
    if patient is not None:
        _one_patient(frame, path, taken["patient"] or "", list(zip(study, image, strict=True)), patient)
    sheet = Sheet(
        path, rows, [study[at] for at in first], [image[at] for at in first],
        None if patient is None else [patient[at] for at in first], columns,
        tuple(map(str, frame.columns)),
        {name: [str(frame[header].iloc[at]) for at in first] for name, header in groups.items() if header},
        tuple(unread), hashed,
    )  # fmt: skip
    _once(sheet)
    return sheet


def scores_of(sheet: Sheet) -> dict[tuple[str, str], NDArray[np.float64]]:
    """(scorer, finding) -> [N], NaN for an empty cell or a word for nothing; InputError names row and column."""
    found = {}
    for column in sheet.columns:
        cells, _ = blank(np.array(column.cells, dtype=object), MISSING)
        values = [number(cell) if cell else np.nan for cell in cells]
        for at, value in enumerate(values):
            if value is None or np.isinf(value):
                raise InputError(
                    f"{sheet.path} row {column.rows[at]}, column '{column.header}': '{cells[at][:30]}' is not a finite "
                    "number; write one, or nothing where the model gave no score"
                )
        found[column.scorer, column.finding] = np.array(values, dtype=np.float64)
    return found


def _headers_are_names(frame: pd.DataFrame, path: Path) -> None:
    values = [header for header in frame.columns if VALUE.fullmatch(str(header))]
    if 2 * len(values) >= len(frame.columns):  # not shown: a first row of values holds identifiers
        raise InputError(f"{path}: its first row looks like values; add a row of column names")


def _role(frame: pd.DataFrame, role: str, named: Named) -> str | None:
    """The column of a use: the one that the user names, where this file has it, else by its header.

    What is named for another use has that one alone. Patients are of the column that is named, or of none in this file.
    """
    own = getattr(named, role)
    if own is not None and (own in frame.columns or role == "patient"):
        return own if own in frame.columns else None
    others = {getattr(named, other) for other in UNITS}
    return first_of([header for header in frame.columns if header not in others], ROLES[role])


def _ids(
    frame: pd.DataFrame, path: Path, taken: Mapping[str, str | None]
) -> tuple[list[str], list[str], list[str] | None]:
    """Study, image and patient of every row; CheXpert's paths name all three."""
    found: dict[str, list[str]] = {}
    for role, header in taken.items():
        if header is None:
            continue
        cells, _ = blank(frame[header].to_numpy(dtype=object), MISSING)
        if role == "image" and taken["study"] and not any(cells):  # a prediction file of studies
            continue
        for at in np.flatnonzero(cells == "")[:1]:
            raise InputError(
                f"{path} row {frame.index[at]}, column '{header}': no {role} ({int((cells == '').sum())} such row(s)); "
                "fill it in or remove the row"
            )
        rows = frame.index.to_numpy(dtype=np.int64)
        check_ids(role, header, cells, rows, lambda at: f"{path} row {frame.index[int(at)]}", None)
        found[role] = [str(cell) for cell in cells]
    parts = [TAIL.search(cell) for cell in found.get("image") or found.get("study") or []]
    if parts and all(parts):
        of = [part.groupdict() for part in parts if part is not None]
        found["study"] = [f"{part['patient']}/{part['number']}" for part in of]
        found.setdefault("patient", [part["patient"] for part in of])
    nothing = [""] * len(frame)
    return found.get("study", nothing), found.get("image", nothing), found.get("patient")


def _one_patient(
    frame: pd.DataFrame, path: Path, header: str, units: Sequence[tuple[str, str]], patient: Sequence[str]
) -> None:  # fmt: skip
    """InputError where rows of one study are of two patients."""
    of: dict[str, int] = {}
    for at, (study, image) in enumerate(units):
        first = of.setdefault(study or image, at)
        if patient[first] != patient[at]:
            raise InputError(
                f"{path} rows {frame.index[first]} and {frame.index[at]}, column '{header}': one study, two patients; "
                "correct one"
            )


def _once(sheet: Sheet) -> None:
    seen: dict[tuple[str, str], int] = {}
    for at, unit in enumerate(zip(sheet.study, sheet.image, strict=True)):
        if (before := seen.setdefault(unit, at)) != at:
            what = "image" if sheet.of_images else "study"
            raise InputError(
                f"{sheet.path} rows {sheet.rows[before]} and {sheet.rows[at]} are the same {what}; keep one"
            )


def check_named(named: Named, sheets: Sequence[Sheet]) -> None:
    """InputError for a column that the user names and that no file has."""
    headers = list(dict.fromkeys(header for sheet in sheets for header in sheet.headers))
    given = {role: [getattr(named, role)] if getattr(named, role) else [] for role in UNITS}
    for key, wanted in {**given, "ignore": named.ignore, "subgroups": named.subgroups}.items():
        for header in wanted:
            if header not in headers:
                files = ", ".join(dict.fromkeys(sheet.path.name for sheet in sheets))
                raise InputError(f"{key}={header}: no such column in {files}{nearest(header, headers)}")
