"""Tables as text: every cell a stripped string, every row known by its number in a spreadsheet (header: row 1)."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import logging
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.cells import stripped
from data_modules.counting import counted
from data_modules.errors import InputError, MissingCorpus, nearest
from data_modules.study import Text
from data_modules.table_store import watched

log = logging.getLogger(__name__)
SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val", "dev": "val", "development": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""What a file of an encoding begins with."""
NO_TABLES = {
    b"PK\x03\x04": "is an Excel workbook or another zip archive, not CSV; save the sheet as 'CSV UTF-8', or unpack it",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook, not CSV; save the sheet as 'CSV UTF-8'",
    b"\x1f\x8b": "is compressed by gzip; let its name end in .gz",
    b"PAR1": "is a Parquet file, not CSV; write it out as CSV",
    b"<!doctype html": "is a web page, as a download without its login leaves; download the table again",
    b"<html": "is a web page, as a download without its login leaves; download the table again",
    b"version https://git-lfs": "is a Git LFS pointer, not the table; fetch it (git lfs pull)",
}
"""How files begin that are no tables, in lower case -> what to say of them."""
VALUE = re.compile(r"[+-]?[0-9][0-9.,]*|.*\.(png|jpe?g|dcm|dicom|tiff?|nii|npz|gz)", re.IGNORECASE)
"""A cell that is no name of a column."""


def load(path: Path, key: str) -> pd.DataFrame:
    """Return the cells of a CSV (or .tsv, also .gz) as stripped strings; the index holds the row numbers.

    Commas separate the cells (tabs in a .tsv), or where the header has none, semicolons, tabs or bars. The file is
    UTF-8, or UTF-16 with its mark. Nothing else is guessed: no cell becomes a number, a date or missing. Blank rows are
    left out but counted as rows, and so are empty cells beyond the last named column.
    InputError for a file that is missing, in another encoding, no table, or has a row of another length than its
    header. `key` is the config key of the path.
    """
    found = rows(path, key)
    numbers = [number for number, row in enumerate(found, start=1) if any(row)]
    header = [" ".join(name.split()) for name in found[numbers[0] - 1]]
    named = max(at for at, name in enumerate(header, start=1) if name)
    cells = []
    for number in numbers[1:]:
        row = found[number - 1]
        if len(row) >= named and not any(row[len(header) :]):  # blank cells at the end of a line hold nothing
            row = (row + [""] * len(header))[: len(header)]
        if len(row) != len(header):
            raise InputError(
                f"{path} row {number}: has {counted(len(row), 'cell')} where the header has {len(header)}; "
                "correct the row" + _other(header)
            )
        if len(row) > 1 and row[0] == header[0] and row == header:
            raise InputError(f"{path} row {number}: repeats the header; remove the row")
        cells.append(row)
    for name in header:
        if name and header.count(name) > 1:
            raise InputError(f"{path}: has {header.count(name)} columns called '{name}'; rename all but one")
    return pd.DataFrame(cells, index=numbers[1:], columns=header, dtype=object)


def rows(path: Path, key: str) -> list[list[str]]:
    """Return the stripped cells of every row as they stand; errors as of `load`, but for lengths."""
    watched(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as raw:
            text = _decoded(raw.read(), path)
    except FileNotFoundError:
        raise MissingCorpus(f"{key}: there is no file {path}; correct the key or the corpus' root") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{key}: {path} cannot be read ({error})") from None
    separator, text = _separator(text, "\t" if ".tsv" in path.suffixes else ",", path)
    found: list[list[str]] = []
    try:
        # csv and not pandas: pandas fills a short row and cuts a long one in silence.
        found.extend(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise InputError(f"{path} row {len(found) + 1}: does not parse as a table ({error}); correct the row") from None
    cells = [[stripped(cell) for cell in row] for row in found]
    if not any(map(any, cells)):
        raise InputError(f"{path}: is empty; a header and rows are needed")
    return cells


def read_list(path: Path) -> pd.Series:
    """Return the lines of a list that are not blank, as they stand but for blanks at their ends, by line number."""
    try:
        lines = watched(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return pd.Series({row: line.strip() for row, line in enumerate(lines, start=1) if line.strip()}, dtype=object)


def _decoded(content: bytes, path: Path) -> str:
    start = content[:200].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for mark, what in NO_TABLES.items():
        if start.startswith(mark.lower()):
            raise InputError(f"{path}: {what}")
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and 4 * content[:4096].count(0) > len(content[:4096]) > 0:
        raise InputError(f"{path}: is UTF-16 without its mark, or no text; save it as 'CSV UTF-8'")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}: is not UTF-8 text (line {line}: {error.reason}), perhaps Windows-1252 or Latin-1 as spreadsheets "
            "write it; save it as 'CSV UTF-8'"
        ) from None


def _separator(text: str, usual: str, path: Path) -> tuple[str, str]:
    """What separates the cells, and the text without a spreadsheet's first line ``sep=;``, which says so."""
    said = re.match(r'"?sep=(.)"?\r?\n', text)
    if said is not None:
        return said[1], text[said.end() :]
    if _width(text, usual) < 2:
        for separator, name in SEPARATORS.items():
            if _width(text, separator) > 1:
                log.info("%s: its cells are separated by %s", path, name)
                return separator, text
    return usual, text


def _width(text: str, separator: str) -> int:
    """Cells of the first row that is not blank; 0 where it does not parse."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        return next((len(row) for row in reader if any(cell.strip() for cell in row)), 0)
    except csv.Error:
        return 0


def _other(header: list[str]) -> str:
    """A hint where the names of the columns hold another separator."""
    inside = [name for separator, name in SEPARATORS.items() if any(separator in cell for cell in header)]
    return f" (is the table separated by {inside[0]}? save it with commas)" if inside else ""


def column(frame: pd.DataFrame, name: str, path: Path, key: str) -> Text:
    """Return one column as an object array of str; InputError names the file, the key and the nearest column."""
    if name not in frame.columns:
        if any(VALUE.fullmatch(str(cell)) for cell in frame.columns):
            # Not shown: a first row of values holds identifiers.
            raise InputError(
                f"{path}: has no column '{name}' ({key}); its first row looks like values: add a row of column names"
            )
        raise InputError(f"{path}: has no column '{name}' ({key}){nearest(name, frame.columns)}")
    return frame[name].to_numpy(dtype=object)


def split_words(frame: pd.DataFrame, name: str, path: Path, key: str) -> Text:
    """Return a column of split names as train, val and test; InputError for any other word."""
    codes, distinct = pd.factorize(column(frame, name, path, key))
    words = np.array([SPLIT_WORDS.get(word.casefold(), "") for word in distinct], dtype=object)[codes]
    for row in frame.index[words == ""][:1]:
        # The word is not shown: under a wrong split_csv.split it may be an identifier.
        raise InputError(f"{path} row {row}: column '{name}' holds another word than train, val or test ({key})")
    return words
