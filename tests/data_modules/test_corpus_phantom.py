from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_modules.chest_xray import ChestXrayDataModule
from data_modules.config import DataConfig
from data_modules.corpora import phantom
from data_modules.corpora.phantom import written
from data_modules.corpus_config import CorpusConfig, PhantomConfig, SplitCounts
from data_modules.disk import CannotWrite
from data_modules.errors import InputError
from data_modules.findings import PRESENT


def corpus(seed: int = 0, **changes: object) -> CorpusConfig:
    config = PhantomConfig(SplitCounts(train=6, val=3, test=12), image_px=64, seed=seed)
    return CorpusConfig(reader="phantom", phantom=config, **changes)  # type: ignore[arg-type]


def module(folder: Path, **changes: object) -> ChestXrayDataModule:
    found = ChestXrayDataModule(DataConfig([corpus(**changes)], image_size=32, batch_size=2), folder, 0)  # type: ignore[arg-type]
    found.setup()
    return found


def test_the_phantom_is_written_once_and_read_as_a_table(tmp_path: Path) -> None:
    first = module(tmp_path)
    assert first.table.corpora == ("phantom",) and first.findings[-3:] == ("mass", "tuberculosis", "hiatal_hernia")
    assert {s: len(first.table.rows(s)) for s in ("train", "val", "test")} == {"train": 6, "val": 3, "test": 12}
    assert all(first.table.reports) and set(first.table.attributes) == {"view", "sex", "age"}
    unseen = first.table.states[:, -3:] == PRESENT
    assert not unseen[first.table.split != "test"].any()
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "phantom").rglob("*.dcm")}
    assert len(stamps) == 21
    again = module(tmp_path)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "phantom").rglob("*.dcm")} == stamps
    assert again.table.digest() == first.table.digest() and again.cache.digest() == first.cache.digest()
    elsewhere = module(tmp_path / "elsewhere")
    assert elsewhere.table.digest() == first.table.digest() and elsewhere.cache.digest() == first.cache.digest()
    assert module(tmp_path, seed=1).table.digest() != first.table.digest()


def test_a_changed_generator_never_meets_an_old_phantom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(source: str) -> str:
        (tmp_path / "generator").mkdir(exist_ok=True)
        (tmp_path / "generator" / "scene.py").write_text(source)
        with monkeypatch.context() as patch:
            patch.setattr(phantom.resources, "files", lambda package: tmp_path / "generator")
            patch.setattr("data_modules.phantom.write.write_phantom", lambda folder, **_: "digest")
            return phantom.written(PhantomConfig(), tmp_path).name

    assert place("ribs = 12") == place("ribs = 12") != place("ribs = 13")


def test_settings_of_the_table_reader_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.corpora\.0\.root: belongs to the table reader"):
        module(tmp_path, root="/data")


@pytest.mark.fault(24)
def test_a_phantom_on_a_read_only_disk_is_read(small_disk: Callable[..., Path], remount: Callable[..., None]) -> None:
    place = small_disk("2m")
    config = PhantomConfig(SplitCounts(2, 1, 1), image_px=64)
    folder = written(config, place)
    assert sorted(one.name for one in (place / "phantom").iterdir()) == [folder.name]
    remount(place, "ro")
    assert written(config, place) == folder
    with pytest.raises(CannotWrite, match=r"cannot be written \(Read-only file system\)"):
        written(PhantomConfig(SplitCounts(3, 1, 1), image_px=64), place)


@pytest.mark.fault(6)
def test_a_phantom_that_does_not_fit_leaves_nothing(small_disk: Callable[..., Path]) -> None:
    place = small_disk("100k")
    with pytest.raises(CannotWrite, match=r"phantom/\w+: cannot be written \(No space left"):
        written(PhantomConfig(SplitCounts(40, 1, 1), image_px=64), place)
    assert not list((place / "phantom").iterdir())
