"""Processes beside the main one: how each begins, how a crew of them computes, and what is said when one dies.

Every process that radz or the ground floor starts begins with `begin` (`starting` around the start holds signals back
until then) or, where it is a command of its own, with `follow_parent`.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from data_modules.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

IGNORED = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""What a terminal or a scheduler sends to all processes of a command: the first one decides what becomes of it."""
PARENT = "RADZ_PARENT"
"""Names the process of the command that has started a command."""
_HELD = {*IGNORED, signal.SIGTERM}
_AHEAD = 4
"""Tasks of each worker that may be done before their turn, which bounds the memory of finished ones."""
_GRACE_SECONDS = 10.0
_OFTEN: dict[int, str] = {
    signal.SIGKILL: " (the system does so when memory runs out: fewer workers need less)",
    signal.SIGBUS: " (often too little shared memory: data.workers=0 needs none)",
}


_OF_LOADER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
    r"(?:is killed by signal: ([\w ]+)|exited unexpectedly(?: with exit code (\d+))?)"
)
"""What torch says of a dead worker, wherever the main process is at that moment."""


class WorkerDied(RuntimeError):
    """A process beside the main one was killed or gave up; the text, one line, says which, at what, and why."""


def begin() -> None:
    """Default signal handling, whatever the parent has set, and an end with the parent. First in every child."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    end_with_parent(signal.SIGKILL)


def end_with_parent(number: int) -> None:
    """Have the system send `number` when the parent is gone, however it ended.

    Linux only. Elsewhere a worker of a crew ends at its next task, and torch's loaders look for their parent.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(number))  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def follow_parent() -> None:
    """In a command that another command of radz has started: end with it, and have the own ones do so.

    As SIGTERM does, with all that is done saved; as one of several processes of a run, which can save nothing, at once.
    """
    if os.environ.get(PARENT) == str(os.getppid()):
        end_with_parent(signal.SIGKILL if os.environ.get("LOCAL_RANK", "0") != "0" else signal.SIGTERM)
    os.environ[PARENT] = str(os.getpid())


@contextmanager
def starting() -> Iterator[None]:
    """Hold signals back while processes start, so that none meets a child which has not begun."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def crew(
    function: Callable[[T], R], count: int, doing: Callable[[T], str]
) -> Iterator[Callable[[Sequence[T]], Iterator[R]]]:
    """Yield a map of `function` over tasks: in `count` processes, or in this one when below 2. Results keep the order.

    Args:
        function: at the top level of a module; what it raises is raised here.
        doing: names a task, for the message about a worker that dies at it.

    Raises:
        WorkerDied: a worker was killed or ended by itself. None is left behind, also by any other way out.
    """
    if count < 2:
        yield lambda tasks: map(function, tasks)
        return
    hired: list[_Worker] = []
    try:
        with starting():
            for _ in range(count):
                hired.append(_Worker(function))
        yield lambda tasks: _computed(hired, tasks, doing)
    except BaseException:
        for worker in hired:
            worker.process.kill()
        raise
    finally:
        for worker in hired:
            worker.connection.close()  # which ends a worker that waits for a task
        for worker in hired:
            if worker.end(_GRACE_SECONDS) is None:
                worker.process.kill()


class _Worker:
    """One process and the only pipe to it: no lock is shared, so that a dead one holds up nobody.

    A fresh interpreter: a fork of a process that holds threads (torch has them) may hang, and multiprocessing would run
    the script of the caller once more in each.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.connection, theirs = Pipe()
        self.at: int | None = None
        """Number of the task in hand."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(theirs.fileno())], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        with suppress(OSError):  # told when its first task is sent
            self.connection.send(sys.path)
            self.connection.send(function)

    def end(self, seconds: float) -> int | None:
        """The exit code, or None where it is still there after so long."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


_SERVE = """
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = pipe.recv()
from data_modules.workers import serve
serve(pipe)
"""


def serve(connection: Connection) -> None:
    """In a worker: answer tasks until the pipe is closed."""
    begin()
    function = connection.recv()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, function(task)
        except Exception as error:
            if not isinstance(error, InputError):
                error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            answer = False, error
        try:
            connection.send(answer)
        except OSError:
            return


def _computed(hired: list[_Worker], tasks: Sequence[T], doing: Callable[[T], str]) -> Iterator[Any]:
    """The results in the order of the tasks, each worker with one task in hand."""
    todo = deque(enumerate(tasks))
    done: dict[int, tuple[bool, Any]] = {}
    for wanted in range(len(tasks)):
        while True:
            for worker in hired:
                if worker.at is None and todo and todo[0][0] < wanted + _AHEAD * len(hired):
                    worker.at, task = todo.popleft()
                    _exchange(worker, worker.connection.send, (task,), hired, tasks, doing)
            if wanted in done:
                break
            for ready in wait([worker.connection for worker in hired if worker.at is not None]):
                worker = next(one for one in hired if one.connection is ready)
                answer = _exchange(worker, worker.connection.recv, (), hired, tasks, doing)
                assert worker.at is not None
                done[worker.at], worker.at = answer, None
        fine, result = done.pop(wanted)
        if not fine:
            raise result
        yield result


def _exchange(
    worker: _Worker, act: Callable[..., Any], arguments: tuple, hired: list[_Worker], tasks: Sequence[T],
    doing: Callable[[T], str],
) -> Any:  # fmt: skip
    """Send to or receive from a worker; WorkerDied when it is gone."""
    try:
        return act(*arguments)
    except (EOFError, OSError):
        assert worker.at is not None
        code = worker.end(_GRACE_SECONDS)
        if code == -signal.SIGTERM:
            time.sleep(0.5)  # sent to all processes of a command, it ends the main one in its own way
        raise WorkerDied(
            f"worker {hired.index(worker) + 1} of {len(hired)} (process {worker.process.pid}), at "
            f"{doing(tasks[worker.at])}, {cause(code)}; repeat the command"
        ) from None


def cause(code: int | None) -> str:
    """What an exit code says, as the rest of a sentence about a process."""
    if code is None:
        return "is gone"
    if code >= 0:
        return f"ended with exit code {code}"
    names = {one.value: one.name for one in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}{_OFTEN.get(-code, '')}"


def death(error: BaseException | None) -> str | None:
    """The line about a dead worker when an error, or one that it came from, tells of it; else None."""
    while error is not None:
        if isinstance(error, WorkerDied):
            return str(error)
        if found := _OF_LOADER.search(str(error)):
            numbers = {signal.strsignal(one): one for one in signal.Signals}
            code = -numbers.get(found[2], 0) if found[2] else int(found[3]) if found[3] else None
            return f"a worker that loads studies (process {found[1]}) {cause(code)}; repeat the command"
        error = error.__cause__ or error.__context__
    return None


def died_of(error: BaseException, number: signal.Signals) -> bool:
    """Whether an error tells of a worker that this signal has killed."""
    return f"was killed by {number.name}" in (death(error) or "")
