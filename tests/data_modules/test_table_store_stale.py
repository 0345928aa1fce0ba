"""Kept study tables are never served stale: whatever a reader looked at is watched."""

from __future__ import annotations

import ast
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kept import EVERY_LAYOUT, SKIP, assert_same, layout, read
from official import KEY
from small_corpus import SALT, Corpus

from data_modules import corpora, table_store
from data_modules.corpora import phantom
from data_modules.corpus_config import CorpusConfig
from data_modules.errors import InputError
from data_modules.findings import ontology

pytestmark = pytest.mark.usefixtures("reads")


def _restored(path: Path) -> None:
    """Change a cell so that size and modification time stay; the status time cannot be set."""
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content.replace(b"Report 5", b"Report 6"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns


def _swap(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.utime(root / "metadata.csv"),
        lambda root: _restored(root / "metadata.csv"),
        lambda root: _swap(root / "metadata.csv", "Report 5.", "Pneumothorax."),
        lambda root: _swap(root / "split.csv", "img6.png,val", "img6.png,test"),
        lambda root: shutil.copy(root / "images/img1.png", root / "images/img11.png"),
    ],
    ids=["touched", "restored", "report", "split", "missing image appears"],
)
def test_a_change_below_root_is_seen(
    change: Callable[[Path], object], corpus: Corpus, cache: Path, reads: list[str]
) -> None:
    corpus.write()
    (corpus.root / "images/img11.png").unlink()
    config = corpus.config(bad=SKIP)
    assert len(read(config, cache)) == 11 == len(read(config, cache))
    assert len(reads) == 1
    change(corpus.root)
    now = read(config, cache)
    assert len(reads) == 2
    assert_same(now, corpora.read(config, ontology(), SALT, cache.parent / "fresh", KEY))
    read(config, cache)
    assert len(reads) == 3  # only the fresh one


def test_a_vanished_image_follows_its_policy(corpus: Corpus, cache: Path, reads: list[str]) -> None:
    corpus.write()
    skip = corpus.config(bad=SKIP)
    assert len(read(corpus.config(), cache)) == 12 == len(read(skip, cache))
    (corpus.root / "images/img0.png").unlink()
    with pytest.raises(InputError, match="no image file"):
        read(corpus.config(), cache)
    assert len(read(skip, cache)) == 11 and read(skip, cache).coverage.skipped("ours") == 1
    assert len(reads) == 4


def _unzipped(root: Path) -> None:
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip") as archive:
        archive.extractall(root)
    (root / "mimic-cxr-reports.zip").unlink()


def _first(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mimic_cxr", lambda root: os.utime(root / "mimic-cxr-reports.zip")),
        ("mimic_cxr", lambda root: _unzipped(root)),
        ("mimic_cxr", lambda root: os.utime(_first(root, "*split.csv*"))),
        ("chexpert", lambda root: (root / "groundtruth.csv").unlink()),
        ("chexpert", lambda root: (root / "CheXpert-v1.0 batch 9").mkdir()),
        ("chexpert", lambda root: os.utime(root / "valid.csv")),
        ("chexpert", lambda root: shutil.copy(*_next_view(root))),
        ("chestxray14", lambda root: (root / "Data_Entry_2017_v2020.csv").rename(root / "Data_Entry_2017.csv")),
        ("openi", lambda root: _swap(_first(root, "**/1.xml"), "<MedlineCitation", "<MedlineCitation ")),
        ("openi", lambda root: _first(root, "**/2.xml").unlink()),
        ("padchest", lambda root: os.utime(_first(root, "PADCHEST*"))),
        ("covidx", lambda root: _swap(root / "test.txt", "negative", "positive")),
        ("siim", lambda root: shutil.copytree(_first(root, "dicom-images-train/*"), root / "dicom-images-train/9")),
    ],
)
def test_official_layouts_see_what_their_readers_see(
    name: str, change: Callable[[Path], object], home: Path, tmp_path: Path, cache: Path, reads: list[str]
) -> None:
    config = _copied(name, home, tmp_path)
    for _ in range(2):
        read(config, cache)
    assert len(reads) == 1
    change(tmp_path / name)
    read(config, cache)
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("name", "linked"),
    [
        ("chexpert", "groundtruth.csv"),
        ("chexpert", "df_chexpert_plus_240401.csv"),
        ("chexpert_5x200", "train.csv"),
        ("chexpert_5x200", "df_chexpert_plus_240401.csv"),
        ("covidx", "val.txt"),
        ("mimic_cxr", "mimic-cxr-2.1.0-test-set-labeled.csv"),
        ("openi", "indiana_projections.csv"),
    ],
)
def test_a_linked_file_that_is_fetched_is_seen(
    name: str, linked: str, home: Path, tmp_path: Path, cache: Path, reads: list[str]
) -> None:
    """As git-annex leaves it: the link is there all along, so that no folder's list of names changes."""
    config = _copied(name, home, tmp_path)
    path, store = tmp_path / name / linked, tmp_path / "store"
    path.rename(store)
    path.symlink_to(tmp_path / "fetched")
    for _ in range(2):
        read(config, cache)
    assert len(reads) == 1
    store.rename(tmp_path / "fetched")
    read(config, cache)
    assert len(reads) == 2


