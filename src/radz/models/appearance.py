"""How far a picture is from those of training: in the brightness of its areas, in its shape, in its grey levels.

Each of the three is a vector whose Mahalanobis distance from the training pictures is taken with a shrunk covariance
(Lee et al. 2018, arXiv 1807.03888; Ledoit and Wolf 2004). The logarithm of a distance is counted in robust standard
deviations of that of validation pictures, and the largest of the three is the distance of the picture: no one of them
finds all that is foreign (docs/inference.md). Nothing of a single picture is kept.

Shapes: N pictures of S x S pixels, d numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pictures = NDArray[np.uint8]
Numbers = NDArray[np.float64]
SIDE = 16
PERCENT = 99
"""of the validation studies that are nearer than the limit, where there are enough of them"""
FEWEST = 10
"""studies of training and of validation, without which nothing is measured"""
NORMAL = 1.4826
"""standard deviation of a normal distribution, in medians of the absolute deviation"""


def areas(pictures: Pictures) -> Numbers:
    """[N, 256], mean grey levels of 16 x 16 areas."""
    small = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BOX) for one in pictures]
    return np.stack([np.asarray(one, np.float64).ravel() for one in small])


def shape(pictures: Pictures) -> Numbers:
    """[N, 256], `areas` less their mean, in units of their spread: the same whatever the exposure."""
    rest = areas(pictures)
    rest -= rest.mean(1, keepdims=True)
    return rest / np.maximum(rest.std(1, keepdims=True), 1.0)


def greys(pictures: Pictures) -> Numbers:
    """[N, 14], in grey levels: ten quantiles, the shares that are black and white, and how much neighbours differ."""
    flat = pictures.reshape(len(pictures), -1)
    quantiles = np.quantile(flat, np.linspace(0.05, 0.95, 10), axis=1).T
    ends = np.stack([(flat <= 2).mean(1), (flat >= 253).mean(1)], 1)
    steps = [np.abs(np.diff(pictures.astype(np.int16), axis=axis)).mean((1, 2)) for axis in (1, 2)]
    return np.concatenate([quantiles, 255 * ends, 50 * np.log1p(np.stack(steps, 1))], 1)


VECTORS: Mapping[str, Callable[[Pictures], Numbers]] = {"brightness": areas, "shape": shape, "grey levels": greys}


def vectors(pictures: Pictures) -> dict[str, Numbers]:
    """All of VECTORS, of pictures uint8 [N, S, S]."""
    return {name: vector(pictures) for name, vector in VECTORS.items()}


@dataclass(frozen=True)
class Part:
    """Distances of one of VECTORS."""

    mean: NDArray[np.float32]
    """[d] of training"""
    whitening: NDArray[np.float32]
    """[d, d]: what of a difference from the mean has the Mahalanobis distance as its length"""
    middle: float
    """median of the logarithm of the distance, on validation"""
    spread: float
    """robust standard deviation of it"""

    def distances(self, given: Numbers) -> Numbers:
        """[N] of vectors [N, d]: the logarithms, in robust standard deviations from the middle."""
        return (_logarithm(given, self.mean, self.whitening) - self.middle) / self.spread


@dataclass(frozen=True)
class Appearance:
    """What pictures of one modality look like, and how far those of validation are from it."""

    parts: Mapping[str, Part]
    limit: float
    """a study farther than this looks like none of training"""
    studies: int
    """of validation"""

    @property
    def beyond(self) -> str:
        """What is nearer than the limit, in words: of a hundred studies and fewer the limit is the farthest."""
        share = f"{PERCENT} % of" if self.studies > 100 else "all"
        return f"{share} {self.studies} validation studies"

    def farthest(self, pictures: Pictures) -> tuple[float, str]:
        """The largest distance of the pictures of a study, and of which of VECTORS it is."""
        found = {name: float(part.distances(VECTORS[name](pictures)).max()) for name, part in self.parts.items()}
        name = max(found, key=found.__getitem__)
        return found[name], name

    def plain(self) -> dict[str, Any]:
        """For JSON, without the arrays."""
        parts = {name: {"middle": part.middle, "spread": part.spread} for name, part in self.parts.items()}
        return {"limit": self.limit, "studies": self.studies, "parts": parts}

    @staticmethod
    def fit(
        training: Mapping[str, Numbers], validation: Mapping[str, Numbers], study: NDArray[np.int64]
    ) -> Appearance:  # fmt: skip
        """Of the `vectors` of training and of validation pictures; `study`: number of the study of each of these."""
        parts = {name: _part(training[name], validation[name]) for name in VECTORS}
        each = np.max([part.distances(validation[name]) for name, part in parts.items()], axis=0)
        numbers, place = np.unique(study, return_inverse=True)
        farthest = np.full(len(numbers), -np.inf)
        np.maximum.at(farthest, place, each)
        return Appearance(parts, float(np.quantile(farthest, PERCENT / 100, method="higher")), len(numbers))


def _part(training: Numbers, validation: Numbers) -> Part:
    from sklearn.covariance import ledoit_wolf  # slow to import, and only the end of training needs it

    mean = training.mean(0)
    values, directions = np.linalg.eigh(ledoit_wolf(training)[0])
    whitening = directions / np.sqrt(np.maximum(values, 1e-9))
    kept = mean.astype(np.float32), whitening.astype(np.float32)
    logarithms = _logarithm(validation, *kept)
    middle = float(np.median(logarithms))
    spread = NORMAL * float(np.median(np.abs(logarithms - middle)))
    return Part(*kept, middle, max(spread, 1e-6))


def _logarithm(given: Numbers, mean: NDArray[np.float32], whitening: NDArray[np.float32]) -> Numbers:
    length: Numbers = np.linalg.norm((given - mean) @ whitening, axis=1)
    return np.log(np.maximum(length, 1e-9))
