"""Files and folders that appear as a whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_modules.disk import CannotWrite, writing
from data_modules.errors import InputError
from data_modules.lock import locked
from data_modules.parsing import parse_json

LOCK = ".lock"
KINDS = {
    "a folder": stat.S_ISDIR, "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
    "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK,
}  # fmt: skip
"""what may stand where a file is to be written, and how its mode tells"""

NO_TEXT = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tgz", ".tar", ".7z", ".xlsx", ".xls", ".ods", ".parquet")
"""ends of names that promise something else than the plain text that tables are written as"""


@contextmanager
def replacing(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Give a draft beside `path` to write to; it takes the place of `path` when the block ends without an error.

    Args:
        path: the file, whose folder is made when missing; a symbolic link is replaced (`file_to_write` follows those
            that a user names).
        needed: bytes that will be written, where that is known.

    Raises:
        CannotWrite: the disk refuses it, or what is there is no file. What was there before is kept, and no part of
            the new file is left.
    """
    check_file(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path, needed):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            _to_disk(draft)
            os.replace(draft, path)
        finally:
            with suppress(OSError):  # such as on a disk that is read-only by now
                draft.unlink(missing_ok=True)  # before the free room is looked at


@contextmanager
def new_folder(path: Path, key: str) -> Iterator[Path]:
    """Give a draft folder beside `path`; it becomes `path` when the block ends without an error.

    Raises:
        InputError: naming `key`, where `path` holds something already, cannot be written, or another command makes it.
        CannotWrite: the disk refuses something inside the block; nothing is left.
    """
    check_free(path, key)
    path = behind(path)  # no folder takes the place of a link
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"{key}: {path}: cannot be written ({error.strerror}); choose another folder") from None
    with writing(path):
        try:
            with locked(path.with_name(f".{path.name}.lock"), wait=False):
                check_free(path, key)
                yield draft
                draft.chmod(0o777 & ~_umask())
                os.replace(draft, path)  # an empty folder gives way
        except CannotWrite as error:  # by a file's own draft in it
            raise type(error)(str(error).replace(str(draft), str(path))) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # before the free room is looked at


def check_there(folder: Path) -> None:
    """InputError for a folder that a command names and that is not there."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")


def make_folder(folder: Path, key: str) -> None:
    """Make a folder, or InputError naming `key` when it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{key}: {folder}: not a folder to write to ({error.strerror}); choose another") from None


def behind(path: Path) -> Path:
    """What a path stands for: of a symbolic link, the place that it leads to, whether or not anything is there."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_file(path: Path) -> None:
    """CannotWrite where a file that is to be written is a folder, device, pipe or socket, or a link in a circle."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # what is wrong with the folder is told by who makes it
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror}); name another file") from None
    if not stat.S_ISREG(mode):
        kind = next((word for word, holds in KINDS.items() if holds(mode)), "no file")
        raise CannotWrite(f"{path}: cannot be written (it is {kind}); choose another place, such as a new file")


def file_to_write(name: str, key: str) -> Path:
    """The file that a key names, or of a symbolic link that which it leads to, in a folder that is made when missing.

    Raises:
        InputError: naming `key`, where no file can be written there, or its name is of another format than text; so
            that it is told before the work.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        raise InputError(f"{key}: {name} is a folder; name a file in it, such as {key}={path / 'scores.csv'}")
    try:
        check_file(path)
    except CannotWrite as error:
        raise InputError(f"{key}: {error}") from None
    path = behind(path)
    if path.suffix.lower() in NO_TEXT:
        raise InputError(f"{key}: {name} would be plain text under the name of {path.suffix}; let it end in .csv")
    make_folder(path.parent, key)
    return path


@contextmanager
def alone_in(folder: Path, key: str) -> Iterator[None]:
    """Be the only command that writes into a folder, which is made when missing.

    Raises:
        InputError: naming `key`, where nothing can be written; naming the process, where another command works there.
    """
    make_folder(folder, key)
    with locked(folder / LOCK, wait=False):
        yield


def add_file(digest: Any, file: Path) -> None:
    """Let a digest of hashlib go on with the bytes of a file."""
    with file.open("rb") as stream:
        hashlib.file_digest(stream, lambda: digest)


def check_free(path: Path, key: str) -> None:
    """InputError naming `key` where a folder that is to be made holds something already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{key}: {path} is there and not empty; choose another folder")


def _to_disk(file: Path) -> None:
    """Some file systems tell only now that there was no room; and a name must not outlive its content."""
    handle = os.open(file, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """The mask of the process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """UTF-8, atomic."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_rows(path: Path, rows: Iterable[Iterable[Any]], end: str = "\r\n") -> None:
    """CSV in UTF-8, atomic; `end` of each line."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator=end).writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV that radz wrote, each with the cells that it holds; [] without the file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: cell for key, cell in row.items() if key and cell} for row in csv.DictReader(file)]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Atomic, without NaN."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, advice: str = "write it again with radz eval") -> dict[str, Any] | None:
    """A JSON file of keys; None when it is missing, InputError with `advice` when it is damaged."""
    if not path.is_file():
        return None
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); {advice}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no keys; {advice}")
    return content
