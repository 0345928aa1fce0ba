"""How a CT volume becomes images: the `data.ct` section."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from data_modules.corpus_config import in_range, one_of
from data_modules.errors import InputError

WINDOWS = {"lung": (-600.0, 1500.0), "mediastinum": (40.0, 400.0), "bone": (400.0, 1800.0), "pe": (400.0, 1000.0)}
"""Name -> centre and width in HU; lung, mediastinum and pe as INSPECT's public code has them, bone as is usual."""
MAX_SLICES = 512


def centre_and_width(window: str, key: str = "data.ct.windows") -> tuple[float, float]:
    """Centre and width in HU of a window, given by a name of `WINDOWS` or by number, as WIDTH/CENTRE.

    Raises:
        InputError: neither of the two, or a width that is not above 0.
    """
    if window in WINDOWS:
        return WINDOWS[window]
    width, _, centre = window.partition("/")
    try:
        found = float(centre), float(width)
    except ValueError:
        raise InputError(
            f"{key}: '{window}' is neither one of {', '.join(WINDOWS)} nor WIDTH/CENTRE in HU, such as 350/40"
        ) from None
    if not (math.isfinite(found[0]) and 0 < found[1] < math.inf):
        raise InputError(f"{key}: '{window}' must have a width above 0 and a finite centre")
    return found


@dataclass
class CtConfig:
    """Axial slices of a volume become the images of its study, three windows of a slice their three channels."""

    windows: list[str] = field(default_factory=lambda: ["lung", "mediastinum", "bone"])
    """Three of lung, mediastinum, bone, pe or WIDTH/CENTRE in HU (350/40) as channels, or one alone as gray."""
    slices: int = 16
    """Images of a volume under choice lung and uniform."""
    choice: str = "lung"
    """lung (spread evenly over the slices that show lung), uniform (over all slices) or every_mm."""
    every_mm: float = 10.0
    """Distance of the slices under choice every_mm; then a taller patient has more of them."""

    def check(self, key: str) -> None:
        """InputError for what cannot be made."""
        for window in self.windows:
            centre_and_width(window, f"{key}.windows")
        if len(self.windows) not in (1, 3):
            raise InputError(f"{key}.windows: {list(self.windows)} must be three windows, or one for gray")
        in_range(f"{key}.slices", self.slices, 1, MAX_SLICES)
        one_of(f"{key}.choice", self.choice, ("lung", "uniform", "every_mm"))
        in_range(f"{key}.every_mm", self.every_mm, 0.1, 1000)
