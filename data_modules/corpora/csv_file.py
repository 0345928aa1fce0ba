"""Tables as text: every cell a stripped string, every row known by its number in a spreadsheet (header: row 1)."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.errors import InputError, MissingCorpus, nearest
from data_modules.study import Text
from data_modules.table_store import watched

SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def load(path: Path, key: str) -> pd.DataFrame:
    """Return the cells of a CSV (or .tsv, also .gz) as stripped strings; the index holds the row numbers.

    Nothing is guessed: no cell becomes a number, a date or missing. Blank rows are left out but counted as rows.
    InputError for a file that is missing, not UTF-8, or has a row of another length than its header. `key` is the
    config key of the path.
    """
    rows: list[list[str]] = []
    watched(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as raw:
            # csv and not pandas: pandas fills a short row and cuts a long one in silence.
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
            rows.extend(csv.reader(text, delimiter="\t" if ".tsv" in path.suffixes else ",", strict=True))
    except FileNotFoundError:
        raise MissingCorpus(f"{key}: there is no file {path}; correct the key or the corpus' root") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path} row {len(rows) + 1}: does not parse as a table ({error}); correct the row") from None
    except (OSError, EOFError) as error:
        raise InputError(f"{key}: {path} cannot be read ({error})") from None
    if not rows:
        raise InputError(f"{path}: is empty; a header and rows are needed")
    cells = [[cell.strip() for cell in row] for row in rows]
    header, numbers = cells[0], [number for number, row in enumerate(cells, start=1) if number > 1 and any(row)]
    for number in numbers:
        if len(cells[number - 1]) != len(header):
            found = len(cells[number - 1])
            raise InputError(
                f"{path} row {number}: has {found} cells where the header has {len(header)}; correct the row"
            )
    for name in header:
        if name and header.count(name) > 1:
            raise InputError(f"{path}: has {header.count(name)} columns called '{name}'; rename all but one")
    return pd.DataFrame([cells[number - 1] for number in numbers], index=numbers, columns=header, dtype=object)


def column(frame: pd.DataFrame, name: str, path: Path, key: str) -> Text:
    """Return one column as an object array of str; InputError names the file, the key and the nearest column."""
    if name not in frame.columns:
        raise InputError(f"{path}: has no column '{name}' ({key}){nearest(name, frame.columns)}")
    return frame[name].to_numpy(dtype=object)


def split_words(frame: pd.DataFrame, name: str, path: Path, key: str) -> Text:
    """Return a column of split names as train, val and test; InputError for any other word."""
    words = column(frame, name, path, key)
    for row, word in zip(frame.index, words, strict=True):
        if word.casefold() not in SPLIT_WORDS:
            # The word is not shown: under a wrong split_csv.split it may be an identifier.
            raise InputError(f"{path} row {row}: column '{name}' holds another word than train, val or test ({key})")
    return np.array([SPLIT_WORDS[word.casefold()] for word in words], dtype=object)
