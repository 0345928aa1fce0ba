"""What a disk refuses (full, over quota, read-only, failing), however it is raised, and what may not be entered, as one
line that says where.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_modules.errors import InputError

ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or have the quota raised",
    errno.EFBIG: "have the limit on the size of files raised (ulimit -f), or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.EIO: "the disk or the network to it may be failing: choose another place",
}
"""The errors of a disk, and what helps."""
PLACE = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
"""Errors of a place: nothing can be written there, however much room there is."""
SHUT = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ESTALE}
"""Errors of a place that a user named: none of them is a defect of ours, wherever it comes up."""
OF_RUST = re.compile(r"\(os error (\d+)\)")
WORDS = (
    (RuntimeError, re.compile(r"PytorchStreamWriter failed|inline_container\.cc.*unexpected pos|iostream error")),
    (OSError, re.compile(r"^\d+ requested and \d+ written")),  # numpy
    (Exception, re.compile(r"database or disk is full")),  # SQLite
)
"""How libraries say that a write failed where they drop the system's number; nearly always the disk is full."""


class CannotWrite(InputError):
    """A file could not be written.

    `path`: the file. `resumable`: whether the repeated command goes on from a checkpoint, which is exit code 3.
    """

    path: Path | None = None
    resumable: bool = False


def refusal(error: BaseException | None) -> int | None:
    """The system's number of what the disk refused (a key of ADVICE) if that is what an error is about."""
    chain: list[BaseException] = []
    while error is not None and not isinstance(error, InputError):
        chain.append(error)
        error = error.__cause__ or error.__context__
    for one in chain:
        of_rust = OF_RUST.search(str(one))
        number = int(of_rust[1]) if of_rust else one.errno if isinstance(one, OSError) else None
        if number in ADVICE:
            return number
    unsaid = any(isinstance(one, kind) and words.search(str(one)) for one in chain for kind, words in WORDS)
    return errno.ENOSPC if unsaid else None


def cannot_write(error: BaseException, path: Path | None = None, needed: int | None = None) -> CannotWrite | None:
    """One line in place of an error that is the disk's or the place's; None where it is something else.

    Args:
        error: as it was raised by Python, torch, safetensors, numpy, PIL or SQLite.
        path: what was being written; None takes what the error names.
        needed: bytes of it, where that is known.
    """
    number, named = refusal(error), _named(error)
    if number is None and path is not None and named is not None and getattr(error, "errno", None) in PLACE:
        ours = named in (path, *path.parents) or named.name.startswith(f".{path.name}.")
        number = getattr(error, "errno", None) if ours else None
    if number is None:
        return None
    if path is None or (named is not None and not named.is_relative_to(path.parent)):
        path, needed = named, None  # another file, which was read or written on the way
    advice = f"{ADVICE.get(number, 'choose another place')}, and repeat the command"
    fault = CannotWrite(f"{path or 'a file'}: cannot be written ({_cause(number, path, needed)}); {advice}")
    fault.path = path
    return fault


def cannot_open(error: BaseException) -> InputError | None:
    """One line in place of an error of the system about a file or folder that may not be used; None for others."""
    named = _named(error)
    if not isinstance(error, OSError) or error.errno not in SHUT or named is None:
        return None
    rights = error.errno in (errno.EACCES, errno.EPERM)
    advice = "see to the rights of it and of the folders above it" if rights else "check the path"
    return InputError(f"{named}: cannot be opened ({os.strerror(error.errno)}); {advice}")


def check_opens(*files: Path) -> None:
    """Raise PermissionError for a file that may not be read; libraries make it a missing or a damaged one."""
    for file in files:
        with suppress(FileNotFoundError), file.open("rb"):
            pass


@contextmanager
def writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """Raise CannotWrite for `path` in place of what the disk refuses inside the block."""
    try:
        yield
    except Exception as error:
        if (fault := cannot_write(error, path, needed)) is None:
            raise
        raise fault from None


def _named(error: BaseException) -> Path | None:
    """The file that an error of the system names; of a copy, the one that is made."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return Path(os.fsdecode(name)) if isinstance(name, str | bytes | os.PathLike) else None


def _cause(number: int, path: Path | None, needed: int | None) -> str:
    """Words of the system, and for a full disk how much is needed and how much is there."""
    said = [os.strerror(number)]
    if needed is not None and number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        said.append(f"{needed:,} bytes needed")
    if number == errno.ENOSPC and (place := _existing(path)) is not None:
        try:
            free, counted = shutil.disk_usage(place).free, os.statvfs(place)
        except OSError:
            return said[0]
        said.append(f"{free:,} free" if needed is not None else f"more than the {free:,} free bytes needed")
        if counted.f_files and not counted.f_favail:
            said[1:] = ["no file can be added, however small"]
    return ", ".join(said)


def _existing(path: Path | None) -> Path | None:
    """The path or its nearest parent that is there."""
    return None if path is None else next((place for place in (path, *path.parents) if place.exists()), None)
