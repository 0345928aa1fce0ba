"""Which files have been read before: from how a file looks to the system to what is in it.

A file counts as the same while its place, size, inode and both times are; `ctime` cannot be set, so that a replaced
file is noticed though size and modification time are equal. What looks new is read and goes by its content (BLAKE2b of
all bytes): a corpus that was copied, moved, mounted elsewhere or had its modes changed costs one reading, no decoding,
and two corpora never share what only looks the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.disk import CannotWrite
from data_modules.files import replacing
from data_modules.privacy import private_file

log = logging.getLogger(__name__)
LINE = np.dtype([("stamp", "<u8"), ("key", "<u8")])
NONE = 0
"""A stamp or key of nothing."""
Keys = NDArray[np.uint64]


class Seen:
    """The file `seen.npy` of a store: stamp of each file that was read -> key of its content."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "seen.npy"
        try:
            lines = np.load(self.path, allow_pickle=False)
            self.lines: NDArray[np.void] = lines if lines.dtype == LINE else np.empty(0, LINE)
        except (OSError, ValueError, EOFError):
            self.lines = np.empty(0, LINE)

    def find(self, stamps: Keys) -> Keys:
        """Return [I], the key that goes with each stamp, NONE where it is not known."""
        if not len(self.lines):
            return np.full(len(stamps), NONE, dtype=np.uint64)
        place = np.searchsorted(self.lines["stamp"], stamps).clip(max=len(self.lines) - 1)
        there = (self.lines["stamp"][place] == stamps) & (stamps != NONE)
        return np.where(there, self.lines["key"][place], np.uint64(NONE))

    def add(self, stamps: Keys, keys: Keys) -> None:
        """Keep what has been read; a folder that cannot be written costs the same reading the next time."""
        fresh = (stamps != NONE) & (keys != NONE) & (self.find(stamps) != keys)
        if not fresh.any():
            return
        lines = np.empty(int(fresh.sum()), LINE)
        lines["stamp"], lines["key"] = stamps[fresh], keys[fresh]
        old = self.lines[~np.isin(self.lines["stamp"], lines["stamp"])]
        self.lines = np.unique(np.concatenate([old, lines]))
        try:
            with replacing(self.path) as draft:
                private_file(draft)
                with open(draft, "wb") as handle:
                    np.save(handle, self.lines, allow_pickle=False)
        except CannotWrite as error:
            log.warning("%s; until then its files are read again each time", error)


class Stamps:
    """How files look to the system."""

    def __init__(self, salt: bytes) -> None:
        self.salt = salt
        self._folders: dict[str, str] = {}

    def of(self, path: str, more: str) -> int:
        """Return the stamp of a file, or of a folder by its files, and of `more`; NONE where there is nothing."""
        folder, name = os.path.split(path)
        if folder not in self._folders:  # realpath looks at every part of a path
            self._folders[folder] = os.path.realpath(folder)
        try:
            found = _looks(path)
        except OSError:
            return NONE
        return keyed(f"{self._folders[folder]}\0{name}\0{found}\0{more}", self.salt)


def _looks(path: str) -> list[tuple[str, int, int, int, int]]:
    """Return size, times and inode of a file, and where it is a folder, of its files by name."""
    found = [("", os.stat(path))]
    if os.path.isdir(path):
        found += sorted((entry.name, entry.stat()) for entry in os.scandir(path) if entry.is_file())
    return [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in found]


def content_key(path: str, more: str, salt: bytes) -> int:
    """Return the key of all bytes of a file (of a folder, of all its files by name) and of `more`.

    Raises:
        OSError: it cannot be read.
    """
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return keyed(f"{digest.hexdigest()}\0{more}", salt)
    parts = [
        f"{entry.name}\0{content_key(entry.path, '', salt)}" for entry in os.scandir(path) if entry.is_file()
    ]  # fmt: skip
    return keyed("\0".join([*sorted(parts), more]), salt)


def keyed(text: str, salt: bytes) -> int:
    """Return 64 bits of a text, never NONE."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), key=salt, digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
