"""Signals from the first to the last line of a command: whatever it is doing, it ends in one line. Light to import."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

JOB = re.compile(r"[0-9]+(_[0-9]+)?")
LAST_SECONDS = 20.0
"""After so long a process that was told to stop, and cannot, is ended; whatever it has written is whole at any time."""


class Signals:
    """Takes SIGTERM, SIGINT and SLURM's warning while it is entered. The first one raises KeyboardInterrupt.

    Libraries may make another error of that, so `seen` tells that a command was stopped, not the kind of its error; or
    swallow it, so a process that goes on all the same is ended `last` seconds later. A second Ctrl-C ends it at once.
    With `ending` set, none does anything: the command is on its last lines.
    """

    def __init__(self, last: float | None = LAST_SECONDS) -> None:
        self._last, self.ending = last, False
        self.seen, self._warned = False, False
        self._before: dict[int, Any] = {}
        self._told, self._left = threading.Event(), threading.Event()

    def __enter__(self) -> Signals:
        batch = "SLURM_JOB_ID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")
        numbers = {signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if batch else [])}
        self._before = {number: signal.signal(number, self._stop) for number in numbers}
        threading.Thread(target=self._insist, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._left.set()
        self._told.set()
        atexit.register(_deaf)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def message(self, text: str = "stopped; repeat the command") -> str:
        """The line about the end of a stopped command; asks SLURM to start the job again where it has warned."""
        return f"radz: {text}{requeue() if self._warned else ''}\n"

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._warned |= number == signal.SIGUSR1
        if self.seen or self.ending:
            if number == signal.SIGINT and self.seen:
                self._leave()
            return
        self.seen = True
        self._told.set()
        raise KeyboardInterrupt

    def _insist(self) -> None:
        self._told.wait()
        if not self._left.wait(self._last):
            self._leave()

    def _leave(self) -> None:
        if is_first_process():
            sys.stderr.write(self.message())
            sys.stderr.flush()
        os._exit(3)


def _deaf() -> None:
    """While the interpreter shuts down, a late signal changes nothing any more."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


def without_signals(trainer: Any) -> Any:
    """A Lightning trainer that leaves signals alone: its own handlers save and broadcast wherever one arrives."""
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


def is_first_process() -> bool:
    """Whether no launcher says that this process is another than the first of a run."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def requeue() -> str:
    """Ask SLURM to start the job again; returns what became of it, to be told after a comma."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    if not JOB.fullmatch(job):
        return f", not requeued: {job[:40]!r} is not the id of a SLURM job"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f", not requeued: scontrol failed ({type(error).__name__})"
    if done.returncode:
        return f", not requeued: scontrol ended with {done.returncode} ({' '.join(done.stderr.split())[:120]})"
    return f", SLURM job {job} is requeued"
