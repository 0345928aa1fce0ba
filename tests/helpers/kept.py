"""What the tests of kept tables share: spied readers, any table, and equality field by field."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from official import KEY, phantom
from small_corpus import SALT

from data_modules import corpora, table_store
from data_modules.corpus_config import BadRows, CorpusConfig
from data_modules.findings import Ontology, ontology
from data_modules.phantom.layouts import LAYOUTS
from data_modules.study import Coverage, StudyTable, offsets

SKIP = BadRows(on_missing_image="skip", on_split_orphan="skip", on_bad_label="skip")


def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The readers that are called from now on; tables of any size are kept."""
    called: list[str] = []

    def spy(name: str, read: corpora.Reader) -> corpora.Reader:
        def reader(*arguments: Any) -> StudyTable:
            called.append(name)
            return read(*arguments)

        return reader

    monkeypatch.setattr(corpora, "READERS", {name: spy(name, read) for name, read in corpora.READERS.items()})
    monkeypatch.setattr(table_store, "WORTHWHILE", 1)
    return called


EVERY_LAYOUT = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("covid_ct", "lidc_idri") else name
    for name in sorted(LAYOUTS)
]
"""names of the official layouts; the volumes of two are seconds to write, and ct_rate stands for them"""


def layout(name: str, home: Path) -> CorpusConfig:
    """The config of a published corpus with its phantom below `home`, written when missing."""
    root = home / name if (home / name).exists() else phantom(name, home / name)
    return CorpusConfig(reader=name, root=str(root), bad=SKIP)


def read(config: CorpusConfig, cache: Path, known: Ontology | None = None, key: str = KEY) -> StudyTable:
    return corpora.read(config, known or ontology(), SALT, cache, key)


def kept_file(cache: Path) -> Path:
    (path,) = (cache / "tables").glob("*.table")
    return path


def assert_same(one: StudyTable, other: StudyTable) -> None:
    """Every field: its type, the kind of its array, its content."""
    assert one.digest() == other.digest()
    for field in fields(StudyTable):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert type(a) is type(b), field.name
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape and b.flags.writeable, field.name
            np.testing.assert_array_equal(a, b)
        elif isinstance(a, dict):
            assert list(a) == list(b) and all(a[name].tolist() == b[name].tolist() for name in a), field.name
        else:
            assert a == b, field.name


texts = st.text(st.characters(exclude_categories=()), max_size=8)


@st.composite
def tables(draw: st.DrawFn, image: str) -> StudyTable:
    """A table of up to six studies, its images all the same file."""
    counts = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    n, images = len(counts), sum(counts)

    def column(size: int) -> list[str]:
        return draw(st.lists(texts, min_size=size, max_size=size))

    findings = tuple(draw(st.lists(texts, max_size=3, unique=True)))
    states = draw(st.lists(st.lists(st.integers(0, 3), min_size=len(findings), max_size=len(findings)), min_size=n,
                           max_size=n))  # fmt: skip
    coverage = Coverage(filtered=draw(st.dictionaries(texts, st.integers(0), max_size=2)))
    for reason in column(2):
        coverage.skip(reason, 3)
        coverage.count(reason, 4, "ours")
    own: dict[str, Any] = {}
    if "rescale" in {field.name for field in fields(StudyTable)}:
        own["rescale"] = np.array(draw(st.lists(st.floats(), min_size=2 * images, max_size=2 * images))).reshape(-1, 2)
    return StudyTable(
        corpora=(draw(texts),), corpus=np.zeros(n, np.int16), image_paths=[image] * images, image_ids=column(images),
        image_offsets=offsets(counts), reports=column(n), told=column(n), findings=findings,
        states=np.array(states, np.int8).reshape(n, len(findings)), coded=(findings,),
        attributes={name: np.array(column(n), dtype=object) for name in column(2)}, source_rows=np.arange(n),
        coverage=coverage, **own,
        **{name: np.array(column(n), dtype=object) for name in ("study_id", "patient", "split", "modality")},
    )  # fmt: skip