def test_readers_look_for_nothing_unwatched() -> None:
    """What the phantoms have all of, too. `root` must be there; the phantom's folder is named by what is in it."""
    files = sorted(set(Path(corpora.__file__).parent.glob("*.py")) - {Path(phantom.__file__)})
    calls = [call for file in files for call in ast.walk(ast.parse(file.read_bytes())) if isinstance(call, ast.Call)]
    looks = [
        call.func for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("is_file", "is_dir", "exists")
    ]  # fmt: skip
    bare = [look for look in map(ast.unparse, looks) if not look.startswith("watched(")]
    assert len(looks) > 15 and set(bare) == {"root.is_dir"}


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("FINDINGS: Goitre.")])
def test_reports_of_a_tree_are_watched_one_by_one(
    change: Callable[[Path], object], home: Path, tmp_path: Path, cache: Path, reads: list[str]
) -> None:
    config = _copied("mimic_cxr", home, tmp_path)
    _unzipped(tmp_path / "mimic_cxr")
    for _ in range(2):
        read(config, cache)
    change(_first(tmp_path / "mimic_cxr", "files/*/*/s*.txt"))
    read(config, cache)
    # One that was looked for in vain.
    images = {path.parent for path in (tmp_path / "mimic_cxr/files").glob("*/*/*/*.jpg")}
    next(path for path in images if not path.with_suffix(".txt").exists()).with_suffix(".txt").write_text("Clear.")
    read(config, cache)
    assert len(reads) == 3


def _copied(name: str, home: Path, folder: Path) -> CorpusConfig:
    """A copy of a layout below `folder`, to be changed."""
    config = layout(name, home)
    shutil.copytree(home / name, folder / name)
    return replace(config, root=str(folder / name))


def _next_view(root: Path) -> tuple[Path, Path]:
    view = _first(root, "test/patient*/study*/view1_frontal.jpg")
    return view, view.with_name("view9_frontal.jpg")


_seen: list[tuple[str, str]] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | Path):
        _seen.append((event, os.fspath(arguments[0])))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """What the interpreter opens, lists (by audit events) and looks for (by os.stat)."""
    found: list[tuple[str, str]] = []
    plain = os.stat

    def spy(path: Any, *rest: Any, **more: Any) -> os.stat_result:
        found.append(("os.stat", os.fspath(path)))
        return plain(path, *rest, **more)

    sys.addaudithook(_audit)  # there is no way to remove it
    monkeypatch.setattr(os, "stat", spy)
    monkeypatch.setattr(sys.modules[__name__], "_seen", found)
    yield found


@pytest.mark.parametrize("name", EVERY_LAYOUT)
def test_readers_watch_all_that_they_open_list_or_look_for(
    name: str, home: Path, cache: Path, seen: list[tuple[str, str]]
) -> None:
    config = layout(name, home)
    with table_store._recorded() as (record, _):
        seen.clear()
        corpora.READERS[name](config, ontology(), SALT, cache, KEY)
        events = {(event, path) for event, path in seen if Path(path).is_relative_to(home / name)}
    # Whether a file is there, its folder's list of names tells too.
    missed = {
        path for event, path in events
        if path not in record and (event != "os.stat" or os.path.dirname(path) not in record)
    }  # fmt: skip
    assert events and not missed
