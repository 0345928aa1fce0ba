"""The phantom in the official layouts of published corpora, traps included: what readers are tried on without data."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from data_modules.corpora.phantom import TABLE, written
from data_modules.corpus_config import PhantomConfig
from data_modules.errors import InputError, nearest
from data_modules.files import new_folder
from data_modules.phantom.findings import NAMES
from data_modules.phantom.layouts import (
    chestxdet,
    chestxray14,
    chexpert,
    chexpert_5x200,
    covid_ct,
    covidx,
    ct_rate,
    cxr_lt,
    cxr_lt_2026,
    inspect_ctpa,
    lidc_idri,
    mimic_cxr,
    openi,
    padchest,
    rad_chestct,
    rsna,
    siim,
    vindr_cxr,
)
from data_modules.phantom.layouts.case import Case

LAYOUTS: dict[str, Callable[[list[Case], Path], None]] = {
    "chexpert": chexpert.write,
    "chexpert_5x200": chexpert_5x200.write,
    "mimic_cxr": mimic_cxr.write,
    "chestxray14": chestxray14.write,
    "chestxdet": chestxdet.write,
    "rsna": rsna.write,
    "vindr_cxr": vindr_cxr.write,
    "covidx": covidx.write,
    "siim": siim.write,
    "padchest": padchest.write,
    "openi": openi.write,
    "cxr_lt": cxr_lt.write,
    "cxr_lt_2026": cxr_lt_2026.write,
    "ct_rate": ct_rate.write,
    "rad_chestct": rad_chestct.write,
    "covid_ct": covid_ct.write,
    "lidc_idri": lidc_idri.write,
    "inspect": inspect_ctpa.write,
}
"""Corpus -> what writes its layout into an empty folder."""
OF_CT = ("ct_rate", "rad_chestct", "covid_ct", "lidc_idri", "inspect")
"""Layouts that are made of the phantom's CT."""


def write_layout(corpus: str, out: Path, config: PhantomConfig, cache_dir: Path) -> int:
    """Write the phantom of `config` to the folder `out` in the layout of `corpus`; returns the number of studies.

    Raises:
        InputError: no such layout, or `out` holds something already.
    """
    if corpus not in LAYOUTS:
        raise InputError(f"corpus: there is no layout '{corpus}'{nearest(corpus, LAYOUTS)}")
    with new_folder(out, "out") as draft:
        found = cases(written(config, cache_dir, "chest_ct" if corpus in OF_CT else "chest_xray"))
        LAYOUTS[corpus](found, draft)
    return len(found)


def cases(folder: Path) -> list[Case]:
    """The studies of a phantom on disk, in its order; patients are numbered from 1 over all splits."""
    with (folder / TABLE).open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    numbers: dict[str, int] = {}
    for row in rows:
        numbers.setdefault(row["patient"], len(numbers) + 1)
    return [
        Case(
            number=i, split=row["split"], patient=numbers[row["patient"]], view=row["view"], sex=row["sex"],
            age=int(row["age"]), report=row["report"], image=folder / row["image"],
            findings=frozenset(name for name in NAMES if row[name] == "1"),
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
