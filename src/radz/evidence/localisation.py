"""How well heat-maps meet marks: pointing game, Dice and IoU, AUROC of pixels, each beside its chance level.

Pointing game: the share of maps whose highest pixel lies in the mark (Zhang et al., ECCV 2016, arXiv 1608.00507). Dice
and IoU: of the mark and as many of the highest pixels as the finding's marks hold on average, a size that does not
depend on the image. CNR: the contrast of a map between the mark and the rest of the image over its noise (Boecking et
al., arXiv 2204.09817). Two levels of chance: a random pixel of the image, and the maps of the same finding permuted
over its images, which know where a finding usually lies but not this image.

In a volume all of this counts the pixels of all its slices together. Beside it stand two measures of slices alone:
whether the slice of the highest pixel holds the finding, and the AUROC of slices with it against those without, by the
highest pixel of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radz.metrics import bootstrap
from radz.metrics.estimates import entry
from radz.metrics.ranking import auroc

MEASURES = ("pointing", "dice", "iou", "pixel_auroc")
CNR = "cnr"
SLICE_MEASURES = ("slice_hit", "slice_auroc")
"""of volumes beside MEASURES and CNR"""
CHANCES = ("random", "permuted")


class Marked(Protocol):
    """What a `Located` has; it may draw mark and maps when they are asked for, and keep neither."""

    @property
    def row(self) -> int: ...

    @property
    def finding(self) -> str: ...

    @property
    def patient(self) -> str: ...

    @property
    def mask(self) -> NDArray[np.bool_]: ...

    @property
    def maps(self) -> Mapping[str, NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Located:
    """One marked finding of one image, or of the slices of one volume, with the maps made for it."""

    row: int
    finding: str
    patient: str
    mask: NDArray[np.bool_]
    """[H, W], or [S, H, W]"""
    maps: dict[str, NDArray[np.float32]]
    """kind -> of the mask's shape, NaN where the model did not see the image"""


def measure(heat: NDArray[np.floating], mask: NDArray[np.bool_], share: float) -> tuple[float, float, float, float]:
    """MEASURES of one map [.., H, W] against a mask of its shape; a map that is even everywhere points at random.

    Args:
        share: of the pixels seen, how many of the highest count as the map's region.
    """
    seen = np.isfinite(heat)
    values, inside = heat[seen], mask[seen]
    top = values == values.max()
    count = max(1, round(share * len(values)))
    cut = np.partition(values, -count)[-count]
    # Of ties at the cut, each counts in part, so that an even map has no advantage.
    weight = (values > cut).astype(float)
    weight[values == cut] = (count - weight.sum()) / (values == cut).sum()
    both = float(weight[inside].sum())
    total = count + int(mask.sum())
    return float(inside[top].mean()), 2 * both / total, both / (total - both), auroc(inside.astype(float), values)


