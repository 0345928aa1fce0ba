"""One file to the uint8 planes that the cache keeps: one of a picture, slices times windows of a CT volume."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.config import DataConfig
from data_modules.ct_config import CtConfig
from data_modules.dicom import one_file
from data_modules.pixels import equalize, fit, pixel_aspect, read_gray
from data_modules.slices import images
from data_modules.volumes import is_volume, read_volume


@dataclass(frozen=True)
class Recipe:
    """How files become planes."""

    size: int
    """side of a plane in pixels"""
    resize: str = "pad"
    """see `pixels.fit`"""
    equalize: bool = False
    """of pictures; a CT's windows fix what a gray value means"""
    frames: str = "error"
    """see `pixels.read_gray`"""
    ct: CtConfig = field(default_factory=CtConfig)

    @classmethod
    def of(cls, config: DataConfig) -> Recipe:
        """The recipe of a data section."""
        return cls(config.image_size, config.resize, config.equalize, config.frames, config.ct)

    def text(self, modality: str) -> str:
        """What decides the planes of a modality, as JSON: part of the names and keys of the cache."""
        return json.dumps(self.settings([modality]))

    def settings(self, modalities: Collection[str]) -> dict[str, Any]:
        """Plain values, those of CT only where there is any."""
        found = asdict(self)
        return found if "chest_ct" in modalities else {key: found[key] for key in found if key != "ct"}

    def planes(self, path: str) -> int:
        """Planes that a file will have; under choice every_mm, where its header decides, the least possible."""
        if not is_volume(Path(path)):
            return 1
        return len(self.ct.windows) * (1 if self.ct.choice == "every_mm" else self.ct.slices)


def decode(
    path: str, name: str, recipe: Recipe, rescale: tuple[float, float] | None, modality: str = "chest_xray"
) -> NDArray[np.uint8]:
    """Return uint8 [S, C, size, size]: S images of C channels, one of one where the file is a picture.

    `name` stands for the file in error texts. `rescale` replaces slope and intercept of a volume's own header.
    `modality`: what a picture must not contradict in its header.
    InputError, whatever goes wrong with the file: here is where every image is read.
    """
    with one_file(name):
        if not is_volume(Path(path)):
            gray = read_gray(Path(path), name, recipe.frames, modality)
            gray = equalize(gray) if recipe.equalize else gray
            return fit(gray, recipe.size, recipe.resize, pixel_aspect(Path(path), name))[None, None]
        slices = images(read_volume(Path(path), name, rescale), recipe.ct)
        fitted = [[fit(plane, recipe.size, recipe.resize) for plane in image] for image in slices]
        return np.array(fitted, dtype=np.uint8)
