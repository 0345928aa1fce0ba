"""Pictures that are the same picture, though encoded, resized or brightened otherwise.

A picture goes by two sketches, 16 and 32 pixels wide, without their local mean, at unit length; two pictures are alike
when both pairs of sketches correlate. The thresholds were set on real radiographs (671 of ChestX-ray14 at 64 pixels,
254 of the COVID-19 collection and 450 of Kermany at 128), each beside a copy of half to double its size, of JPEG
quality 60 to 90 and with up to 10 % more or less contrast: no two different pictures passed, and two copies of 1,375
were missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter

from data_modules.cache import PixelCache
from data_modules.progress import Bar

COARSE, FINE, NEIGHBOURS = 16, 32, 5
"""Sides of the two sketches, and of the square whose mean is taken off, in pixels of the sketch."""
COARSE_ALIKE, FINE_ALIKE = 0.98, 0.87
_CHUNK = 4096

Sketches = NDArray[np.float32]


def sketch(gray: NDArray[np.uint8], side: int) -> Sketches:
    """Return float32 [side * side] of unit length from a picture [H, W]; zero where the picture is flat."""
    small = np.asarray(Image.fromarray(gray).resize((side, side), Image.Resampling.BOX), dtype=np.float32)
    detail = small - uniform_filter(small, NEIGHBOURS, mode="nearest")
    detail -= detail.mean()
    length = float(np.linalg.norm(detail))
    # What is left of a flat picture is rounding.
    return (detail / length if length > side * 1e-2 else np.zeros_like(detail)).ravel()


def sketches(cache: PixelCache, images: NDArray[np.int64], progress: bool = False) -> Sketches:
    """Return float32 [I, COARSE ** 2] of these images of a cache; of a volume its middle slice counts."""
    found = np.empty((len(images), COARSE**2), dtype=np.float32)
    for at, image in enumerate(Bar(images.tolist(), "sketches", disable=not progress)):
        found[at] = sketch(cache.picture(image), COARSE)
    return found


def candidates(coarse: Sketches, place: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield i < j in different places whose coarse sketches [N, COARSE ** 2] correlate."""
    for first in range(0, len(coarse), _CHUNK):
        own, rows = place[first : first + _CHUNK], coarse[first : first + _CHUNK]
        for second in range(first, len(coarse), _CHUNK):
            other = place[second : second + _CHUNK]
            if own.min() == own.max() == other.min() == other.max():
                continue
            near = (rows @ coarse[second : second + _CHUNK].T > COARSE_ALIKE) & (own[:, None] != other[None, :])
            yield from ((int(first + i), int(second + j)) for i, j in np.argwhere(near) if first + i < second + j)


def alike(first: Sketches, second: Sketches) -> bool:
    """Whether two fine sketches correlate as well."""
    return float(first @ second) > FINE_ALIKE


def same_pictures(
    cache: PixelCache, images: NDArray[np.int64], place: NDArray[np.int64], progress: bool = False
) -> list[tuple[int, int]]:
    """Return (image, image) for all pairs of pictures of different places that are the same picture.

    Flat pictures have nothing to compare and are never alike.

    Args:
        images: [I], positions in the cache.
        place: [I], a number for split or corpus of each; pairs within one place do not count.
    """

    @lru_cache(maxsize=_CHUNK)
    def fine(image: int) -> Sketches:
        return sketch(cache.picture(image), FINE)

    near = candidates(sketches(cache, images, progress), place)
    pairs = ((int(images[i]), int(images[j])) for i, j in near)
    return [(i, j) for i, j in pairs if alike(fine(i), fine(j))]
