"""Whether the slices of a CT lie evenly: positions that an export has rounded, slices sheared against each other."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError

log = logging.getLogger(__name__)
UNEVEN = 0.1
"""Share of the median distance by which that of two neighbours may differ."""
LOST = 5
"""slices that may be missing where two parts of a scan meet"""
ROUNDED_MM = 4.0
"""More than rounding to a whole mm adds to a gap, along any normal."""
UNITS_MM = (1.0, 0.1, 0.01)
"""To which exports round positions."""
SHIFT_MM = 1.0
"""By which slices may lie beside their line, for that rounding; or a pixel, where that is more."""
TILT_DEGREES = 1.0
"""Above it a tilt is told: at 300 mm of chest the ends are then 5 mm apart."""
TILT_MOST = 30.0
"""No gantry tilts further; beyond it the positions are at fault."""


def is_even(origins: NDArray[np.float64], normal: NDArray[np.float64]) -> bool:
    """Return whether positions [N, 3], in order along `normal`, are evenly spaced, or were before they were rounded."""
    gaps = np.diff(origins @ normal)
    usual = float(np.median(gaps))
    even = bool(np.abs(gaps - usual).max() <= UNEVEN * usual)
    # The pairs that rounding is judged by are many: a gap beyond it spares them.
    return usual > 0 and (even or (gaps.max() - usual <= ROUNDED_MM and is_rounded(origins, normal, UNEVEN)))


def on_one_line(origins: NDArray[np.float64], normal: NDArray[np.float64]) -> bool:
    """Return whether positions [N, 3] lie on one line, tilted or not, as those of the slices of one scan do."""
    along = origins @ normal
    along, beside = along - along.mean(), origins - np.outer(along, normal)
    beside = beside - beside.mean(0)
    slope = along @ beside / max(float(along @ along), 1e-12)
    return bool(np.linalg.norm(beside - np.outer(along, slope), axis=1).max() <= SHIFT_MM)


def lacks_little(gaps: NDArray[np.float64], most: int) -> bool:
    """Return whether gaps [N] are even but for `most` of them, in each of which at most LOST slices have a place."""
    usual = float(np.median(gaps))
    if usual <= 0:
        return False
    steps = gaps / usual
    whole = np.rint(steps)
    near = np.abs(steps - whole) <= UNEVEN
    return bool(near.all() and whole.min() > 0 and (whole > 1).sum() <= most and whole.max() <= LOST + 1)


def is_rounded(origins: NDArray[np.float64], normal: NDArray[np.float64], uneven: float) -> bool:
    """Return whether uneven positions [N, 3], in order along `normal`, are even ones that were rounded.

    They are where all are multiples of a unit and one distance d explains each: |place - start - i d| of at most half
    a unit for every slice i. Equivalently, for each pair the distance lies within (difference -+ unit) / (j - i). That
    refuses a gap of a missing slice, 2 d, wherever d is above two units; below, one odd gap alone may be a missing
    slice as well as a carry, and counts as missing (`uneven`: share of the usual gap from which a gap is odd).
    """
    main = origins[:, np.argmax(np.abs(normal))]
    for unit in UNITS_MM:
        if np.abs(main - np.rint(main / unit) * unit).max() < 1e-6:
            break
    else:
        return False
    slack = unit * float(np.abs(normal).sum()) + 1e-6
    places = origins @ normal
    i, j = np.triu_indices(len(places), 1)
    difference, steps = places[j] - places[i], j - i
    low, high = float(((difference - slack) / steps).max()), float(((difference + slack) / steps).min())
    gaps = np.diff(places)
    odd = int((np.abs(gaps - np.median(gaps)) > uneven * np.median(gaps)).sum())
    return low <= high and (high > 2 * slack or odd > 1)


def check_shear(origins: NDArray[np.float64], axes: NDArray[np.float64], pixel: float, where: str) -> None:
    """Judge how slices at `origins` [N, 3], in order, are shifted within their plane, whose directions are `axes`.

    An even shift is a gantry tilt: told in the log, and read as it is where slices are axial, since each is an image of
    its own then and a chest is hardly ever tilted by more than a few degrees. InputError where it is more than a gantry
    can, where axial images would be cut across the shear, or for a shift that is not even.
    """
    normal = np.cross(axes[0], axes[1])
    offsets = origins - origins[0]
    along, beside = offsets @ normal, offsets @ axes.T
    slope = beside[-1] / along[-1]
    off_line = float(np.linalg.norm(beside - along[:, None] * slope, axis=1).max())
    allowed = max(SHIFT_MM, pixel)
    if off_line > allowed:
        raise InputError(
            f"{where}: slices are shifted against each other within their plane by up to {off_line:.1f} mm "
            "(ImagePositionPatient); name the folder of one series, or export it again"
        )
    degrees = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    if degrees <= TILT_DEGREES or np.linalg.norm(beside[-1]) <= allowed:
        return
    told = f"{where}: the slices are sheared by {degrees:.1f} degrees, a gantry tilt"
    if np.argmax(np.abs(normal)) != 2:
        raise InputError(f"{told}, and not axial: images would be cut across the shear; resample the series")
    if degrees > TILT_MOST:
        raise InputError(f"{told} beyond {TILT_MOST:g}; resample the series or correct ImagePositionPatient")
    log.warning("%s; they are read as they are, not resampled", told)
