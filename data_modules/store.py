"""Planes on disk: one append-only, memory-mapped uint8 file of a corpus, and the index of what lies where in it."""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from data_modules.disk import CannotWrite, writing
from data_modules.files import replacing
from data_modules.privacy import private_file, private_folder

ENTRY = np.dtype([("key", "<u8"), ("start", "<i8"), ("slices", "<i4"), ("channels", "<i4"), ("crc", "<u4")])
"""Key of an image, its first plane, its images and their channels, CRC-32 of its planes."""
SAVE_SECONDS = 20.0
"""An interrupted build loses no more than this."""
Entries = NDArray[np.void]


class Store:
    """The folder of one corpus and recipe. Files: `pixels.u8` [P, size, size], `index.npy` (ENTRY, sorted by key).

    What the index names is on disk before the index is; planes are never moved or changed, so an open map stays good.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.entries: Entries = self._load()
        self._open()

    def _load(self) -> Entries:
        """The index, or an empty one where there is none, or where planes that it names are gone."""
        try:
            entries: Entries = np.load(self.folder / "index.npy", allow_pickle=False)
            complete = entries.dtype == ENTRY and (self.folder / "pixels.u8").stat().st_size >= self._end(entries)
        except (OSError, ValueError, EOFError):
            complete = False
        return entries if complete else np.empty(0, ENTRY)

    def _end(self, entries: Entries) -> int:
        """Bytes of `pixels.u8` that the entries reach to."""
        ends = entries["start"] + entries["slices"].astype(np.int64) * entries["channels"]
        return int(ends.max(initial=0)) * self.size * self.size

    def _open(self) -> None:
        planes = self._end(self.entries) // (self.size * self.size)
        shape = (planes, self.size, self.size)
        path = self.folder / "pixels.u8"
        self.planes: NDArray[np.uint8] = (
            np.memmap(path, np.uint8, "r", shape=shape).view(np.ndarray) if planes else np.empty(shape, np.uint8)
        )

    def __getstate__(self) -> dict[str, Any]:
        # A memmap pickles as its whole content; another process opens the files instead.
        return {"folder": self.folder, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["size"])  # type: ignore[misc]

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return [I], the entry of each key, -1 where there is none."""
        if not len(self.entries):
            return np.full(len(keys), -1)
        place = np.searchsorted(self.entries["key"], keys).clip(max=len(self.entries) - 1)
        return np.where(self.entries["key"][place] == keys, place, -1)

    def add(self, images: Iterable[tuple[int, NDArray[np.uint8]]], bytes_needed: int) -> None:
        """Append images (key, uint8 [S, C, size, size]) as they come; what came before an interruption is kept.

        To be called with the folder's lock held. CannotWrite when the disk refuses it or has too little room.
        """
        images = iter(images)
        if (first := next(images, None)) is None:  # nothing is written, as into a folder that is read-only
            return
        room = shutil.disk_usage(self.folder).free
        if bytes_needed > room and os.access(self.folder, os.W_OK):
            raise CannotWrite(
                f"{self.folder}: the pixel cache needs {bytes_needed:,} bytes and {room:,} are free; make room or set "
                "cache_dir"
            )
        try:
            with writing(self.folder / "pixels.u8", bytes_needed):
                private_file(self.folder / "pixels.u8")
                with open(self.folder / "pixels.u8", "r+b") as file:
                    self._append(file, chain([first], images))
        finally:
            self._open()

    def _append(self, file: BinaryIO, images: Iterable[tuple[int, NDArray[np.uint8]]]) -> None:
        end = self._end(self.entries)
        file.truncate(end)  # what an interrupted build wrote after its last index
        file.seek(end)
        plane, saved = end // (self.size * self.size), time.monotonic()
        fresh: list[tuple[int, int, int, int, int]] = []
        try:
            for key, pixels in images:
                data = np.ascontiguousarray(pixels)
                file.write(data.data)
                fresh.append((key, plane, data.shape[0], data.shape[1], zlib.crc32(data.data)))
                plane += data.shape[0] * data.shape[1]
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save(file, fresh)
                    saved = time.monotonic()
        except BaseException:
            with suppress(OSError, CannotWrite):
                self._save(file, fresh)
            raise
        self._save(file, fresh)

    def _save(self, file: BinaryIO, fresh: list[tuple[int, int, int, int, int]]) -> None:
        """Bring planes and then the index to the disk; on a full one the index stays at what was there before."""
        file.flush()
        os.fsync(file.fileno())
        entries = np.concatenate([self.entries, np.array(fresh, dtype=ENTRY)])
        fresh.clear()
        # A stable sort, and the last of equal keys: an image that was stored twice counts as last stored.
        entries = entries[np.argsort(entries["key"], kind="stable")]
        last = np.ones(len(entries), dtype=bool)
        last[:-1] = entries["key"][1:] != entries["key"][:-1]
        self.entries = entries[last]
        with replacing(self.folder / "index.npy") as draft:
            private_file(draft)
            with open(draft, "wb") as handle:
                np.save(handle, self.entries, allow_pickle=False)


def make(folder: Path) -> None:
    """Make the folder of a store, for its owner alone."""
    for place in (folder.parent, folder):
        private_folder(place)
