"""Faults of images at graded strength, on the 8-bit pixels that the backbone sees; the same ones for the same seed."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Gray = NDArray[np.uint8]
MIDDLE = 127.5


@dataclass(frozen=True)
class Fault:
    """A kind of fault, its levels from weak to strong, and what a level means."""

    apply: Callable[[Gray, float, np.random.Generator], Gray]
    levels: tuple[float, ...]
    unit: str


def perturbed(pixels: NDArray[np.uint8], name: str, level: float, seed: int, key: int) -> NDArray[np.uint8]:
    """Images uint8 [S, C, H, W] of one study with a fault; all planes of the study get the same one.

    Args:
        name: of FAULTS. key: of the study; with `seed` and the fault it decides every draw, whatever the level, so
            that a level is the one before, only stronger.
    """
    fault = FAULTS[name]
    state = [seed, key, list(FAULTS).index(name)]
    planes = [
        fault.apply(plane, level, np.random.default_rng(state)) for plane in pixels.reshape(-1, *pixels.shape[2:])
    ]
    return np.stack(planes).reshape(pixels.shape)


def _noise(image: Gray, level: float, draw: np.random.Generator) -> Gray:
    return _gray(image + level * draw.normal(size=image.shape))


def _blur(image: Gray, level: float, draw: np.random.Generator) -> Gray:
    from scipy.ndimage import gaussian_filter

    return _gray(gaussian_filter(image.astype(np.float32), level / 100 * image.shape[0]))


def _contrast(image: Gray, level: float, draw: np.random.Generator) -> Gray:
    return _gray(MIDDLE + level * (image - MIDDLE))


def _rotation(image: Gray, level: float, draw: np.random.Generator) -> Gray:
    side = 1 if draw.random() < 0.5 else -1
    return np.asarray(Image.fromarray(image).rotate(side * level, Image.Resampling.BILINEAR))


def _crop(image: Gray, level: float, draw: np.random.Generator) -> Gray:
    """A square of `level` of the side, anywhere, at the old size."""
    side = image.shape[0]
    kept = max(1, round(level * side))
    top, left = (round(draw.random() * (side - kept)) for _ in range(2))
    part = Image.fromarray(image[top : top + kept, left : left + kept])
    return np.asarray(part.resize((side, side), Image.Resampling.BICUBIC))


def _jpeg(image: Gray, level: float, draw: np.random.Generator) -> Gray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=int(level))
    return np.asarray(Image.open(buffer))


def _mark(image: Gray, level: float, draw: np.random.Generator) -> Gray:
    """A white letter L on a black plate in an upper corner, as burnt in by a scanner."""
    side, size = image.shape[0], max(3, round(level / 100 * image.shape[0]))
    marked = image.copy()
    left = 0 if draw.random() < 0.5 else side - size
    marked[:size, left : left + size] = 0
    edge, stroke = size // 5, max(1, size // 6)
    marked[edge : size - edge, left + edge : left + edge + stroke] = 255
    marked[size - edge - stroke : size - edge, left + edge : left + size - edge] = 255
    return marked


def _gray(values: NDArray[np.floating]) -> Gray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


FAULTS = {
    "noise": Fault(_noise, (8, 16, 32, 64), "standard deviation in levels of 255"),
    "blur": Fault(_blur, (0.5, 1, 2, 4), "standard deviation in % of the side"),
    "contrast": Fault(_contrast, (0.75, 0.5, 0.25, 0.1), "gain about mid-gray"),
    "rotation": Fault(_rotation, (5, 10, 20, 40), "degrees to either side"),
    "crop": Fault(_crop, (0.95, 0.9, 0.8, 0.6), "share of the side that is kept"),
    "jpeg": Fault(_jpeg, (50, 20, 10, 5), "quality"),
    "mark": Fault(_mark, (5, 10, 20, 30), "burnt-in letter, % of the side"),
}
