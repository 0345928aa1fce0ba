"""95 % intervals of AUROC by patient without resampling: of one cell, of means over cells, of differences, over seeds.

They hold their level where a percentile bootstrap does not, with few positives; docs/statistics.md shows how far. A
cell is one finding of one scorer; U patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from radz.metrics.delong import Parts, covariance

FEW = 30
"""patients of a class below which a cell is marked"""
LEAST = 3
"""patients of each class that every cell of a mean needs for percentiles of resamples"""
_LEVEL = 0.975
_PRIOR = 6.0
"""degrees of freedom that the model's variance counts for beside that of the data; chosen by simulation"""

Interval = tuple[float, float]
ANY, UNIT = (-math.inf, math.inf), (0.0, 1.0)
"""where differences lie, and where areas and shares do"""
NONE = (math.nan, math.nan)


def few(cell: Parts) -> str | None:
    """Why a number rests on few patients, or None."""
    for count, kind in ((cell.with_ones, "positive"), (cell.with_zeros, "negative")):
        if count < FEW:
            return f"{count} {'patient' if count == 1 else 'patients'} with a {kind}, fewer than {FEW}"
    return None


def none_reason(cell: Parts) -> str | None:
    """Why a cell has no interval, or None: one patient shows no spread."""
    for count, kind in ((cell.with_ones, "positive"), (cell.with_zeros, "negative")):
        if count < 2:
            return f"one patient with a {kind}; an interval needs two"
    return None


def often_missing(cells: Sequence[Parts]) -> bool:
    """Whether a resample of patients may well lack a class of some cell: with two patients one in seven does.

    A mean over what such a resample has is one of other findings, and its percentiles may leave out the very mean that
    they are made for; with three patients they do not. benchmarks/coverage.py simulates it (`rare`).
    """
    return any(min(cell.with_ones, cell.with_zeros) < LEAST for cell in cells)


def none_at_all(cells: Sequence[Parts]) -> bool:
    """Whether no number over these cells has an interval: there are none, or none of them has one."""
    return all(none_reason(cell) for cell in cells)


def of_mean(cells: Sequence[Parts]) -> Interval:
    """Interval of the mean AUROC of cells over the same patients; NaN where `none_at_all`.

    The distances of the cells' own intervals to their values are put together by the cells' correlation (Zou and
    Donner 2008, doi.org/10.1002/sim.3095), so that skewed intervals give a skewed one.
    """
    if none_at_all(cells):
        return NONE
    own = np.array([_of_cell(cell) for cell in cells])
    if len(cells) == 1:
        return float(own[0, 0]), float(own[0, 1])
    values = np.array([cell.auroc for cell in cells])
    influence = np.stack([cell.influence for cell in cells])
    products = influence @ influence.T
    spread = np.sqrt(np.diag(products))
    scale = np.outer(spread, spread)
    correlation = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    np.fill_diagonal(correlation, 1.0)
    below, above = values - own[:, 0], own[:, 1] - values
    half = [math.sqrt(max(float(side @ correlation @ side), 0.0)) / len(cells) for side in (below, above)]
    return max(0.0, float(values.mean()) - half[0]), min(1.0, float(values.mean()) + half[1])


def of_difference(ours: Sequence[Parts], theirs: Sequence[Parts]) -> Interval:
    """Paired interval of the mean AUROC of `ours` less that of `theirs`, cell by cell, over the same patients.

    Student's t by `half_width`. An area of 0 or 1 shows no spread of its own; to either side the distance to the end of
    its own interval is added then, as if apart from all else. NaN where `none_at_all`, or where the two rank all rows
    alike, which shows no spread either.
    """
    if none_at_all(ours):
        return NONE
    value = float(np.mean([own.auroc - other.auroc for own, other in zip(ours, theirs, strict=True)]))
    half = half_width(mean_influence(ours) - mean_influence(theirs))
    added = np.zeros(2)
    for cells, turned in ((ours, 1), (theirs, -1)):
        for cell in cells:
            if cell.auroc in UNIT:
                added += (np.abs(np.array(_of_cell(cell)) - cell.auroc)[::turned] / len(ours)) ** 2
    below, above = np.sqrt(half**2 + added).tolist()
    return (value - below, value + above) if max(below, above) > 0 else NONE


