"""The images of a study, one after the other: its pictures, and all slices of its volumes from head to feet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_modules.ct_config import WINDOWS, centre_and_width
from data_modules.decode import Recipe, decode
from data_modules.dicom import one_file
from data_modules.errors import InputError
from data_modules.full_range import FullRange, of_hounsfield, read_full_range
from data_modules.pixels import pixel_aspect
from data_modules.slices import axial, chosen_slices
from data_modules.volumes import Volume, is_volume, read_volume
from radz.evidence.view.worklist import File, Listed

VOLUMES = 2
"""CT volumes held in memory; one of 512 x 512 x 600 voxels takes 300 MB"""
PICTURES = 8
CHOICES = 256
"""volumes of which it is remembered what slices the model sees"""


@dataclass(frozen=True)
class Place:
    """One image of a study."""

    file: File
    slice: int | None
    """on Z of a volume; None for a picture"""


class Frames:
    """Reads what a study shows. Its methods may be called from several threads."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self._lock = recipe, threading.Lock()
        self._volume = lru_cache(VOLUMES)(lambda file: read_volume(file.path, file.name, file.rescale))
        self._chosen = lru_cache(CHOICES)(lambda file: chosen_slices(self.volume(file), recipe.ct))
        self._picture = lru_cache(PICTURES)(
            lambda file, modality: read_full_range(file.path, file.name, recipe.frames, modality)
        )

    def volume(self, file: File) -> Volume:
        """A CT volume; InputError when it cannot be read."""
        with self._lock, _said(file):
            found: Volume = self._volume(file)
        return found

    def picture(self, file: File, modality: str) -> FullRange:
        """A picture; InputError when it cannot be read."""
        with self._lock, _said(file):
            found: FullRange = self._picture(file, modality)
        return found

    def places(self, study: Listed) -> list[Place]:
        """All images of a study in the order in which they are shown."""
        found: list[Place] = []
        for file in study.files:
            if is_volume(file.path):
                depth = self.volume(file).hu.shape[2]
                found += [Place(file, depth - 1 - k) for k in range(depth)]
            else:
                found.append(Place(file, None))
        return found

    def seen(self, study: Listed) -> list[int]:
        """Which of `places` the model sees, in its order: every picture, and some slices of a volume."""
        places = self.places(study)
        number = {(place.file, place.slice): k for k, place in enumerate(places)}
        found: list[int] = []
        for file in study.files:
            slices = self._chosen(file) if is_volume(file.path) else [None]
            found += [number[file, one] for one in slices]
        return found

    def read(self, study: Listed, number: int) -> FullRange:
        """One of `places`."""
        place = self.places(study)[number]
        if place.slice is None:
            return self.picture(place.file, study.modality)
        centre, width = centre_and_width(self.recipe.ct.windows[0])
        plane = axial(self.volume(place.file), place.slice)
        return of_hounsfield(plane, centre - width / 2, centre + width / 2)

    def aspect(self, study: Listed, number: int) -> float:
        """Height over width of the pixels of one of `places`."""
        place = self.places(study)[number]
        return pixel_aspect(place.file.path) if place.slice is None else 1.0

    def planes(self, study: Listed) -> Tensor:
        """uint8 [M, C, S, S], what the model sees of a study, as `Radz.study` has it."""
        if not study.files:
            raise InputError(study.error)
        if study.modality != "chest_ct" and any(is_volume(file.path) for file in study.files):
            raise InputError(f"{study.name}: is a CT volume, and the run was trained on chest X-rays")
        parts = []
        for file in study.files:
            with _said(file):
                name = file.name or str(file.path)
                parts.append(decode(str(file.path), name, self.recipe, file.rescale, study.modality))
        return torch.from_numpy(np.concatenate(parts))

    def about(self, study: Listed) -> dict[str, Any]:
        """For JSON: how many images there are, and which the model sees."""
        volumes = any(is_volume(file.path) for file in study.files)
        return {
            "frames": len(self.places(study)),
            "seen": self.seen(study),
            "volume": volumes,
            "presets": {name: list(window) for name, window in WINDOWS.items()} if volumes else {},
        }


@contextmanager
def _said(file: File) -> Iterator[None]:
    """What is wrong with a file as an InputError, also where the machine is at fault (no memory)."""
    where = file.name or str(file.path)
    try:
        with one_file(where):
            yield
    except MemoryError:
        raise InputError(f"{where}: there is not enough memory to read it") from None
