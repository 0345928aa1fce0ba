"""Readers by name: a corpus' config in, its study table out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

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


def _official(corpus: ModuleType) -> Reader:
    def read(config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str) -> StudyTable:
        config, root = corpus.LAYOUT.opened(config, key)
        return corpus.read(config, root, ontology, salt, key)

    return read


OFFICIAL = (
    chexpert,
    chexpert_5x200,
    mimic_cxr,
    vindr_cxr,
    chestxray14,
    chestxdet,
    rsna,
    covidx,
    siim,
    padchest,
    cxr_lt,
    cxr_lt_2026,
    openi,
    ct_rate,
    rad_chestct,
    covid_ct,
    lidc_idri,
    inspect_ctpa,
)
"""Published corpora, a file each."""
READERS: dict[str, Reader] = {
    "table": _table,
    "phantom": phantom.read,
    **{corpus.LAYOUT.reader: _official(corpus) for corpus in OFFICIAL},
}
LAYOUTS: dict[str, Layout] = {corpus.LAYOUT.reader: corpus.LAYOUT for corpus in OFFICIAL}
"""Reader -> the published corpus that it reads."""
PUBLISHED: dict[str, Mapping[str, int]] = {reader: layout.published for reader, layout in LAYOUTS.items()}
"""Reader -> images per split of the published release, where such numbers were published."""


def read(config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str) -> StudyTable:
    """Return the table of a corpus by its `reader`, kept or read; InputError names the nearest reader."""
    if config.reader not in READERS:
        raise InputError(f"{key}.reader: there is no reader '{config.reader}'{nearest(config.reader, READERS)}")
    return open_or_read(READERS[config.reader], config, ontology, salt, cache_dir, key)
