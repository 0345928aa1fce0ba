"""Decode once: a memory-mapped uint8 store of fitted images, keyed by what is in it and how it was made."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from data_modules.errors import InputError
from data_modules.files import replacing
from data_modules.lock import locked
from data_modules.pixels import Gray, equalize, fit, read_gray
from data_modules.privacy import private_file, private_folder, pseudonym
from data_modules.study import StudyTable

log = logging.getLogger(__name__)

VERSION = 2
"""Raise when a change of `pixels.py` changes what a file decodes to."""
POOL_FROM = 500
"""Images to decode from which starting processes pays off when the number of workers is left open."""
UNREADABLE = "unreadable"
_Task = tuple[str, str, int, str, bool]
"""Path, name for error texts, size, resize, equalize."""


class PixelCache:
    """uint8 [I, H, W] on disk with, per image, the file's size and time and the CRC-32 of its row.

    Open with `open_or_build`. `unreadable` holds image position -> cause for files that could not be decoded.
    """

    def __init__(self, folder: Path, index: dict[str, Any], positions: NDArray[np.int64]) -> None:
        """`positions` [I]: row of the store for each image of the table."""
        self.folder, self.size, self.positions = folder, int(index["size"]), positions
        self.stamps: list[list[int]] = index["stamps"]
        self.unreadable = {int(i): cause for i, cause in index[UNREADABLE].items()}
        self._checksums = np.array(index["crc32"], dtype=np.int64)
        self._open()

    def _open(self) -> None:
        shape = (len(self._checksums), self.size, self.size)
        self._checked = np.zeros(shape[0], dtype=bool)
        self._rows = np.memmap(self.folder / "pixels.u8", dtype=np.uint8, mode="r", shape=shape)

    def __getstate__(self) -> dict[str, Any]:
        # A memmap pickles as its whole content; another process opens the file instead.
        return {name: value for name, value in vars(self).items() if name not in ("_rows", "_checked")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.positions)

    def get(self, image: int) -> Gray:
        """Return uint8 [H, W], a read-only view; InputError when the row on disk is damaged."""
        position = self.positions[image]
        row = self._rows[position]
        if not self._checked[position]:
            if zlib.crc32(row) != self._checksums[position]:
                raise InputError(f"{self.folder}: image {image} of the pixel cache is damaged; delete this folder")
            self._checked[position] = True
        return row

    def batch(self, images: ArrayLike) -> NDArray[np.uint8]:
        """Return uint8 [M, 1, H, W], a copy."""
        images = np.asarray(images, dtype=np.int64)
        out = np.empty((len(images), 1, self.size, self.size), dtype=np.uint8)
        for m, image in enumerate(images):
            out[m, 0] = self.get(int(image))
        return out

    def select(self, images: ArrayLike) -> PixelCache:
        """Return the cache of these images only, in this order (the store on disk stays as it is)."""
        chosen = object.__new__(PixelCache)
        vars(chosen).update(vars(self))
        chosen.positions = self.positions[np.asarray(images, dtype=np.int64)]
        chosen.unreadable = {}
        return chosen

    def digest(self) -> str:
        """Return 16 hexadecimal digits over the pixels (by their checksums) of these images."""
        return hashlib.blake2b(self.checksums().astype("<i8").tobytes(), digest_size=8).hexdigest()

    def checksums(self) -> NDArray[np.int64]:
        """Return [I], the CRC-32 of each image's pixels; equal ones only suggest equal pixels."""
        return self._checksums[self.positions]


