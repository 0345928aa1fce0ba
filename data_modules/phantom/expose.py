"""From thickness to the stored picture: Beer-Lambert, scatter, noise, detector blur, log compression, 12 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_modules.phantom.project import MU_WATER

BITS = 12
FULL = 2**BITS - 1


@dataclass(frozen=True)
class Exposed:
    """Stored values uint16 [H, W] (dense = high) and the window that shows them."""

    pixels: np.ndarray
    center: float
    width: float


def expose(length: np.ndarray, rng: np.random.Generator) -> Exposed:
    """length float32 [H, W] mm of water -> picture. Exposure, scatter, contrast and tone differ between studies.

    exp, log and power of numpy differ in their last digit from processor to processor. In double precision that digit
    is far below a stored step, so that equal thickness gives equal stored values everywhere; in single it is not.
    """
    signal = np.exp(-MU_WATER * length.astype(np.float64))
    scatter = rng.uniform(0.010, 0.032)  # scatter-to-field ratio behind a grid; flattens the dense parts
    photons = rng.uniform(3e4, 1.2e5)  # per pixel of the open field; sets quantum noise
    signal += scatter
    noise = rng.standard_normal(length.shape, dtype=np.float32)
    signal += noise * np.sqrt(signal / photons)
    film = -np.log(np.maximum(_blur(signal), 1e-4))
    # automatic ranging as in computed radiography, never twice the same: lungs near dark, spine near bright
    low, high = np.percentile(film[::4, ::4], (rng.uniform(4, 16), rng.uniform(97.5, 99.7)))
    low, high = low - rng.uniform(0.05, 0.40), high + rng.uniform(0.05, 0.45)
    tone = np.clip((film - low) / (high - low), 0, 1) ** rng.uniform(0.75, 1.4)
    pixels = _shuttered(np.rint(tone * FULL).astype(np.uint16), rng)
    return Exposed(pixels, round(FULL * rng.uniform(0.46, 0.54)), round(FULL * rng.uniform(0.86, 1.05)))


def _shuttered(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Collimator edges, black after electronic shuttering, on some sides of some pictures: up to 9 % of the width."""
    if rng.random() < 0.45:
        top, bottom, left, right = (rng.uniform(-0.06, 0.09, 4).clip(0) * len(pixels)).astype(int)
        framed = np.zeros_like(pixels)
        inner = np.s_[top : len(pixels) - bottom, left : len(pixels) - right]
        framed[inner] = pixels[inner]
        return framed
    return pixels


def _blur(image: np.ndarray) -> np.ndarray:
    """A 3 x 3 binomial blur, about the response of an indirect detector at this pixel size."""
    wide = np.pad(image, ((0, 0), (1, 1)), mode="edge")
    across = (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) / 4
    tall = np.pad(across, ((1, 1), (0, 0)), mode="edge")
    return (tall[:-2] + 2 * tall[1:-1] + tall[2:]) / 4
