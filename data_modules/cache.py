"""Decode once: the images of a study table as memory-mapped uint8, from one store for each corpus and recipe.

A store is keyed by image, so that any experiment on a corpus uses what another has decoded: other splits, filters,
subsets or partners cost nothing. The key of an image is the content of its file and its recipe, so that a changed file
is a new image, and neither a stale one nor that of another corpus is ever served; `seen` tells whose content is known.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_modules import store
from data_modules.counting import counted
from data_modules.decode import Recipe, decode
from data_modules.disk import CannotWrite, writing
from data_modules.errors import InputError
from data_modules.file_stamps import NONE, Keys, Seen, Stamps, content_key
from data_modules.lock import locked
from data_modules.pixels import Gray
from data_modules.privacy import pseudonym
from data_modules.progress import Bar
from data_modules.store import Store
from data_modules.study import StudyTable
from data_modules.workers import crew

log = logging.getLogger(__name__)
T = TypeVar("T")

VERSION = 9
"""Raise when a change of `pixels.py`, `gray.py`, `volumes.py` or `decode.py` changes what a file decodes to."""
POOL_FROM = 500
"""Planes to decode from which starting processes pays off when the number of workers is left open."""
_Task = tuple[str, str, Recipe, tuple[float, float] | None, str]
"""Arguments of `decode`."""
_Picture = tuple[int, NDArray[np.uint8] | None, str]
"""Key of a file's content, its pixels (or none) and why there are none."""


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
    """Return the cache of all images of `table`; only files whose content is new are decoded.

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
        opened, fresh = Store(folder, recipe.size), 0
        of_corpus.recall(folder)
        if (opened.find(of_corpus.keys) < 0).any():
            with _only_writer(folder):
                opened = Store(folder, recipe.size)
                fresh = of_corpus.fill(opened, workers, progress)
        stores.append(opened)
        entry[here] = opened.find(of_corpus.keys)
        unreadable |= of_corpus.unreadable
        log.info("pixel cache of %s: %s, %s, %d decoded now", name, folder, counted(len(here), "file"), fresh)
    return PixelCache(stores, corpus, entry, unreadable)


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a store's folder. In one that is read-only images may still be tried that cannot be decoded."""
    with ExitStack() as held:
        try:
            with writing(folder):
                store.make(folder)
            held.enter_context(locked(folder / "lock"))
        except CannotWrite as error:
            if not folder.is_dir() or os.access(folder, os.W_OK):
                raise
            log.info("pixel cache %s is only read: %s", folder, error)
        yield


class _Corpus:
    """The images `here` of corpus number `c`, on their way into its store."""

    def __init__(self, table: StudyTable, c: int, here: NDArray[np.int64], recipe: Recipe, salt: bytes) -> None:
        self.table, self.name, self.here, self.recipe, self.salt = table, table.corpora[c], here, recipe, salt
        modalities = sorted(set(table.modality[table.corpus == c]))
        self.modality = modalities[0] if modalities else "chest_xray"
        self.studies = table.image_study[here]
        ends = [os.path.splitext(table.image_paths[i])[1] for i in here]
        self.more = [f"{end} {scale}" for end, scale in zip(ends, table.rescale[here].tolist(), strict=True)]
        stamps, pairs = Stamps(salt), zip(here, self.more, strict=True)
        self.stamps = np.array([stamps.of(table.image_paths[i], more) for i, more in pairs], dtype=np.uint64)
        self.keys: Keys = np.zeros(len(here), dtype=np.uint64)
        """Of the content of each file; NONE until it is known."""
        self.unreadable: dict[int, str] = {}

    def folder_name(self) -> str:
        made = f"{VERSION} {self.name} {self.modality} {self.recipe.text(self.modality)}"
        return hashlib.blake2b(made.encode(), key=self.salt, digest_size=8).hexdigest()

    def _task(self, at: int) -> _Task:
        i, row = int(self.here[at]), self.table.source_rows[self.studies[at]]
        named = f"corpus {self.name}, row {row}, image {pseudonym(self.name, self.table.image_ids[i], self.salt)}"
        slope, intercept = self.table.rescale[i].tolist()
        rescale = None if np.isnan(slope) else (slope, intercept)
        return self.table.image_paths[i], named, self.recipe, rescale, self.modality

    def recall(self, folder: Path) -> Seen:
        """Give their keys to the files that look as they did when they were last read."""
        seen = Seen(folder)
        self.keys = seen.find(self.stamps)
        return seen

    def fill(self, opened: Store, workers: int | None, progress: bool) -> int:
        """Decode what the store lacks; how many files that were."""
        seen = self.recall(opened.folder)
        try:
            if len(opened.entries):  # what only looks new need not be decoded
                for at, key in self._each(_content, "reading", self.keys == NONE, workers, progress):
                    self.keys[at] = key
            lacking = opened.find(self.keys) < 0
            planes = sum(self.recipe.planes(self.table.image_paths[i]) for i in self.here[lacking])
            causes: dict[int, str] = {}

            def images() -> Iterator[tuple[int, NDArray[np.uint8]]]:
                for at, (key, pixels, cause) in self._each(_decode, "decoding", lacking, workers, progress):
                    if pixels is None:
                        causes.update(dict.fromkeys(self.here[at].tolist(), cause))
                    else:
                        self.keys[at] = key
                        yield key, pixels

            if lacking.any():
                opened.add(images(), planes * self.recipe.size**2)
            self.unreadable = causes
            return int(lacking.sum()) - len(causes)
        finally:
            seen.add(self.stamps, self.keys)

    def _each(
        self, function: Callable[[tuple[_Task, str, bytes]], T], doing: str, wanted: NDArray[np.bool_],
        workers: int | None, progress: bool,
    ) -> Iterator[tuple[NDArray[np.int64], T]]:  # fmt: skip
        """What a function makes of the wanted files, each with the positions of all that are this same file."""
        same: dict[int, list[int]] = {}
        for at in np.flatnonzero(wanted).tolist():
            same.setdefault(int(self.stamps[at]) or -1 - at, []).append(at)
        tasks = [(self._task(places[0]), self.more[places[0]], self.salt) for places in same.values()]
        if workers is None:
            planes = sum(self.recipe.planes(task[0]) for task, _, _ in tasks)
            workers = (os.cpu_count() or 1) if planes >= POOL_FROM else 0
        with crew(function, workers if tasks else 0, lambda task: task[0][1]) as done:
            bar = Bar(done(tasks), f"{doing} {self.name}", len(tasks), unit="file", disable=not progress or not tasks)
            for places, found in zip(same.values(), bar, strict=True):
                yield np.array(places), found


def _content(task: tuple[_Task, str, bytes]) -> int:
    """The key of a file's content, NONE where it cannot be read."""
    (path, *_), more, salt = task
    try:
        return content_key(path, more, salt)
    except OSError:
        return NONE


def _decode(task: tuple[_Task, str, bytes]) -> _Picture:
    """Pixels under the key of the content that they were made of, or the cause why there are none."""
    path, name, *_ = task[0]
    before, key = Stamps(b"").of(path, ""), _content(task)
    try:
        pixels = decode(*task[0])
    except InputError as error:
        return NONE, None, str(error)
    if NONE in (before, key) or Stamps(b"").of(path, "") != before:
        return NONE, None, f"{name}: has changed while it was read; repeat the command"
    return key, pixels, ""
