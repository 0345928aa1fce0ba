"""Fault 3 outside the steps: a signal ends a command in one line, also where a library swallows or renames it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import forked

from data_modules.errors import InputError
from data_modules.workers import PARENT, WorkerDied
from radz import stopping
from radz.cli import command_line


def ended(work: Callable[[], object], tmp_path: Path) -> tuple[int, str]:
    """Exit code and stderr of a command that does `work`, in a process of its own."""
    return forked(lambda: command_line.guarded(lambda: (work(), 0)[1]), tmp_path / "told")


def hit(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def renamed() -> None:
    try:
        hit(signal.SIGTERM)
    except KeyboardInterrupt:
        raise SystemError("error return without exception set") from None


def leaving() -> None:
    """What Lightning does."""
    try:
        hit(signal.SIGINT)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(1) from None


def swallowing() -> None:
    try:
        hit(signal.SIGTERM)
    except KeyboardInterrupt:
        time.sleep(60)


def deaf() -> None:
    try:
        hit(signal.SIGINT)
    except KeyboardInterrupt:
        hit(signal.SIGTERM)  # once more changes nothing
        hit(signal.SIGINT)
        time.sleep(60)


@pytest.mark.fault(3)
@pytest.mark.parametrize("work", [lambda: hit(signal.SIGTERM), renamed, leaving, swallowing, deaf])
def test_a_stopped_command_ends_with_3_in_one_line(
    work: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "LAST_SECONDS", 0.5)
    begun = time.monotonic()
    assert ended(work, tmp_path) == (3, "radz: stopped; repeat the command\n")
    assert time.monotonic() - begun < 30


@pytest.mark.fault(21)
def test_other_ends_are_one_line_too(tmp_path: Path) -> None:
    def died() -> None:
        try:
            raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that ...")
        except RuntimeError as error:
            raise ValueError("what somebody made of it") from error

    def wrong() -> None:
        raise InputError("row 3: no")

    def lost() -> None:
        raise WorkerDied("worker 1 of 2 is gone")

    assert ended(died, tmp_path) == (
        2,
        "radz: a worker that loads studies (process 12) was killed by SIGBUS (often too little shared memory: "
        "data.workers=0 needs none); repeat the command\n",
    )
    assert ended(wrong, tmp_path) == (2, "radz: row 3: no\n")
    assert ended(lost, tmp_path) == (2, "radz: worker 1 of 2 is gone\n")


@pytest.mark.fault(4)
def test_slurms_warning_counts_outside_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_JOB_NAME", "radz")
    monkeypatch.setattr(stopping, "requeue", lambda: ", SLURM job 4711 is requeued")
    told = ended(lambda: hit(signal.SIGUSR1), tmp_path)
    assert told == (3, "radz: stopped; repeat the command, SLURM job 4711 is requeued\n")


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert command_line.guarded(lambda: 0) == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert os.environ[PARENT] == str(os.getpid())
