"""Kept study tables: the same as read ones, one per config, and damage of any byte is found."""

from __future__ import annotations

import logging
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept import EVERY_LAYOUT, assert_same, kept_file, layout, read, spied, tables
from official import COUNTS, KEY, write_table
from small_corpus import SALT, Corpus

from data_modules import table_store
from data_modules.corpus_config import BadRows, CorpusConfig, LabelPolicy, PhantomConfig
from data_modules.errors import InputError
from data_modules.findings import ontology
from data_modules.study import StudyTable

pytestmark = pytest.mark.usefixtures("reads")
WHOLE_SIZE = table_store.WORTHWHILE


@pytest.mark.parametrize("name", [*EVERY_LAYOUT, "phantom"])
def test_a_kept_table_is_the_one_that_was_read(
    name: str, home: Path, cache: Path, reads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    if name == "phantom":
        config = CorpusConfig(reader=name, phantom=PhantomConfig(COUNTS, image_px=64, voxels=48, seed=1))
    else:
        config = layout(name, home)
    caplog.clear()
    caplog.set_level(logging.INFO, logger="data_modules.corpora")
    first = read(config, cache)
    said = [line for line in caplog.record_tuples if line[0].startswith("data_modules.corpora")]
    caplog.clear()
    assert_same(first, read(config, cache))
    assert reads == [name]
    assert [line for line in caplog.record_tuples if line[0].startswith("data_modules.corpora")] == said


def test_the_log_names_the_place_and_no_patient(corpus: Corpus, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    corpus.write()
    for _ in range(2):
        read(corpus.config(), cache)
    place = kept_file(cache)
    assert f"study table kept in {place}" in caplog.text and f"study table of ours opened from {place}" in caplog.text
    (corpus.root / "images/img3.png").rename(corpus.root / "images/else.png")
    with pytest.raises(InputError, match="no image file"):
        read(corpus.config(), cache)
    assert "1 file(s) or folder(s) of ours changed since" in caplog.text and "img3" not in caplog.text


def test_only_the_owner_may_read(corpus: Corpus, cache: Path) -> None:
    corpus.write()
    read(corpus.config(), cache)
    assert stat.S_IMODE((cache / "tables").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (cache / "tables").iterdir()} == {0o600}


def test_small_tables_are_read_each_time(corpus: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_store, "WORTHWHILE", WHOLE_SIZE)
    corpus.write()
    read(corpus.config(), cache)
    assert not cache.exists()


def test_a_folder_that_cannot_be_written_costs_only_time(
    corpus: Corpus, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus.write()
    cache.mkdir()
    (cache / "tables").write_text("in the way")
    assert len(read(corpus.config(), cache)) == 12
    assert "cannot be read" in caplog.text and "cannot be kept" in caplog.text


# What a table depends on.


@pytest.mark.parametrize(
    "change",
    [
        {"keep": {"view": ["PA"]}},
        {"policy": LabelPolicy(uncertain="present")},
        {"split_seed": 1},
        {"bad": BadRows(on_missing_image="skip")},
        {"report_sections": ["impression"]},
        {"name": "theirs"},
    ],
    ids=str,
)
def test_another_config_is_another_table(change: dict[str, Any], corpus: Corpus, cache: Path, reads: list[str]) -> None:
    corpus.write()
    read(corpus.config(), cache)
    other = read(corpus.config(**change), cache)
    assert len(reads) == 2
    assert_same(other, read(corpus.config(**change), cache))
    read(corpus.config(), cache)
    assert len(reads) == 2


def test_ontology_place_in_the_experiment_and_root_count(
    corpus: Corpus, cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.write()
    read(corpus.config(), cache)
    read(corpus.config(), cache, ontology().extended({"gout": {}}))
    read(corpus.config(), cache, key="data.corpora.1")
    shutil.copytree(corpus.root, corpus.root.parent / "copy" / "ours")
    for home in (corpus.root.parent, corpus.root.parent / "copy"):
        monkeypatch.chdir(home)
        read(corpus.config(root="ours"), cache)
    assert len(reads) == 5


def test_changed_code_takes_the_place_of_the_old_table(
    corpus: Corpus, cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.write()
    read(corpus.config(), cache)
    monkeypatch.setattr(table_store, "_source", lambda: b"another version!")
    for _ in range(2):
        read(corpus.config(), cache)
    assert len(reads) == 2 and kept_file(cache)


# Damage.


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CorpusConfig, Path, bytes, StudyTable]]:
    """A kept table, to be damaged, its bytes and what was read."""
    with pytest.MonkeyPatch.context() as patch:
        spied(patch)
        corpus, cache = Corpus(tmp_path_factory.mktemp("damage") / "ours"), tmp_path_factory.mktemp("cache")
        corpus.write()
        table = read(corpus.config(), cache)
        yield corpus.config(), cache, kept_file(cache).read_bytes(), table


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_byte_or_length_is_found(
    data: st.DataObject, damaged: tuple[CorpusConfig, Path, bytes, StudyTable], reads: list[str]
) -> None:
    config, cache, good, table = damaged
    place = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(
        st.sampled_from(
            [
                good[:place],
                good + good[:1],
                good[:place] + bytes([good[place] ^ 1 << data.draw(st.integers(0, 7))]) + good[place + 1 :],
                good[:place] + bytes(len(good) - place),
                good[:place] + good[place + 1 :],
            ]
        )
    )
    path = kept_file(cache)
    path.write_bytes(bad)
    before = len(reads)
    assert_same(table, read(config, cache))
    assert len(reads) == before + (bad != good)
    assert path.read_bytes()[20:] != b"" and len(path.read_bytes()) == len(good)


@pytest.mark.parametrize("place", [0, 15, 16, 19, 20, 21, -1])
def test_every_region_of_the_file_is_checked(
    place: int, damaged: tuple[CorpusConfig, Path, bytes, StudyTable], reads: list[str]
) -> None:
    config, cache, good, table = damaged
    bad = bytearray(good)
    bad[place] ^= 255
    kept_file(cache).write_bytes(bad)
    assert_same(table, read(config, cache))
    assert reads == ["table"]


# Any table.


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), block=st.integers(1, 4))
def test_any_table_comes_back_as_it_was(
    data: st.DataObject, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_store, "BLOCK", block)
    file = tmp_path / "file"
    file.write_text("some bytes")
    table = data.draw(tables(str(file)))
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    def made(*_: Any) -> StudyTable:
        table_store.watched(file)
        return table

    def refused(*_: Any) -> StudyTable:
        raise AssertionError("read again")

    arguments = (CorpusConfig(), ontology(), SALT, tmp_path / "cache", KEY)
    table_store.open_or_read(made, *arguments)
    opened = table_store.open_or_read(refused, *arguments)
    assert_same(table, opened)


def test_equal_cells_share_one_string(tmp_path: Path, cache: Path) -> None:
    rows = [(f"i{i}.png", f"p{i}", "train" if i % 2 else "test", "A report of some length.") for i in range(50)]
    write_table(tmp_path / "t.csv", ["image", "patient", "split", "report"], rows)
    for name, *_ in rows:
        (tmp_path / name).touch()
    columns = replace(CorpusConfig().columns, patient="patient", split="split", report="report")
    config = CorpusConfig(root=str(tmp_path), csv="t.csv", columns=columns)
    read(config, cache)
    opened = read(config, cache)
    for values, distinct in ((opened.split, 2), (opened.modality, 1), (opened.reports, 1), (opened.patient, 50)):
        assert len({id(value) for value in values}) == distinct


def test_a_field_of_a_new_kind_is_an_error() -> None:
    for value in (3.5, None, [1.0], {"view": {1}}):
        with pytest.raises(TypeError):
            table_store._pack(value, [])
