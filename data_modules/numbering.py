"""Patient numbers of several corpora: whether a number that stands in two of them may be one person."""

from __future__ import annotations

import logging
from itertools import combinations
from typing import Any, Protocol

import pandas as pd

from data_modules.cells import spellings
from data_modules.corpus_config import OWN_PATIENTS
from data_modules.errors import InputError

log = logging.getLogger(__name__)
TOLD = "they are the same people: give both one name as data.corpora.<i>.patients"


class Patients(Protocol):
    """What is read of a StudyTable."""

    corpora: tuple[str, ...]
    numbering: tuple[str, ...]
    patient: Any
    split: Any
    corpus: Any
    source_rows: Any

    @property
    def numberings(self) -> tuple[str, ...]: ...

    def who(self, row: int, salt: bytes) -> str: ...


def check_numbering(table: Patients, salt: bytes) -> None:
    """Look for ids that two corpora of the table have in common, however they are spelt (7, 07).

    Corpora of two numberings that were both said (or are those of published corpora) are apart, and so is one whose
    patients are its own. InputError where of two others a patient stands in different splits; a warning where all that
    they share stand in the same one. Of corpora that share their patients, each must be spelt alike.
    """
    if len(table.corpora) < 2:
        return
    names, seen = table.numberings, {}
    form = spellings(table.patient)
    keys = pd.DataFrame({"id": table.patient, "form": form, "split": table.split, "corpus": table.corpus})
    keys = keys.drop_duplicates(["form", "split", "corpus"])
    for number in range(len(names)):
        seen[number] = keys[keys["corpus"] == number]
    for a, b in combinations(range(len(names)), 2):
        shared = names[a] == names[b]
        said = "" not in (table.numbering[a], table.numbering[b]) or OWN_PATIENTS in (
            table.numbering[a], table.numbering[b]
        )  # fmt: skip
        if said and not shared:
            continue
        both = seen[a].reset_index().merge(seen[b].reset_index(), on="form", suffixes=("", "_b"))
        where = f"corpora {table.corpora[a]} and {table.corpora[b]}"
        other = both[both["id"] != both["id_b"]] if shared else both[both["split"] != both["split_b"]]
        if not len(other):
            if len(both) and not shared:
                log.warning(
                    "%s have %d patient id(s) in common, in the same splits; if %s, else give %s",
                    where, both["form"].nunique(), TOLD, OWN_PATIENTS,
                )  # fmt: skip
            continue
        i, j = (int(other[name].iloc[0]) for name in ("index", "index_b"))
        rows = [f"{table.corpora[c]} row {table.source_rows[k]} in {table.split[k]}" for c, k in ((a, i), (b, j))]
        what = f"{other['form'].nunique()} patient id(s), such as {table.who(i, salt)} ({', '.join(rows)}), "
        if shared:
            raise InputError(f"{where}: {what}are spelt in two ways (7, 07) though they are shared; write each in one")
        raise InputError(
            f"{where}: {what}stand in other splits of the other; if {TOLD}, and one split; else give "
            f"data.corpora.<i>.patients={OWN_PATIENTS}"
        )
