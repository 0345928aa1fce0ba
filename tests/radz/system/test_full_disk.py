"""Fault 6: a disk that refuses any file of a run ends it in one line, and the repeated command gives the same run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_run import SMALL
from survival import DROPOUT, assert_same, run

from data_modules import files
from data_modules.disk import CannotWrite

EVERY = "trainer.checkpoint_every_n_steps=2"


@contextmanager
def refusing(wanted: Callable[[int, str], bool]) -> Iterator[list[str]]:
    """A disk that takes no file of a run of which `wanted` (its turn and its name) holds; yields the names it took."""
    plain, names = files._to_disk, []

    def refuse(file: Path) -> None:
        name = file.name.split(".", 1)[1].rsplit(".", 2)[0]
        if "cache" in file.parts:  # which is cold or warm, as the tests before have left it
            return plain(file)
        if wanted(len(names), name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        names.append(name)
        plain(file)

    files._to_disk = refuse
    try:
        yield names
    finally:
        files._to_disk = plain


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, list[str]]:
    """A run that nothing stops, and the files that it writes, in order."""
    with refusing(lambda turn, name: False) as names:
        folder = run(tmp_path_factory.mktemp("whole") / "run", cache_dir, EVERY)
    return folder, names


def refused(folder: Path, cache: Path, wanted: Callable[[int, str], bool]) -> CannotWrite:
    with pytest.raises(CannotWrite, match=r"cannot be written \(No space left") as fault, refusing(wanted):
        run(folder, cache, EVERY)
    assert "\n" not in str(fault.value) and not list(folder.rglob("*.part"))
    return fault.value


@pytest.mark.slow
@pytest.mark.fault(6)
def test_a_run_goes_on_after_every_refusal(whole: tuple[Path, list[str]], tmp_path: Path, cache_dir: Path) -> None:
    """At the beginning, within an epoch, when results are written, and at the last file."""
    folder, wanted = tmp_path / "run", ["config.yaml", "last.ckpt", "phantom_test.csv", "report.html"]
    faults = [refused(folder, cache_dir, lambda turn, name, of=one: name == of) for one in wanted[:1]]
    turns = [turn for turn, name in enumerate(whole[1]) if name == "last.ckpt"]
    faults.append(refused(folder, cache_dir, lambda turn, name: turn >= turns[2] and name == "last.ckpt"))
    faults += [refused(folder, cache_dir, lambda turn, name, of=one: name == of) for one in wanted[2:]]
    assert [fault.path.name for fault in faults if fault.path] == wanted
    assert [fault.resumable for fault in faults] == [False, True, True, True]
    assert_same(whole[0], run(folder, cache_dir, EVERY))


@pytest.mark.slow
@pytest.mark.fault(6)
def test_wherever_it_is_refused(whole: tuple[Path, list[str]], tmp_path: Path, cache_dir: Path) -> None:
    """File after file in one folder: each attempt is refused a bit later than the one before."""
    folder, attempts = tmp_path / "run", 0
    for name in dict.fromkeys(whole[1]):
        with refusing(lambda turn, other, of=name: other == of):
            try:
                run(folder, cache_dir, EVERY)
            except CannotWrite as fault:
                assert fault.path is not None and fault.path.name == name
                attempts += 1
    assert attempts > 15
    assert_same(whole[0], run(folder, cache_dir, EVERY))


def command(cache: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "radz", "train", "demo", *SMALL, *DROPOUT, EVERY, f"cache_dir={cache}",
         f"run_dir={folder}", *more],
        text=True, capture_output=True, env=environment, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.fault(6)
@pytest.mark.parametrize("size", ["200k", "2m", "4m"])
@pytest.mark.parametrize("which", ["cache", "run"])
def test_on_a_small_disk(
    which: str, size: str, whole: tuple[Path, list[str]], small_disk: Callable[..., Path],
    remount: Callable[..., None], tmp_path: Path, cache_dir: Path,
) -> None:  # fmt: skip
    """The whole command on a real disk; with room made it goes on to the same numbers."""
    disk = small_disk(size)
    cache, folder = (disk / "cache", tmp_path / "run") if which == "cache" else (cache_dir, disk / "run")
    done = command(cache, folder)
    told = done.stderr.strip().splitlines()[-1]
    resumable = any((folder / f"checkpoints/{name}.ckpt").is_file() for name in ("last", "previous"))
    if done.returncode:
        assert done.returncode == (3 if resumable else 2), done.stderr[-3000:]
        assert told.startswith(f"radz: {disk}") and ("No space left" in told or "are free" in told), told
    assert "Traceback" not in done.stderr
    remount(disk, "size=64m")
    again = command(cache, folder)
    assert again.returncode == 0, again.stderr[-3000:]
    if which == "run":  # of another cache the salted hashes differ
        assert_same(whole[0], folder)