def mean_influence(cells: Sequence[Parts]) -> NDArray[np.float64]:
    """[U], what each patient adds to the mean AUROC of cells."""
    return np.mean([cell.influence for cell in cells], axis=0)


def half_width(influence: NDArray[np.float64]) -> float:
    """Of a difference of means, from what each patient adds to it [U]: Student's t, wider where few patients count.

    Degrees of freedom: twice (sum of squares)^2 / sum of fourth powers, less one. For a finding with few positives that
    is near their number less one; simulated in benchmarks/coverage.py.
    """
    squares = influence**2
    variance = float(squares.sum())
    if variance <= 1e-18:
        return 0.0
    freedom = 2.0 * variance**2 / float((squares**2).sum()) - 1.0
    return float(stdtrit(max(freedom, 1.0), _LEVEL)) * math.sqrt(variance)


def with_seeds(points: NDArray[np.float64], of_patients: Interval, within: Interval = ANY) -> Interval:
    """Interval of the mean over S seeds [S] that holds both: patients drawn anew, and another training.

    The distance to either end is the root of the sum of the squares of the patients' and of the seeds', which is that
    of Student's t with S - 1 degrees of freedom. One seed tells nothing of another: the patients' alone. `within`: what
    the mean can be, where that has ends, at which the interval is cut.
    """
    if len(points) < 2:
        return of_patients
    mean = float(points.mean())
    seeds = float(stdtrit(len(points) - 1, _LEVEL) * points.std(ddof=1)) / math.sqrt(len(points))
    low, high = (math.hypot(end - mean, seeds) for end in of_patients)
    return float(np.clip(mean - low, *within)), float(np.clip(mean + high, *within))


def holds(seeds: int) -> str:
    """What an interval over so many seeds holds."""
    return "patients and seeds" if seeds > 1 else "patients only"


def _of_cell(cell: Parts) -> Interval:
    """Score interval of one AUROC: the values that the one seen does not contradict.

    The variance at each candidate is that of Hanley and McNeil's model (Newcombe 2006, doi.org/10.1002/sim.2324) for
    as many positives and negatives as there are patients with them, times how far the data's own variance exceeds it.
    With few patients the model counts for more, with one of a class alone; so an AUROC of 1 has an interval too.
    """
    ones, zeros = cell.variances
    own, total = ones + zeros, max(float(covariance([cell]).covariance[0, 0]), 0.0)
    model = _model(cell.auroc, cell.with_ones, cell.with_zeros)
    freedom = 0.0
    if own > 0 and model > 0 and min(cell.with_ones, cell.with_zeros) > 1:
        freedom = own**2 / (ones**2 / (cell.with_ones - 1) + zeros**2 / (cell.with_zeros - 1))
    ratio = (freedom * (total / model if freedom else 1.0) + _PRIOR) / (freedom + _PRIOR)
    reach = stdtrit(freedom + _PRIOR, _LEVEL) ** 2 * ratio
    return tuple(_edge(cell, reach, end) for end in (0.0, 1.0))  # type: ignore[return-value]


def _edge(cell: Parts, reach: float, end: float) -> float:
    """The farthest value towards `end` whose squared distance stays within reach x variance."""
    inside, outside = cell.auroc, end
    for _ in range(60):  # halvings; a double has 53 bits
        middle = (inside + outside) / 2
        within = (cell.auroc - middle) ** 2 <= reach * _model(middle, cell.with_ones, cell.with_zeros)
        inside, outside = (middle, outside) if within else (inside, middle)
    return inside


def _model(area: float, ones: int, zeros: int) -> float:
    """Variance of an AUROC estimated from so many positives and negatives, symmetric about .5."""
    more = (ones + zeros) / 2 - 1
    return area * (1 - area) * (1 + more * (1 - area) / (2 - area) + more * area / (1 + area)) / (ones * zeros)
