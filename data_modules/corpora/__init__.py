"""Readers by name: a corpus' config in, its study table out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from data_modules.corpora import (
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
    phantom,
    rad_chestct,
    rsna,
    siim,
    table,
    vindr_cxr,
)
from data_modules.corpora.official import Layout
from data_modules.corpus_config import CorpusConfig
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import open_or_read

Reader = Callable[[CorpusConfig, Ontology, bytes, Path, str], StudyTable]


def _table(config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str) -> StudyTable:
    return table.read(config, ontology, salt, key)


READERS: dict[str, Reader] = {
    "table": _table,
    "phantom": phantom.read,
    "chexpert": chexpert.read,
    "chexpert_5x200": chexpert_5x200.read,
    "mimic_cxr": mimic_cxr.read,
    "vindr_cxr": vindr_cxr.read,
    "chestxray14": chestxray14.read,
    "chestxdet": chestxdet.read,
    "rsna": rsna.read,
    "covidx": covidx.read,
    "siim": siim.read,
    "padchest": padchest.read,
    "cxr_lt": cxr_lt.read,
    "cxr_lt_2026": cxr_lt_2026.read,
    "openi": openi.read,
    "ct_rate": ct_rate.read,
    "rad_chestct": rad_chestct.read,
    "covid_ct": covid_ct.read,
    "lidc_idri": lidc_idri.read,
    "inspect": inspect_ctpa.read,
}
LAYOUTS: dict[str, Layout] = {
    corpus.LAYOUT.reader: corpus.LAYOUT
    for corpus in (
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
}
"""Reader -> the published corpus that it reads."""
PUBLISHED: dict[str, Mapping[str, int]] = {reader: layout.published for reader, layout in LAYOUTS.items()}
"""Reader -> images per split of the published release, where such numbers were published."""


def read(config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str) -> StudyTable:
    """Return the table of a corpus by its `reader`, kept or read; InputError names the nearest reader."""
    if config.reader not in READERS:
        raise InputError(f"{key}.reader: there is no reader '{config.reader}'{nearest(config.reader, READERS)}")
    return open_or_read(READERS[config.reader], config, ontology, salt, cache_dir, key)
