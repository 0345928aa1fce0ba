"""Readers by name: a corpus' config in, its study table out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_modules.corpora import chexpert, phantom, table
from data_modules.corpus_config import CorpusConfig
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology
from data_modules.study import StudyTable

Reader = Callable[[CorpusConfig, Ontology, bytes, Path, str], StudyTable]


def _table(config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str) -> StudyTable:
    return table.read(config, ontology, salt, key)


READERS: dict[str, Reader] = {
    "table": _table,
    "phantom": phantom.read,
    "chexpert": chexpert.read,
}


def read(config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str) -> StudyTable:
    """Return the table of a corpus by its `reader`; InputError names the nearest reader."""
    if config.reader not in READERS:
        raise InputError(f"{key}.reader: there is no reader '{config.reader}'{nearest(config.reader, READERS)}")
    return READERS[config.reader](config, ontology, salt, cache_dir, key)