def contrast_to_noise(heat: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """|mean in - mean out| / sqrt(variance in + variance out) over the pixels seen of a map [.., H, W].

    0 of an even map; NaN without noise, and where all pixels seen lie in the mark, or none. A map that is lowest in the
    mark has the CNR of its negative: the AUROC of pixels tells them apart.
    """
    seen = np.isfinite(heat)
    inside, outside = (heat[seen & part].astype(float) for part in (mask, ~mask))
    if not len(inside) or not len(outside):
        return float("nan")
    contrast, noise = abs(inside.mean() - outside.mean()), np.sqrt(inside.var() + outside.var())
    return 0.0 if contrast == 0 else float(contrast / noise) if noise else float("nan")


def measure_slices(heat: NDArray[np.floating], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """SLICE_MEASURES of a volume's map [S, H, W]; of slices that share the highest pixel each counts in part.

    The second is NaN where all slices hold the finding.
    """
    highest, holds = np.nanmax(heat, axis=(1, 2)), (mask & np.isfinite(heat)).any(axis=(1, 2))
    return float(holds[highest == highest.max()].mean()), auroc(holds.astype(float), highest)


def _measured(heat: NDArray[np.floating], mask: NDArray[np.bool_], share: float) -> dict[str, float]:
    found = dict(zip(MEASURES, measure(heat, mask, share), strict=True)) | {CNR: contrast_to_noise(heat, mask)}
    return found if heat.ndim == 2 else found | dict(zip(SLICE_MEASURES, measure_slices(heat, mask), strict=True))


def table(located: Sequence[Marked], seed: int) -> pd.DataFrame:
    """One line per image, finding and kind of map: MEASURES and CNR, and `random/..` and `permuted/..` of each.

    Volumes have SLICE_MEASURES too; images and volumes are not mixed.
    """
    generator = np.random.default_rng(seed)
    lines = []
    for finding in dict.fromkeys(case.finding for case in located):
        group = [case for case in located if case.finding == finding]
        share = float(np.mean([case.mask.mean() for case in group]))
        other = _derangement(len(group), generator)
        for kind in tuple(group[0].maps):
            for number, case in enumerate(group):
                # A map that is even wherever the model saw the image: its measures are those of a random pixel.
                own, marked = case.maps[kind], case.mask
                even = np.where(np.isfinite(own), 0.0, np.nan)
                maps = {"": (own, marked), "random/": (even, marked)}
                if other is not None:
                    maps["permuted/"] = _at_shape(group[other[number]].maps[kind], marked.shape), marked
                line: dict[str, Any] = {"row": case.row, "patient": case.patient, "finding": finding, "map": kind}
                for level, (heat, mask) in maps.items():
                    line |= {f"{level}{name}": value for name, value in _measured(heat, mask, share).items()}
                lines.append(line)
    return pd.DataFrame(lines)


def summary(lines: pd.DataFrame, replicates: int, seed: int) -> dict[str, Any]:
    """Per kind of map: `macro` and `findings`, of each measure the value, the two chances, and value minus each.

    Means over images, then over findings; a difference is taken image by image, so that both sides cover the same ones.
    Intervals by resampling patients, shared by all.
    """
    lines = lines.copy()
    for chance in CHANCES:
        for name in (*MEASURES, CNR, *SLICE_MEASURES):
            if f"{chance}/{name}" in lines:
                lines[f"{name} minus {chance}"] = lines[name] - lines[f"{chance}/{name}"]
    columns = [str(name) for name in lines if name not in ("row", "patient", "finding", "map")]
    kinds: dict[str, Any] = {}
    for kind, of_kind in lines.groupby("map", sort=False):
        codes = pd.factorize(of_kind["patient"])[0]
        count = int(codes.max()) + 1
        once = np.ones((1, count), dtype=np.int32)
        drawn = np.concatenate(list(bootstrap.draws(count, replicates, seed, count)))
        cells: dict[Any, dict[str, Any]] = {}
        for finding, group in of_kind.groupby("finding", sort=False):
            at = codes[of_kind["finding"].to_numpy() == finding]
            cells[finding] = {
                name: [_mean(group[name].to_numpy(float), weights[:, at]) for weights in (once, drawn)]
                for name in columns
            }
        whole = {
            name: [bootstrap.macro([cell[name][part] for cell in cells.values()]) for part in (0, 1)]
            for name in columns
        }
        images = of_kind["finding"].value_counts()
        kinds[str(kind)] = {
            "macro": _entries(whole),
            "findings": {name: {**_entries(cell), "images": int(images[name])} for name, cell in cells.items()},
        }
    return kinds


def _entries(cell: dict[str, Any]) -> dict[str, Any]:
    return {name: entry(float(point[0]), samples) for name, (point, samples) in cell.items()}


def _mean(values: NDArray[np.float64], weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """Weighted mean [R] over the defined values [n] under weights [R, n]; NaN where none is drawn."""
    defined = np.isfinite(values)
    weight = weights[:, defined].astype(float)
    total = weight.sum(1)
    return np.divide(weight @ values[defined], total, out=np.full(len(weights), np.nan), where=total > 0)


def _derangement(count: int, generator: np.random.Generator) -> NDArray[np.int64] | None:
    """For each of `count` the number of another one, each once; None where there is no other."""
    if count < 2:
        return None
    # One circle through all in random order: nobody is its own partner.
    order = generator.permutation(count)
    partner = np.empty(count, dtype=np.int64)
    partner[order] = np.roll(order, 1)
    return partner


def _at_shape(heat: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A map [.., H, W] of another image in the shape of this one's mark, which loses nothing so; nearest pixel."""
    sides = zip(shape, heat.shape, strict=True)
    return heat[np.ix_(*(((np.arange(new) + 0.5) * side / new).astype(int) for new, side in sides))]
