"""Decode once: the images of a study table as memory-mapped uint8, from one store for each corpus and recipe.

A store is keyed by image, so that any experiment on a corpus uses what another has decoded: other splits, filters,
subsets or partners cost nothing. The key of an image holds its name, its file's size and time and its recipe, so that
a changed file is a new image and a stale one is never served.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from data_modules import store
from data_modules.decode import Recipe, decode
from data_modules.errors import InputError
from data_modules.lock import locked
from data_modules.pixels import Gray
from data_modules.privacy import pseudonym
from data_modules.store import Store
from data_modules.study import StudyTable

log = logging.getLogger(__name__)

VERSION = 4
"""Raise when a change of `pixels.py`, `volumes.py` or `decode.py` changes what a file decodes to."""
POOL_FROM = 500
"""Planes to decode from which starting processes pays off when the number of workers is left open."""
_Task = tuple[str, str, Recipe, tuple[float, float] | None]
"""Arguments of `decode`."""


class PixelCache:
    """The images of a table. Open with `open_or_build`.

    `slices` int32 [I]: images that each file of the table holds, 1 for a picture, 0 where it could not be decoded.
    `unreadable`: position of a file -> why it could not be decoded.
    """

    def __init__(
        self, stores: list[Store], which: NDArray[np.int16], entry: NDArray[np.int64], unreadable: dict[int, str]
    ) -> None:
        """`which` [I] and `entry` [I]: store and entry of each image; an entry of -1 is none."""
        self.stores, self.unreadable = stores, unreadable
        self.size = stores[0].size
        self._which, self._start = which, np.zeros(len(which), dtype=np.int64)
        self.slices, self._channels, self._crc = (np.zeros(len(which), dtype=np.int64) for _ in range(3))
        for s, of in enumerate(stores):
            here = np.flatnonzero((which == s) & (entry >= 0))
            found = of.entries[entry[here]]
            self._start[here], self.slices[here] = found["start"], found["slices"]
            self._channels[here], self._crc[here] = found["channels"], found["crc"]
        self._checked = np.zeros(len(which), dtype=bool)

    @property
    def folders(self) -> list[Path]:
        """Where the stores lie, in the order of the table's corpora."""
        return [of.folder for of in self.stores]

    def __len__(self) -> int:
        return len(self.slices)

    def get(self, image: int) -> NDArray[np.uint8]:
        """Return uint8 [S, C, H, W], a read-only view; InputError when the planes on disk are damaged."""
        of, start = self.stores[self._which[image]], self._start[image]
        shape = (self.slices[image], self._channels[image], self.size, self.size)
        planes = of.planes[start : start + shape[0] * shape[1]]
        if not self._checked[image]:
            if zlib.crc32(planes) != self._crc[image]:
                raise InputError(f"{of.folder}: image {image} of the pixel cache is damaged; delete this folder")
            self._checked[image] = True
        return planes.reshape(shape)

    def picture(self, image: int) -> Gray:
        """Return uint8 [H, W], what stands for an image in figures: a volume's middle slice in its first window."""
        planes = self.get(image)
        return planes[len(planes) // 2, 0]

    def batch(self, images: ArrayLike) -> NDArray[np.uint8]:
        """Return uint8 [M, C, H, W], a copy: all slices of all images in order.

        C is the most that any of them has; a gray image beside a three-channel one is repeated.
        """
        chosen = np.asarray(images, dtype=np.int64)
        channels = int(self._channels[chosen].max(initial=1))
        out = np.empty((int(self.slices[chosen].sum()), channels, self.size, self.size), dtype=np.uint8)
        m = 0
        for image in chosen:
            planes = self.get(int(image))
            out[m : m + len(planes)] = planes
            m += len(planes)
        return out

    def select(self, images: ArrayLike) -> PixelCache:
        """Return the cache of these images only, in this order (the stores on disk stay as they are)."""
        chosen = object.__new__(PixelCache)
        vars(chosen).update(vars(self))
        index = np.asarray(images, dtype=np.int64)
        for name in ("_which", "_start", "slices", "_channels", "_crc", "_checked"):
            setattr(chosen, name, getattr(self, name)[index])
        chosen.unreadable = {}
        return chosen

    def digest(self) -> str:
        """Return 16 hexadecimal digits over the pixels (by their checksums) of these images."""
        return hashlib.blake2b(self._crc.astype("<i8").tobytes(), digest_size=8).hexdigest()

    def checksums(self) -> NDArray[np.int64]:
        """Return [I], the CRC-32 of each image's planes; equal ones only suggest equal pixels."""
        return self._crc


def open_or_build(
    table: StudyTable, recipe: Recipe, cache_dir: Path, workers: int | None, salt: bytes, progress: bool = True
) -> PixelCache:
    """Return the cache of all images of `table`; only files that are new or changed (size or time) are decoded.

    `workers`: processes that decode; None chooses. An image that cannot be decoded is noted in `unreadable`, named by
    corpus, row and salted hash, and tried again the next time. InputError when the disk has too little room.
    """
    studies = table.image_study
    corpus = table.corpus[studies]
    entry, stores = np.full(len(corpus), -1, dtype=np.int64), []
    unreadable: dict[int, str] = {}
    for c, name in enumerate(table.corpora):
        here = np.flatnonzero(corpus == c)
        of_corpus = _Corpus(table, c, here, recipe, salt)
        folder = cache_dir / "pixels" / of_corpus.folder_name()
        store.make(folder)
        with locked(folder / "lock"):
            opened = Store(folder, recipe.size)
            fresh = of_corpus.fill(opened, workers, progress)
        stores.append(opened)
        entry[here] = opened.find(of_corpus.keys)
        unreadable |= of_corpus.unreadable
        log.info("pixel cache of %s: %s, %d files, %d decoded now", name, folder, len(here), fresh)
    return PixelCache(stores, corpus, entry, unreadable)


class _Corpus:
    """The images `here` of corpus number `c`, on their way into its store."""

    def __init__(self, table: StudyTable, c: int, here: NDArray[np.int64], recipe: Recipe, salt: bytes) -> None:
        self.table, self.name, self.here, self.recipe, self.salt = table, table.corpora[c], here, recipe, salt
        modalities = sorted(set(table.modality[table.corpus == c]))
        self.modality = modalities[0] if modalities else "chest_xray"
        self.studies = table.image_study[here]
        self.keys = np.array([self._key(i) for i in here], dtype=np.uint64)
        self.unreadable: dict[int, str] = {}

    def folder_name(self) -> str:
        made = f"{VERSION} {self.name} {self.modality} {self.recipe.text(self.modality)}"
        return hashlib.blake2b(made.encode(), key=self.salt, digest_size=8).hexdigest()

    def _key(self, i: int) -> int:
        table = self.table
        slope, intercept = table.rescale[i].tolist()
        text = f"{table.image_ids[i]}\0{stamp(table.image_paths[i])}\0{slope} {intercept}"
        return int.from_bytes(hashlib.blake2b(text.encode(), key=self.salt, digest_size=8).digest(), "little")

    def _task(self, at: int) -> _Task:
        i, row = int(self.here[at]), self.table.source_rows[self.studies[at]]
        named = f"corpus {self.name}, row {row}, image {pseudonym(self.name, self.table.image_ids[i], self.salt)}"
        slope, intercept = self.table.rescale[i].tolist()
        return self.table.image_paths[i], named, self.recipe, None if np.isnan(slope) else (slope, intercept)

    def fill(self, opened: Store, workers: int | None, progress: bool) -> int:
        """Decode what the store lacks; how many files that were."""
        lacking = np.flatnonzero(opened.find(self.keys) < 0)
        _, first = np.unique(self.keys[lacking], return_index=True)
        tasks = [(at, self._task(at)) for at in np.sort(lacking[first]).tolist()]
        if not tasks:
            return 0
        planes = sum(self.recipe.planes(task[0]) for _, task in tasks)
        if workers is None:
            workers = (os.cpu_count() or 1) if planes >= POOL_FROM else 0
        bar = tqdm(
            _decoded([task for _, task in tasks], workers), f"decoding {self.name}", len(tasks), unit="file",
            disable=not progress,
        )  # fmt: skip
        causes: dict[int, str] = {}

        def images() -> Iterator[tuple[int, NDArray[np.uint8]]]:
            for (at, _), (pixels, cause) in zip(tasks, bar, strict=True):
                if pixels is None:
                    causes[int(self.keys[at])] = cause
                else:
                    yield int(self.keys[at]), pixels

        opened.add(images(), planes * self.recipe.size**2)
        for at in lacking if causes else ():
            if int(self.keys[at]) in causes:
                self.unreadable[int(self.here[at])] = causes[int(self.keys[at])]
        return len(tasks) - len(causes)


def stamp(path: str) -> list[int]:
    """Size and time of a file, of a folder the sum and the latest of its files; -1 where there is nothing."""
    try:
        status = os.stat(path)
        if not os.path.isdir(path):
            return [status.st_size, status.st_mtime_ns]
        found = [entry.stat() for entry in os.scandir(path) if entry.is_file()]
    except OSError:
        return [-1, -1]
    return [sum(s.st_size for s in found), max((s.st_mtime_ns for s in found), default=0), len(found)]


def _decode(task: _Task) -> tuple[NDArray[np.uint8] | None, str]:
    """Pixels and '', or None and the cause. Top level, so that a spawned process can import it."""
    try:
        return decode(*task), ""
    except InputError as error:
        return None, str(error)


def _decoded(tasks: list[_Task], workers: int) -> Iterator[tuple[NDArray[np.uint8] | None, str]]:
    """Decode in order, here or in processes; the result does not depend on which."""
    if workers < 2:
        yield from map(_decode, tasks)
        return
    # spawn: forking a process that holds torch's threads may hang.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(_decode, tasks, chunksize=min(16, -(-len(tasks) // workers)))
    finally:
        pool.shutdown(cancel_futures=True)
