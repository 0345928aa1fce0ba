"""The other processes of a run: when one is gone, the command says which and why, and ends with all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time

from lightning.pytorch.strategies.launchers import subprocess_script

from data_modules.workers import cause
from radz.stopping import is_first_process

LOOK_SECONDS = 0.5
KINDS = {"DistBackendError", "DistNetworkError", "DistStoreError"}
TEXTS = re.compile(r"gloo/transport|Connection (closed|reset) by peer")
_started: list[subprocess.Popen] = []


def watch_launched() -> None:
    """Have Lightning's launcher call `watch` for the processes that it starts; its own watch kills without a word."""
    subprocess_script._launch_process_observer = watch  # type: ignore[assignment]


def watch(processes: list[subprocess.Popen]) -> None:
    """Look after the processes 2, 3, .. of a run from a thread, until all have ended well."""
    _started[:] = processes
    threading.Thread(target=_watch, args=(processes,), daemon=True).start()


def _watch(processes: list[subprocess.Popen]) -> None:
    while any(one.poll() != 0 for one in processes):
        for number, one in enumerate(processes, start=2):
            if one.poll():
                _end(processes, number, one)
        time.sleep(LOOK_SECONDS)


def _end(processes: list[subprocess.Popen], number: int, gone: subprocess.Popen) -> None:
    """End the command. The main thread may wait for the lost process inside a collective, so it is not asked."""
    for one in processes:
        one.kill()
    code = gone.returncode
    if code < 0:  # else it has told its fault itself
        who = f"process {number} of {1 + len(processes)} of the run (process {gone.pid})"
        sys.stderr.write(f"radz: {who} {cause(code)}; repeat the command to resume\n")
        sys.stderr.flush()
    os._exit(2 if code < 0 else code)


def verdict() -> None:
    """Before an error becomes a traceback: where a process of the run is gone, the error only follows from it.

    Leaves the watch time to say so and to end this process.
    """
    if _started or not is_first_process():
        time.sleep(6 * LOOK_SECONDS)


def lost(error: BaseException) -> str | None:
    """The line about a collective that failed because another process is gone or silent; None for other errors."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if not names & KINDS and not (isinstance(error, RuntimeError) and TEXTS.search(str(error))):
        return None
    why = str(error).strip().partition("\n")[0].rpartition("] ")[2][:160]
    return f"another process of the run is gone or silent ({why}); repeat the command to resume"
