"""Cells of tables as people and spreadsheets write them: when two are the same, a number, or a word for nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Text = NDArray[np.object_]

INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"
"""Zero-width spaces and marks: a cell is the same with and without them."""
_AROUND = "".join(map(chr, (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)))) + (
    "\u2028\u2029\u202f\u205f\u3000" + INVISIBLE
)
_SAME = str.maketrans({**dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"), **dict.fromkeys(INVISIBLE)})
NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")


def stripped(cell: str) -> str:
    """A cell without the blanks around it, those that cannot be seen included."""
    return cell.strip(_AROUND)


def folded(cell: str) -> str:
    """What two cells have in common that differ in case, blanks, kinds of hyphen or width of characters only."""
    if not cell.isascii():  # most are, and normal forms take time
        cell = unicodedata.normalize("NFKC", cell).translate(_SAME)
    return " ".join(cell.casefold().split())


def number(cell: str) -> float | None:
    """The number that a cell is, with a decimal point or comma; None for anything else, and for 1,000."""
    cell = folded(cell)
    if NUMBER.fullmatch(cell) is None or THOUSANDS.fullmatch(cell) is not None:
        return None
    return float(cell.replace(",", "."))


def spelling(identifier: str) -> str:
    """What spellings of one identifier have in common: 7, 07, 7.0 and 007; p-7 and P-07, in any kind of hyphen."""
    plain = "".join(folded(identifier).split())
    plain = re.sub(r"^([0-9]+)[.,]0+$", r"\1", plain)
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", plain)


def spellings(identifiers: Text) -> Text:
    """`spelling` of each of [N]; each distinct one is looked at once."""
    codes, distinct = pd.factorize(identifiers)
    found: Text = np.array([spelling(one) for one in distinct], dtype=object)[codes]
    return found


def blank(cells: Text, words: Collection[str]) -> tuple[Text, NDArray[np.bool_]]:
    """Return the cells [N] with those of `words` (in any case) emptied, and which those were."""
    wanted = {folded(word) for word in words}
    codes, distinct = pd.factorize(cells)
    emptied = np.array([folded(cell) in wanted if len(cell) < 40 else False for cell in distinct], dtype=bool)
    found: Text = np.where(emptied, "", distinct)[codes]
    return found, emptied[codes]
