"""A picture or slice in its full range of values, for a reader who lays the window over it himself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.dicom import one_file
from data_modules.dicom_gray import Values, read_values
from data_modules.gray import Gray, check_shows, to_uint8
from data_modules.pictures import SIGNATURES, read_deep
from data_modules.pixels import is_dicom, read_bytes, read_gray

LEVELS = (1 << 16) - 1


@dataclass(frozen=True)
class FullRange:
    """An image of up to 65,536 levels; a level stands for the value `slope` x level + `intercept`."""

    levels: NDArray[np.uint16]
    """[H, W]"""
    slope: float
    intercept: float
    low: float
    """value that is black at first, or white if inverted"""
    high: float
    inverted: bool = False

    def gray(self) -> Gray:
        """Return uint8 [H, W] as it is shown at first."""
        values = self.levels.astype(np.float64) * self.slope + self.intercept
        gray = to_uint8((values - self.low) / (self.high - self.low or 1.0))
        return 255 - gray if self.inverted else gray

    def within(self, side: int) -> FullRange:
        """Return the image with its longer side reduced to `side` pixels (mean of the pixels below each)."""
        height, width = self.levels.shape
        scale = side / max(height, width)
        if scale >= 1:
            return self
        size = max(1, round(width * scale)), max(1, round(height * scale))
        # float32 holds every level as it is.
        small = Image.fromarray(self.levels.astype(np.float32)).resize(size, Image.Resampling.BOX)
        return replace(self, levels=np.rint(np.asarray(small)).astype(np.uint16))


def read_full_range(
    path: Path, name: str | None = None, frames: str = "error", modality: str | None = None
) -> FullRange:
    """Return a DICOM, PNG or JPEG file; its `gray` is what `pixels.read_gray` gives, whose arguments these are.

    What is no straight line from value to gray (colour, a VOI LUT, a sigmoid) comes as the 256 levels of that gray.

    Raises:
        InputError: as for `read_gray`.
    """
    where = name or str(path)
    with one_file(where):
        data = read_bytes(path, where)
        if is_dicom(data, path):
            values = read_values(data, where, frames, modality)
            found = None if values is None else _levels(values)
        else:
            deep = read_deep(data, where) if data.startswith(SIGNATURES) else None
            found = None if deep is None else FullRange(deep[0], 1.0, 0.0, *deep[1:])
        if found is None:
            return FullRange(read_gray(path, name, frames, modality).astype(np.uint16), 1.0, 0.0, 0.0, 255.0)
        check_shows(found.gray(), where)
        return found


def of_hounsfield(plane: NDArray[np.int16], low: float, high: float) -> FullRange:
    """Return a slice of a CT [H, W] in HU, shown from `low` to `high` at first."""
    return FullRange((plane.astype(np.int32) + (1 << 15)).astype(np.uint16), 1.0, -float(1 << 15), low, high)


def _levels(found: Values) -> FullRange:
    least, most = float(found.values.min()), float(found.values.max())
    steps = found.values - least
    whole = most - least <= LEVELS and not np.any(steps != np.rint(steps))
    slope = 1.0 if whole else (most - least) / LEVELS
    return FullRange(np.rint(steps / slope).astype(np.uint16), slope, least, found.low, found.high, found.inverted)