def open_or_build(
    table: StudyTable, size: int, resize: str, equalize: bool, cache_dir: Path, workers: int | None, salt: bytes,
    progress: bool = True,
) -> PixelCache:  # fmt: skip
    """Return the cache of all images of `table`; files are decoded only when new or changed (size or time).

    `workers`: processes that decode; None chooses. An unreadable image is noted in `unreadable`, named by corpus, row
    and salted hash, and its row is black. Raises InputError when the disk has too little room.
    """
    recipe = [VERSION, size, resize, equalize, list(zip(_corpora(table), table.image_ids, strict=True))]
    name = hashlib.blake2b(json.dumps(recipe).encode(), key=salt, digest_size=8).hexdigest()
    folder = cache_dir / "pixels" / name
    stamps = [_stamp(path) for path in table.image_paths]
    studies = table.image_study

    def task(i: int) -> _Task:
        corpus, row = table.corpora[table.corpus[studies[i]]], table.source_rows[studies[i]]
        named = f"corpus {corpus}, row {row}, image {pseudonym(corpus, table.image_ids[i], salt)}"
        return table.image_paths[i], named, size, resize, equalize

    for place in (folder.parent, folder):
        private_folder(place)
    private_file(folder / "lock")
    with locked(folder / "lock"):
        index = _load_index(folder, len(stamps), size)
        if index is None:
            stale = list(range(len(stamps)))
        else:
            stale = [i for i, stamp in enumerate(stamps) if index["stamps"][i] != stamp]
            # What failed before is tried again: a decoder may have been installed since.
            failed = {int(i) for i in index[UNREADABLE]} - set(stale)
            stale = sorted([*stale, *(i for i in failed if _decode(task(i))[0] is not None)])
        if stale or index is None:
            index = _build(folder, index, stamps, stale, [task(i) for i in stale], size, workers, progress)
    log.info("pixel cache %s: %d images, %d decoded now", folder, len(stamps), len(stale))
    return PixelCache(folder, index, np.arange(len(stamps)))


def _corpora(table: StudyTable) -> list[str]:
    return [table.corpora[c] for c in table.corpus[table.image_study]]


def _stamp(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return [-1, -1]
    return [status.st_size, status.st_mtime_ns]


def _load_index(folder: Path, images: int, size: int) -> dict[str, Any] | None:
    """The index of a complete store, or None: then all is built anew."""
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text())
        complete = (folder / "pixels.u8").stat().st_size == images * size * size and len(index["stamps"]) == images
    except (OSError, ValueError, KeyError):
        return None
    return index if complete else None


def _decode(task: _Task) -> tuple[Gray | None, str]:
    """Pixels and '', or None and the cause. Top level, so that a spawned process can import it."""
    path, name, size, resize, equalized = task
    try:
        image = read_gray(Path(path), name)
    except InputError as error:
        return None, str(error)
    return fit(equalize(image) if equalized else image, size, resize), ""


def _build(
    folder: Path, old: dict[str, Any] | None, stamps: list[list[int]], stale: list[int],
    tasks: list[_Task], size: int, workers: int | None, progress: bool,
) -> dict[str, Any]:  # fmt: skip
    """Decode the stale images into a copy of the store and put it in place in one step, the index last."""
    bytes_needed = len(stamps) * size * size
    free = shutil.disk_usage(folder).free
    if bytes_needed > free:  # a full disk under a memory map kills the process without a word
        raise InputError(
            f"{folder}: the pixel cache needs {bytes_needed >> 20} MiB and {free >> 20} MiB are free; set cache_dir"
        )
    fresh = folder / f"pixels.{os.getpid()}"
    private_file(fresh)
    if old is not None:
        shutil.copyfile(folder / "pixels.u8", fresh)
    rows = np.memmap(fresh, np.uint8, "w+" if old is None else "r+", shape=(len(stamps), size, size))
    checksums = [0] * len(stamps) if old is None else list(old["crc32"])
    unreadable: dict[str, str] = {} if old is None else dict(old[UNREADABLE])
    try:
        bar = tqdm(_decoded(tasks, workers), "decoding", len(tasks), disable=not progress, unit="image")
        for i, (pixels, cause) in zip(stale, bar, strict=True):
            rows[i] = 0 if pixels is None else pixels
            checksums[i] = zlib.crc32(rows[i])
            unreadable.pop(str(i), None)
            if pixels is None:
                unreadable[str(i)] = cause
        rows.flush()
        del rows
        # Without an index the store counts as absent, so a crash between the two steps costs time, not correctness.
        (folder / "index.json").unlink(missing_ok=True)
        os.replace(fresh, folder / "pixels.u8")
    finally:
        fresh.unlink(missing_ok=True)
    index = {"version": VERSION, "size": size, "stamps": stamps, "crc32": checksums, UNREADABLE: unreadable}
    with replacing(folder / "index.json") as draft:
        private_file(draft)
        draft.write_text(json.dumps(index))
    return index


def _decoded(tasks: list[_Task], workers: int | None) -> Iterator[tuple[Gray | None, str]]:
    """Decode in order, here or in processes; the result does not depend on which."""
    if workers is None:
        workers = (os.cpu_count() or 1) if len(tasks) >= POOL_FROM else 0
    if workers < 2:
        yield from map(_decode, tasks)
        return
    # spawn: forking a process that holds torch's threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_decode, tasks, chunksize=16)
