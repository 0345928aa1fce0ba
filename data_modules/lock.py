"""One process at a time in a folder, also on shared file systems that have no locks of their own.

A lock is a file that is made only where none is (O_EXCL, which every file system keeps to). It says who holds it, and
the holder renews its time for as long as it lives. A lock that a dead process left is taken over: of a process of the
same machine the system tells, of one elsewhere only a time that stands still does.
"""

from __future__ import annotations

import _thread
import json
import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from data_modules.disk import writing
from data_modules.errors import InputError
from data_modules.parsing import parse_json

log = logging.getLogger(__name__)
BEAT = 15.0
"""Seconds after which a holder renews the time of its lock."""
STALE = 300.0
"""Seconds without that after which a holder of which nothing else is known counts as dead."""
POLL = 0.2
"""Seconds between two looks at a lock that another holds."""
_Holder = dict[str, Any]
"""host, pid, since; machine and start of the process, which tell whether it lives; token. {} where unreadable."""


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock `path`, whose folder is made when missing; it vanishes at the end.

    Args:
        path: of the lock. wait: for whoever holds it; else InputError, which names it.

    Raises:
        CannotWrite: the lock cannot be made, such as on a full or read-only disk.
    """
    mine = _holder_of_here()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(path, mine, wait)
    done = threading.Event()
    threading.Thread(target=_beat, args=(path, mine, done), daemon=True, name=f"lock {path}").start()
    try:
        yield
    finally:
        done.set()
        if os.getpid() == mine["pid"]:  # not in a child that was forked inside the block
            with suppress(OSError):
                if _read(path) == mine:
                    path.unlink()


def _acquire(path: Path, mine: _Holder, wait: bool) -> None:
    first: float | None = None
    told = False
    while not _made(path, mine):
        try:
            holder, time_of_lock, age = _look(path)
        except FileNotFoundError:
            continue
        lives, why = _lives(holder, mine), "which has ended"
        if lives is None:
            first = time_of_lock if first is None else first
            lives, why = (False if age > STALE else None), f"which has shown no sign of life for {age:.0f} seconds"
            lives = True if time_of_lock != first else lives
        if lives is False:
            _put_aside(path, holder, why)
            continue
        if lives and not wait:
            raise InputError(_refused(path, holder, mine))
        if not told and (holder or age > 1):  # it is made and written in two steps
            told = True
            until = "waiting for it" if wait else f"looking for up to {STALE:.0f} seconds whether it lives"
            log.info("%s: is held by %s; %s", path, _named(holder), until)
        time.sleep(POLL)


def _made(path: Path, mine: _Holder) -> bool:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(mine, file)
    except OSError:
        path.unlink()
        raise
    return True


def _look(path: Path) -> tuple[_Holder, float, float]:
    """Holder, time of the lock and its age, by the clock of the file system."""
    with tempfile.TemporaryFile(dir=path.parent) as probe, path.open("rb") as file:
        time_of_lock = os.fstat(file.fileno()).st_mtime
        return _parsed(file.read()), time_of_lock, os.fstat(probe.fileno()).st_mtime - time_of_lock


def _read(path: Path) -> _Holder:
    return _parsed(path.read_bytes())


def _parsed(content: bytes) -> _Holder:
    try:
        found = parse_json(content)
        int(found["pid"])
    except (ValueError, KeyError, TypeError):
        return {}  # half written, or not ours
    return dict(found)


def _put_aside(path: Path, dead: _Holder, why: str) -> None:
    """Take the lock of a dead process away, and no other."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return  # another process has done so
    if _read(aside) != dead:  # another process has done so, and holds it now
        with suppress(OSError):
            os.link(aside, path)
    else:
        log.warning("%s: taken over from %s, %s", path, _named(dead), why)
    aside.unlink()


def _beat(path: Path, mine: _Holder, done: threading.Event) -> None:
    """Renew the time of the lock until `done`; when it is somebody else's, stop this command as a signal would."""
    while not done.wait(BEAT):
        try:
            if _read(path) != mine:
                break
            os.utime(path)
        except FileNotFoundError:
            break
        except OSError:
            pass  # the network may come back
    else:
        return
    if not done.is_set():
        log.error("%s: was taken away, so another command may write here; this one stops", path)
        _thread.interrupt_main(signal.SIGTERM)


def _lives(holder: _Holder, mine: _Holder) -> bool | None:
    """Whether the process that holds a lock is alive; None where that cannot be known."""
    if holder.get("machine") != mine["machine"]:
        return None
    started = _started(int(holder["pid"]))
    return started is not None and started == holder.get("started")


def _holder_of_here() -> _Holder:
    pid = os.getpid()
    return {
        "host": socket.gethostname(), "pid": pid, "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        "machine": _machine(), "started": _started(pid), "token": secrets.token_hex(8),
    }  # fmt: skip


def _machine() -> str:
    """One boot of one machine and one space of process numbers, so that a container is none of its host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str | None:
    """When a process of this machine began, in the system's count ('' where it keeps none); None where it has ended."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # another user's
    except (ProcessLookupError, OverflowError):
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in "ZX" else fields[19]


def _named(holder: _Holder) -> str:
    if not holder:
        return "another radz command (its lock does not say which)"
    return f"process {holder['pid']} on {holder.get('host')} (since {holder.get('since')})"


def _refused(path: Path, holder: _Holder, mine: _Holder) -> str:
    text = f"{path.parent}: {_named(holder)} works there; wait for it, or stop it"
    # Of a process elsewhere this machine knows no more than that its time goes on.
    return text if holder.get("machine") == mine["machine"] else f"{text}; if it is gone for certain, delete {path}"
