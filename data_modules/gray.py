"""Values to gray: stretching, and the refusal of pictures that show nothing."""

from __future__ import annotations

import logging
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
SQUEEZED = 8
"""A stretch leaves out the `FEW` at either end where they alone take all but 1/8 of the range."""


def to_uint8(unit: NDArray[np.float64]) -> Gray:
    """Return 0..1 as 0..255, clipped."""
    return np.rint(np.clip(unit, 0.0, 1.0) * 255.0).astype(np.uint8)


def sample(values: NDArray[Any]) -> NDArray[Any]:
    """Return about LOOKED_AT of the values, evenly spread, flat; all where there are fewer."""
    flat = values.ravel()
    return flat[:: max(1, flat.size // LOOKED_AT) | 1]  # odd, so that it does not walk down a column


def limits(low: float, high: float, seen: NDArray[Any], where: str) -> tuple[float, float]:
    """Return the values that become black and white: the least and the greatest.

    A few of those `seen`, a sample, that lie far from all others (a dead detector element) are left out, with a
    warning: they would leave the picture nearly black or white.
    """
    least = float(np.percentile(seen, 100 * FEW, method="higher"))
    most = float(np.percentile(seen, 100 - 100 * FEW, method="lower"))
    if least < most < least + (high - low) / SQUEEZED:
        log.warning(
            "%s: a few of the values from %g to %g lie far from all others; shown is %g to %g", where, low, high,
            least, most,
        )  # fmt: skip
        return least, most
    return low, high


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
