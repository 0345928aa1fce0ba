"""`radz predict` that is cut off: the repeated command goes on, and its files are those of an unbroken one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_modules.errors import InputError
from data_modules.lock import locked
from radz import Radz
from radz.inference.predict import predict_folder

KEYS = {"findings": ["edema", "mass"]}


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From now on images are counted in `read`, and a command is stopped at the n-th; 0 never."""
    monkeypatch.setattr("radz.inference.predict.BATCH", 2)
    monkeypatch.setattr("radz.inference.kept_rows.BATCH", 2, raising=False)
    images = Radz.images

    def at(number: int) -> list[str]:
        read: list[str] = []

        def counting(self: Radz, path: Path) -> object:
            read.append(Path(path).name)
            if len(read) == number:
                raise KeyboardInterrupt
            return images(self, path)

        monkeypatch.setattr(Radz, "images", counting)
        return read

    return at


def test_the_repeated_command_goes_on_and_ends_the_same(
    trained_run: Path, folder: Path, tmp_path: Path, cut_off, caplog: pytest.LogCaptureFixture
) -> None:
    run, out, whole = str(trained_run), tmp_path / "out/scores.csv", tmp_path / "whole/scores.csv"
    maps = str(tmp_path / "maps")
    cut_off(0)
    predict_folder(run, str(folder), str(whole), **KEYS)
    for number in (5, 3):  # of five studies, two a batch; then within the rest
        cut_off(number)
        with pytest.raises(KeyboardInterrupt):
            predict_folder(run, str(folder), str(out), **KEYS)
        assert [path.name for path in out.parent.iterdir()] == [".scores.csv.part"]
        with (out.parent / ".scores.csv.part").open("a") as file:
            file.write('["", ["yes", ')  # killed within a line
        caplog.clear()
        read = cut_off(0)
        with caplog.at_level(logging.INFO):
            predict_folder(run, str(folder), str(out), **KEYS)
        assert f"{number - 1} studies scored by a command that was cut off" in caplog.text
        assert len(read) == 6 - number
        for suffix in (".csv", ".json"):
            assert out.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes()
        assert sorted(path.name for path in out.parent.iterdir()) == ["scores.csv", "scores.json"]
        out.unlink()
        out.with_suffix(".json").unlink()
    cut_off(6)  # each map reads its image again
    with pytest.raises(KeyboardInterrupt):
        predict_folder(run, str(folder), str(out), heatmaps=maps, **KEYS)
    drawn = {path: path.stat().st_mtime_ns for path in Path(maps).rglob("*.png")}
    assert len(drawn) == 4
    gone = min(drawn)
    gone.unlink()
    cut_off(0)
    predict_folder(run, str(folder), str(out), heatmaps=maps, **KEYS)
    assert gone.is_file()
    drawn = {path: at for path, at in drawn.items() if path.name.split("_")[0] != gone.name.split("_")[0]}
    assert len(drawn) == 2
    assert drawn.items() < {path: path.stat().st_mtime_ns for path in Path(maps).rglob("*.png")}.items()


def test_rows_of_anything_else_are_not_taken(trained_run: Path, folder: Path, tmp_path: Path, cut_off) -> None:
    run, out = str(trained_run), tmp_path / "out/scores.csv"

    def stopped() -> None:
        cut_off(5)
        with pytest.raises(KeyboardInterrupt):
            predict_folder(run, str(folder), str(out), **KEYS)

    stopped()
    read = cut_off(0)
    predict_folder(run, str(folder), str(out), ["edema"])
    assert len(read) == 5
    stopped()
    os.utime(folder / "a.dcm", (1, 1))
    read = cut_off(0)
    predict_folder(run, str(folder), str(out), **KEYS)
    assert len(read) == 5


def test_one_command_at_a_time_makes_a_table(trained_run: Path, folder: Path, tmp_path: Path) -> None:
    with locked(tmp_path / ".scores.csv.part.lock"), pytest.raises(InputError, match=r"process \d+ on .* works there"):
        predict_folder(str(trained_run), str(folder), str(tmp_path / "scores.csv"), **KEYS)
