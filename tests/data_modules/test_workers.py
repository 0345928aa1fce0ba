"""Processes beside the main one: how they begin, what ends them, and that a dead one holds up nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_modules.errors import InputError
from data_modules.workers import WorkerDied, crew


def handlers(task: int) -> dict[str, object]:
    return {name: signal.getsignal(getattr(signal, name)) for name in ("SIGTERM", "SIGINT", "SIGUSR1")}


def act(task: tuple[str, object]) -> object:
    """What a test asks of a worker."""
    verb, value = task
    if verb == "sleep":
        time.sleep(value)  # type: ignore[arg-type]
    if verb == "kill":
        os.kill(os.getpid(), value)  # type: ignore[arg-type]
        time.sleep(60)
    if verb == "exit":
        os._exit(value)  # type: ignore[arg-type]
    if verb == "raise":
        raise value  # type: ignore[misc]
    return os.getpid() if verb == "pid" else value


def named(task: tuple[str, object]) -> str:
    return f"{task[0]} {task[1]}"


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """The command line's handler of SIGTERM, and one for a warning signal."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    for number in before:
        signal.signal(number, lambda *_: None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_workers_begin_with_default_signals(own_handlers: None) -> None:
    with crew(handlers, 2, str) as run:
        found = list(run([0, 1, 2]))
    assert found == [{"SIGTERM": signal.SIG_DFL, "SIGINT": signal.SIG_IGN, "SIGUSR1": signal.SIG_IGN}] * 3
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_results_keep_the_order_of_tasks() -> None:
    tasks = [("sleep", 0.3 if i == 0 else 0.001 * i) for i in range(40)]
    with crew(act, 3, named) as run:
        assert list(run(tasks)) == [value for _, value in tasks]
        assert list(run([])) == [] and len(set(run([("pid", 0), ("sleep", 0.2)]))) == 2
    with crew(act, 1, named) as run:
        assert list(run([("pid", 0)])) == [os.getpid()]


@pytest.mark.parametrize("error", [InputError("row 3: no"), ZeroDivisionError("ours")])
def test_what_a_worker_raises_is_raised_here(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)) as fault, crew(act, 2, named) as run:
        pids = list(run([("pid", 0), ("pid", 0)]))
        assert list(run([("raise", error), ("sleep", 60)])) == []
    assert bool(getattr(fault.value, "__notes__", [])) == isinstance(error, ZeroDivisionError)
    assert not any(alive(pid) for pid in pids)


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("task", "told"),
    [
        (("kill", signal.SIGKILL), r"was killed by SIGKILL \(the system does so when memory runs out"),
        (("kill", signal.SIGSEGV), "was killed by SIGSEGV"),
        (("kill", signal.SIGTERM), "was killed by SIGTERM"),
        (("exit", 3), "ended with exit code 3"),
        (("exit", 0), "ended with exit code 0"),
    ],
)
def test_a_dead_worker_ends_the_crew_in_one_line(task: tuple[str, object], told: str) -> None:
    begun = time.monotonic()
    with (
        pytest.raises(WorkerDied, match=rf"worker \d of 2 \(process \d+\), at {task[0]} .*, {told}") as fault,
        crew(act, 2, named) as run,
    ):
        pids = list(run([("pid", 0), ("pid", 0)]))
        list(run([("sleep", 60), task]))
    assert time.monotonic() - begun < 10 and "\n" not in str(fault.value)
    assert not any(alive(pid) for pid in pids)


ORPHANS = """
import sys, test_workers
from data_modules.workers import crew
with crew(test_workers.act, 2, str) as run:
    print(*run([("pid", 0), ("pid", 0)]), flush=True)
    list(run([("sleep", 60), ("sleep", 60)]))
"""


@pytest.mark.fault(21)
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "orphans.py").write_text(ORPHANS)
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "orphans.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(alive(pid) for pid in pids)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not any(alive(pid) for pid in pids):
            break
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)
    parent.stdout.close()
