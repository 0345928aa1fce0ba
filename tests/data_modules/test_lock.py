"""Locks: one process at a time, those of the dead taken over, and no help from the file system but O_EXCL."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_modules import lock
from data_modules.disk import CannotWrite
from data_modules.errors import InputError
from data_modules.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from data_modules.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""
COUNT = """
import sys
from pathlib import Path
from data_modules.lock import locked
count = Path(sys.argv[1])
for _ in range(20):
    with locked(count.with_suffix(".lock")):
        count.write_text(str(int(count.read_text()) + 1))
"""


def start(code: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)


def held(path: Path) -> subprocess.Popen[str]:
    """A process that holds a lock."""
    process = start(HOLD, path)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def elsewhere(path: Path, **changes: object) -> dict[str, object]:
    """Let a lock be of another machine."""
    with locked(path.with_name("other")):
        content = json.loads(path.with_name("other").read_text())
    content |= {"host": "node7", "machine": "another boot", **changes}
    path.write_text(json.dumps(content))
    return content


@pytest.mark.fault(22)
def test_a_second_process_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "run/.lock"
    process = held(path)
    try:
        with pytest.raises(InputError) as fault, locked(path, wait=False):
            pass
        said, holder = str(fault.value), json.loads(path.read_text())
        assert holder["pid"] == process.pid and "\n" not in said
        assert said == (
            f"{tmp_path / 'run'}: process {process.pid} on {holder['host']} (since {holder['since']}) works there; "
            "wait for it, or stop it"
        )
    finally:
        process.kill()
        process.wait()


@pytest.mark.fault(23)
def test_the_lock_of_a_dead_process_is_taken_over_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "lock"
    process = held(path)
    process.kill()
    process.wait()
    with caplog.at_level(logging.INFO), locked(path, wait=False):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert f"{path}: taken over from process {process.pid} on " in caplog.text and "which has ended" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(23)
def test_a_number_that_another_process_has_by_now_is_no_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "started": "1"}))
    with locked(path, wait=False):
        pass
    zombie = held(path)
    zombie.kill()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its number is not free yet
    with locked(path, wait=False):
        pass
    zombie.wait()


@pytest.mark.fault(23)
def test_of_another_machine_its_sign_of_life_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(lock, "STALE", 1.0)
    elsewhere(path, pid=os.getpid())  # a process of that number lives here too
    os.utime(path, (1, 1))
    with caplog.at_level(logging.INFO), locked(path, wait=False):
        pass
    assert "taken over" in caplog.text and "no sign of life for" in caplog.text
    elsewhere(path)
    begun = time.monotonic()
    with locked(path, wait=False):  # it falls silent while it is looked at
        assert 0.8 < time.monotonic() - begun < 10
    monkeypatch.setattr(lock, "STALE", 60.0)
    elsewhere(path)
    timer = threading.Timer(0.5, lambda: os.utime(path))
    timer.start()
    with pytest.raises(InputError, match=rf"process \d+ on node7 \(since .*if it is gone for certain, delete {path}"):  # noqa: SIM117
        with locked(path, wait=False):
            pass
    path.unlink()


def test_a_lock_that_says_nothing_is_not_taken_from_a_living_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(lock, "STALE", 0.5)
    for content in ("", "[1", '{"pid": "x"}', "7"):
        path.write_text(content)
        begun = time.monotonic()
        with locked(path, wait=False):
            assert time.monotonic() - begun > 0.3
            assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_holder_gives_signs_of_life_and_stops_when_its_lock_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(lock, "BEAT", 0.05)
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with locked(path):
            os.utime(path, (1, 1))
            time.sleep(0.3)
            assert time.time() - path.stat().st_mtime < 10 and not told
            elsewhere(path)
            time.sleep(0.3)
            assert told == [signal.SIGTERM] and "was taken away" in caplog.text
        assert json.loads(path.read_text())["host"] == "node7", "the lock of another stays"
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.fault(22)
def test_many_processes_wait_for_each_other(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    elsewhere(count.with_suffix(".lock"))
    os.utime(count.with_suffix(".lock"), (1, 1))  # all find the lock of a dead one first
    processes = [start(COUNT, count) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert count.read_text() == "80" and [one.name for one in tmp_path.iterdir()] == ["count"]


def test_no_place_for_a_lock_is_one_line(small_disk: Callable[..., Path], remount: Callable[..., None]) -> None:
    place = small_disk("16k")
    (place / "fill").write_bytes(b"x" * 16384)
    with pytest.raises(CannotWrite, match=r"lock: cannot be written \(No space left"), locked(place / "lock"):
        pass
    assert [one.name for one in place.iterdir()] == ["fill"]
    remount(place, "ro")
    with pytest.raises(CannotWrite, match=r"lock: cannot be written \(Read-only"), locked(place / "lock"):
        pass
