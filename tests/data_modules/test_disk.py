"""Fault 6: what the disk refuses is one line, and what was there before is kept."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from data_modules.disk import ADVICE, CannotWrite, cannot_open, cannot_write, refusal, writing
from data_modules.errors import InputError
from data_modules.files import file_to_write, new_folder, replacing

NOISE = np.random.default_rng(0).integers(0, 255, (500, 500), dtype=np.uint8)


def text(path: Path) -> None:
    path.write_text("x" * 250_000)


def torch_handle(path: Path) -> None:
    with path.open("wb") as file:
        torch.save({"a": torch.from_numpy(NOISE)}, file)


def numpy_handle(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, NOISE)


def sqlite(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("create table a (b blob)")
        base.execute("insert into a values (?)", (NOISE.tobytes(),))


def tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({str(i): i for i in range(20_000)}, "0")).save(str(path))


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": text,
    "torch": lambda path: torch.save({"a": torch.from_numpy(NOISE)}, path),
    "torch handle": torch_handle,
    "safetensors": lambda path: save_file({"a": torch.from_numpy(NOISE)}, path),
    "numpy handle": numpy_handle,
    "picture": lambda path: Image.fromarray(NOISE).save(path, format="PNG"),
    "tokenizer": tokenizer,
    "sqlite": sqlite,
}


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file of this process may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.fault(6)
@pytest.mark.parametrize("kind", list(WRITERS))
def test_a_full_disk_is_one_line_whoever_writes(kind: str, small_disk: Callable[..., Path]) -> None:
    place = small_disk("200k")
    target = place / "file"
    target.write_text("before")
    with pytest.raises(CannotWrite) as fault, replacing(target) as draft:
        WRITERS[kind](draft)
    said = str(fault.value)
    room = f"more than the {shutil.disk_usage(place).free:,} free bytes needed); make room, and repeat the command"
    assert said == f"{target}: cannot be written (No space left on device, {room}"
    assert target.read_text() == "before" and [one.name for one in place.iterdir()] == ["file"]


@pytest.mark.fault(6)
@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "sqlite"])  # which ends in a disk I/O error
def test_a_file_that_may_not_grow_is_one_line(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("before")
    with limited(100_000), pytest.raises(CannotWrite, match=r"file: cannot be written \(") as fault:  # noqa: SIM117
        with replacing(target) as draft:
            WRITERS[kind](draft)
    assert "\n" not in str(fault.value)
    assert target.read_text() == "before" and [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.fault(6)
@pytest.mark.parametrize("number", list(ADVICE))
def test_each_refusal_has_its_words(number: int, tmp_path: Path) -> None:
    with pytest.raises(CannotWrite) as fault, replacing(tmp_path / "a.csv", 1_234_567) as draft:
        draft.write_text("part")
        raise OSError(number, os.strerror(number))
    said = str(fault.value)
    assert said.startswith(f"{tmp_path / 'a.csv'}: cannot be written ({os.strerror(number)}") and ADVICE[number] in said
    assert ("1,234,567 bytes needed" in said) == (number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    assert not list(tmp_path.iterdir())


def test_without_file_entries_the_line_says_so(small_disk: Callable[..., Path], remount: Callable[..., None]) -> None:
    place = small_disk("4m")
    remount(place, "nr_inodes=3")
    (place / "one").touch()
    (place / "two").touch()
    with pytest.raises(CannotWrite, match="no file can be added, however small"), replacing(place / "three") as draft:
        draft.touch()


@pytest.mark.fault(6)
def test_a_read_only_disk_is_one_line(small_disk: Callable[..., Path], remount: Callable[..., None]) -> None:
    place = small_disk("200k")
    remount(place, "ro")
    with pytest.raises(CannotWrite, match=r"new/a: cannot be written \(Read-only file system\); choose a place"):  # noqa: SIM117
        with replacing(place / "new/a") as draft:
            draft.touch()
    with (
        pytest.raises(InputError, match=r"out: .*new: cannot be written \(Read-only"),
        new_folder(place / "new", "out"),
    ):
        pass


def test_a_place_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for target in ("file/a.csv", "folder"):
        with pytest.raises(CannotWrite, match="choose another place"), replacing(tmp_path / target) as draft:
            draft.touch()


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "circle").symlink_to("circle")
    for name, why in (("pipe", "it is a pipe"), ("to_pipe", "it is a pipe"), ("circle", "Too many levels of symbolic")):
        with (
            pytest.raises(CannotWrite, match=rf"{name}: cannot be written \({why}"),
            replacing(tmp_path / name) as draft,
        ):
            draft.touch()
        with pytest.raises(InputError, match=rf"^out: {tmp_path / name}: cannot be written \({why}"):
            file_to_write(str(tmp_path / name), "out")
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "to_pipe").is_symlink()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["circle", "pipe", "to_pipe"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here, there / "empty"):
        folder.mkdir()
    (there / "old.csv").write_text("old")
    for name in ("old.csv", "new.csv", "empty", "folder"):
        (here / name).symlink_to(f"../there/{name}")
    for name in ("old.csv", "new.csv"):
        with replacing(file_to_write(str(here / name), "out")) as draft:
            draft.write_text("new")
            assert draft.parent == there
        assert (here / name).is_symlink() and (there / name).read_text() == "new"
    for name in ("empty", "folder"):
        with new_folder(here / name, "out") as draft:
            (draft / "a").write_text("new")
        assert (here / name).is_symlink() and (there / name / "a").read_text() == "new"
    assert sorted(one.name for one in there.iterdir()) == ["empty", "folder", "new.csv", "old.csv"]
    with replacing(here / "old.csv") as draft:  # no user named this one: it may be another run's
        draft.write_text("other")
    assert not (here / "old.csv").is_symlink() and (there / "old.csv").read_text() == "new"


@pytest.mark.fault(6)
def test_a_full_disk_leaves_no_part_of_a_folder(small_disk: Callable[..., Path]) -> None:
    place = small_disk("200k")
    with pytest.raises(CannotWrite) as fault, new_folder(place / "out", "out") as draft:
        (draft / "whole").write_text("small")
        text(draft / "large")
    assert str(fault.value).startswith(f"{place / 'out'}: cannot be written (No space left on device, more than the 2")
    with pytest.raises(CannotWrite) as fault, new_folder(place / "out", "out") as draft, replacing(draft / "a") as part:
        text(part)
    assert str(fault.value).startswith(f"{place / 'out/a'}: cannot be written (No space")
    assert not list(place.iterdir())


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    others = [
        ValueError("x"), OSError("no number"), FileNotFoundError(errno.ENOENT, "gone", str(tmp_path / "other")),
        PermissionError(errno.EACCES, "not yours", "/etc/other"), RuntimeError("CUDA error"),
    ]  # fmt: skip
    for other in others:
        assert refusal(other) is None
        with pytest.raises(type(other)) as found, replacing(tmp_path / "a"):
            raise other
        assert found.value is other
    with pytest.raises(InputError, match="mine"), writing(tmp_path / "a"):
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError:
            raise InputError("mine") from None


def test_the_file_that_an_error_names_is_the_one_that_is_told(tmp_path: Path) -> None:
    fault = cannot_write(OSError(errno.EIO, "bad", "/data/image.dcm"), tmp_path / "scores.csv", 12)
    assert fault is not None and str(fault).startswith("/data/image.dcm: cannot be") and "12" not in str(fault)
    copied = OSError(errno.ENOSPC, "full", "/data/one.dcm", None, str(tmp_path / "two.dcm"))
    assert str(cannot_write(copied)).startswith(f"{tmp_path / 'two.dcm'}: cannot be written (No space left on device, ")


def test_a_place_that_may_not_be_used_is_told_whoever_meets_it(tmp_path: Path) -> None:
    shut = cannot_open(PermissionError(errno.EACCES, "no", str(tmp_path / "shut")))
    assert str(shut).startswith(f"{tmp_path}/shut: cannot be opened (Permission denied); see to the rights")
    assert "check the path" in str(cannot_open(NotADirectoryError(errno.ENOTDIR, "no", "a.csv/b")))
    for other in (OSError("no number"), PermissionError(errno.EACCES, "no"), FileNotFoundError(errno.ENOENT, "x", "y")):
        assert cannot_open(other) is None
