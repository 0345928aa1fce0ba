"""Identifiers that a spreadsheet has changed, or that people have written in several ways."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.cells import spellings
from data_modules.errors import InputError
from data_modules.study import Text

log = logging.getLogger(__name__)
ROUNDED = re.compile(r"[+-]?[0-9]([.,][0-9]+)?e\+[0-9]{2,3}", re.IGNORECASE)
"""A number as a spreadsheet shows it when it has lost its last digits."""
_ENGLISH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_GERMAN = "Jan|J\u00e4n|Feb|M\u00e4r|Mrz|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez"
_ROMANCE = (  # Spanish, French, Italian, Portuguese
    "ene|feb|mar|abr|may|jun|jul|ago|sept?|oct|nov|dic|janv|f[\u00e9e]vr|mars|avr|mai|juin|juil|ao[\u00fbu]t|"
    "d[\u00e9e]c|gen|apr|mag|giu|lug|ott|jan|fev|dez"
)
DATE = re.compile(
    rf"[0-9]{{1,2}}[-. ](?i:{_ENGLISH})|(?i:{_ENGLISH})[-. ][0-9]{{2}}|"
    rf"[0-9]{{1,2}}(?:[-. ]|\. )(?:{_GERMAN})|(?:{_GERMAN})[-. ][0-9]{{2}}|"
    rf"[0-9]{{1,2}}[-/](?:{_ROMANCE}|set|out)\.?|(?:{_ROMANCE})\.?[-/][0-9]{{2}}"
)
"""What a spreadsheet makes of 1-3 or MAR1, also one in another language, in its case; set-01 may be a set."""
EXACT = 15
"""Digits of a number that a spreadsheet keeps."""
CROWD, MOST = 20, 0.3
"""Rows of one patient, and their share of the table, from which on the id may be a word for nobody."""


def check_ids(
    which: str, column: str, ids: Text, rows: NDArray[np.int64], where: Callable[[np.integer], str], policy: str | None
) -> None:  # fmt: skip
    """InputError for ids that a spreadsheet has changed or that are one in several spellings; warnings on what is odd.

    Args:
        which: study or patient.
        ids: [R], '' where there is none.
        rows: [R], numbers of the rows in the file.
        where: row -> how an error text names it.
        policy: key by which a user keeps spellings apart; None where they are kept anyway.
    """
    codes, distinct = pd.factorize(ids)
    for pattern, what in ((ROUNDED, "a rounded number (1.23E+14)"), (DATE, "a date (1-Mar)")):
        spoilt = np.array([pattern.fullmatch(one) is not None for one in distinct], dtype=bool)[codes]
        for i in np.flatnonzero(spoilt)[:1]:
            raise InputError(
                f"{where(i)}: the {which} in column '{column}' is {what}, as a spreadsheet makes of ids "
                f"({int(spoilt.sum())} such row(s)); write the table anew with this column as text"
            )
    forms = spellings(distinct)
    again = pd.Series(forms).duplicated(keep=False).to_numpy() & (distinct != "")
    if again.any():
        several = f"{pd.unique(forms[again]).size} {which}(s) in several spellings, such as 7, 07 and 7.0"
        if policy is not None:
            alike = np.flatnonzero(forms[codes] == forms[again][0])
            first = ", ".join(map(str, rows[alike[pd.Series(ids[alike]).drop_duplicates().index[:4]]]))
            raise InputError(
                f"{where(alike[0])}: column '{column}' writes {several} (rows {first}); "
                f"write each in one way, or set {policy}=keep where they differ"
            )
        log.warning("column '%s' writes what may be %s; each counts by itself", column, several)
    long = [one[EXACT:] for one in distinct if len(one) > EXACT and one.isascii() and one.isdigit()]
    if len(long) > 1 and all(set(end) == {"0"} for end in long):
        log.warning(
            "the numbers in column '%s' are zeros after %d digits: has a spreadsheet rounded them, so that several %ss "
            "are one?", column, EXACT, which,
        )  # fmt: skip
    times = np.bincount(codes[ids != ""], minlength=1)
    if which == "patient" and len(distinct) > 1 and times.max() >= max(CROWD, MOST * len(ids)):
        log.warning(
            "column '%s': %d of %d rows are of one patient (row %d is the first): is the id a word for nobody?",
            column, times.max(), len(ids), rows[codes == times.argmax()][0],
        )  # fmt: skip
