"""Values to gray: stretching, and the refusal of pictures that show nothing."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError

log = logging.getLogger(__name__)
Gray = NDArray[np.uint8]
"""uint8 [H, W], 0 black."""
LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601, as Pillow's conversion to gray."""
LOOKED_AT = 1 << 16
"""Pixels from which what a picture shows is judged, spread over it."""
FEW = 1e-3
"""Share of the pixels that may be anything: dead ones, a marker's edge."""
ALIKE = 3
"""Neighbouring gray levels that count as one."""
MARKED = 0.02
"""Share of the pixels at either end that may be a marker, where a gap is between them and all others."""
GAP = 4
"""A gap takes 1/4 of the range and holds no more than `FEW`, as a letter's edges."""
SQUEEZED = 8
"""A stretch leaves out those few or marked at the ends that alone take all but 1/8 of the range."""


def to_uint8(unit: NDArray[np.float64]) -> Gray:
    """Return 0..1 as 0..255, clipped."""
    return np.rint(np.clip(unit, 0.0, 1.0) * 255.0).astype(np.uint8)


def sample(values: NDArray[Any]) -> NDArray[Any]:
    """Return about LOOKED_AT of the values, evenly spread, flat; all where there are fewer."""
    flat = values.ravel()
    return flat[:: max(1, flat.size // LOOKED_AT) | 1]  # odd, so that it does not walk down a column


def limits(low: float, high: float, seen: NDArray[Any], where: str) -> tuple[float, float]:
    """Return the values that become black and white: the least and the greatest.

    Where a few of those `seen`, a sample, lie far from all others (a dead detector element), or up to `MARKED` beyond
    a gap (a lead letter of the highest value that a file can hold), these are left out, with a warning: they would
    leave the picture nearly black or white.
    """
    values = np.sort(seen)
    few = math.ceil(FEW * (len(values) - 1))
    gap = (high - low) / GAP
    inner = -_before_gap(-values[::-1], few, gap), _before_gap(values, few, gap)
    for least, most in ((float(values[few]), float(values[-1 - few])), inner):
        if least < most < least + (high - low) / SQUEEZED:
            log.warning(
                "%s: a few of the values from %g to %g lie far from all others; shown is %g to %g", where, low, high,
                least, most,
            )  # fmt: skip
            return least, most
    return low, high


def _before_gap(values: NDArray[Any], few: int, gap: float) -> float:
    """The value below the first gap among the highest of sorted values; the highest where there is none."""
    end = values[-1 - few - int(MARKED * len(values)) :]
    wide = np.flatnonzero(end[few:] - end[: len(end) - few] >= gap)
    return float(end[wide[0]] if few and len(wide) else end[-1])


def stretch(values: NDArray[Any], low: float, high: float) -> Gray:
    """Scale linearly so that `low` is black and `high` white; a constant image is black."""
    return to_uint8((values - low) / (high - low) if high > low else np.zeros(values.shape))


def tells(levels: NDArray[np.uint8]) -> bool:
    """Return whether gray levels differ: more than a few of them neither clipped, nor all alike."""
    counts = np.bincount(levels, minlength=256)
    few = FEW * counts.sum()
    return bool(counts[1:-1].sum() > few and counts.sum() - _most_alike(counts) > few)


def check_shows(gray: Gray, where: str) -> None:
    """InputError for a picture that is blank: all pixels, but for a few, of one gray level or next to it."""
    for levels in (sample(gray), gray.ravel()):  # nearly every picture ends at the first
        counts = np.bincount(levels, minlength=256)
        if counts.sum() - _most_alike(counts) > 2 * FEW * counts.sum():
            return
    if levels.size > _most_alike(counts) + max(1, FEW * levels.size):
        return
    raise InputError(
        f"{where}: is blank: {_most_alike(counts) / levels.size:.1%} of its pixels have one gray value, "
        f"{int(np.argmax(counts))} of 255; leave it out, or export it again"
    )


def _most_alike(counts: NDArray[np.intp]) -> int:
    return int(np.convolve(counts, np.ones(ALIKE, dtype=np.intp)).max())
