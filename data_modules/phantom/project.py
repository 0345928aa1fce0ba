"""Radiographs by exact line integrals: parallel rays along the patient's y axis, one per detector pixel.

Parallel, not cone: at the usual film distance of 1.8 m a chest is magnified by 5 to 15 % from back to front, which the
sampled scale and the AP heart width stand for, while parallel rays keep every chord closed. A solid is convex, so
a ray meets it in one interval of y; a region is a short list of intervals; a part inside a region is their overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from data_modules.phantom.scene import PLANES, Region, Scene, Solids, rotation

MU_WATER = 0.0200  # 1/mm at an effective 60 to 65 keV, a filtered 120 kVp beam (NIST XCOM: 0.0206 at 60 keV)
_SIDES = (16, 24, 36, 56, 80, 112, 160, 224, 320)  # patch sides are rounded up to these, so that equal ones go together
_BAND, _BATCH = 32, 16_000  # rows, pixels: sizes whose working arrays fit a 1 MB cache
FAR = np.float32(1e4)

Interval = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class View:
    """A detector and the patient's position before it: `pixels` square, `spacing` mm, centre at (x, z) = `shift` mm."""

    pixels: int
    spacing: float
    shift: tuple[float, float] = (0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)  # degrees about x, y, z, applied to the patient

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """x [W] of the columns and z [H] of the rows, mm: the patient's left is on the right, the head on top."""
        steps = (np.arange(self.pixels) - (self.pixels - 1) / 2) * self.spacing
        return (steps + self.shift[0]).astype(np.float32), (self.shift[1] - steps).astype(np.float32)


def intervals(solids: Solids, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the rays at x [N or 1, 1, W], z [N or 1, H, 1] enter and leave each solid: y float32 [N, H, W] twice.

    Leave <= enter where a ray misses. Row and column terms are summed last: few operations touch whole pictures.
    """
    c, a = solids.center, solids.shape

    def of(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32)[:, None, None]

    dx, dz = x - of(c[:, 0]), z - of(c[:, 2])
    inv = 1 / np.maximum(
        a[:, 1, 1], 1e-9
    )  # a tube along the ray has no quadratic term: a long interval that its planes cut
    # y - cy = mid +- sqrt(root), the two roots of the quadratic (p - c)' A (p - c) = 1 in y
    xx = (a[:, 0, 1] * inv) ** 2 - a[:, 0, 0] * inv
    zz = (a[:, 1, 2] * inv) ** 2 - a[:, 2, 2] * inv
    xz = 2 * (a[:, 0, 1] * a[:, 1, 2] * inv - a[:, 0, 2]) * inv
    root = (of(xz) * dx) * dz
    root += of(xx) * dx * dx + of(inv)
    root += of(zz) * dz * dz
    np.maximum(root, 0, out=root)  # a miss leaves an interval of no length
    np.sqrt(root, out=root)
    mid = (of(c[:, 1]) - of(a[:, 0, 1] * inv) * dx) - of(a[:, 1, 2] * inv) * dz
    enter, leave = mid - root, np.add(mid, root, out=mid)
    for k in range(PLANES):
        normal, offset = solids.planes[:, k, :3], solids.planes[:, k, 3]
        if not normal.any():
            continue
        ny = np.where(np.abs(normal[:, 1]) < 1e-5, 1e-5, normal[:, 1])
        across, down, behind = of(offset / ny) - of(normal[:, 0] / ny) * x, of(normal[:, 2] / ny) * z, of(ny) > 0
        np.minimum(leave, np.where(behind, across, FAR) - np.where(behind, down, 0), out=leave)
        np.maximum(enter, np.where(behind, -FAR, across) - np.where(behind, 0, down), out=enter)
    return enter, leave


def _sorted(values: np.ndarray) -> np.ndarray:
    """values [K, ...] sorted along the first axis by odd-even transposition: whole pictures swap at SIMD speed."""
    for turn in range(len(values)):
        low, high = values[turn % 2 : -1 : 2], values[turn % 2 + 1 :: 2]
        small = np.minimum(low, high)
        np.maximum(low, high, out=high)
        low[...] = small
    return values


def ordered(enter: np.ndarray, leave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops [K, H, W], each sorted on its own; empty intervals are moved before every ray.

    Between the k-th stop and the (k+1)-th start as many intervals have ended as begun: what lies there is free.
    """
    empty = leave <= enter
    np.copyto(enter, -FAR, where=empty)
    np.copyto(leave, -FAR, where=empty)
    return _sorted(enter), _sorted(leave)


def union_length(enter: np.ndarray, leave: np.ndarray) -> np.ndarray:
    """Length of the union of intervals [K, H, W] along each ray, float32 [H, W]."""
    start, stop = ordered(enter, leave)
    return stop[-1] - start[0] - np.maximum(start[1:] - stop[:-1], 0).sum(axis=0)


def region_gaps(region: Region, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The disjoint intervals of a region along rays x [W], z [H]: float32 [2, G, H, W] of starts and stops."""
    enter, leave = intervals(region.keep, x[None, None], z[None, :, None])
    enter, leave = enter.max(axis=0)[None], leave.min(axis=0)[None]
    start, stop = ordered(*intervals(_near(region.cut, z), x[None, None], z[None, :, None]))
    low = np.concatenate([enter, np.maximum(stop, enter)])
    high = np.concatenate([np.minimum(start, leave), leave])
    empty = high <= low
    np.copyto(low, FAR, where=empty)
    np.copyto(high, FAR, where=empty)
    most = max(
        1, int((~empty).sum(axis=0).max())
    )  # intervals are disjoint, so sorting brings the empty ones to the end
    return np.stack([_sorted(low)[:most], _sorted(high)[:most]])


class Sink(Protocol):
    """What is done with the intervals that `trace` finds; y in mm, leave <= enter where a ray misses."""

    def body(self, rows: slice, enter: np.ndarray, leave: np.ndarray, base: float) -> None:
        """The solids of the body, [K, H, W] on whole rows: their union has density `base`."""

    def region(self, rows: slice, columns: slice, gaps: np.ndarray, change: float) -> None:
        """The disjoint intervals [2, G, H, W] of a region."""

    def parts(self, top: np.ndarray, left: np.ndarray, spans: list[Interval], change: np.ndarray, free: bool) -> None:
        """N parts of change [N], each on a patch from row `top` and column `left` [N]: intervals [N, h, w].

        `free` parts have one interval a ray; those of a region have one in each of its intervals.
        """


def trace(scene: Scene, view: View, sink: Sink) -> None:
    """Hands every interval of every ray to `sink`: body first, then the regions, then the parts.

    Body and regions are computed in bands of rows, each with the solids that reach it, so arrays stay in the cache.
    """
    turn, (x, z) = rotation(*view.turn), view.grid()
    body = scene.body.turned(turn)
    distinct = scene.distinct_regions()
    turned = [Region(region.keep.turned(turn), region.cut.turned(turn), region.change) for region in distinct]
    pieces: list[list] = [[] for _ in distinct]
    for top in range(0, view.pixels, _BAND):
        rows = slice(top, min(top + _BAND, view.pixels))
        sink.body(rows, *intervals(_near(body, z[rows]), x[None, None], z[None, rows, None]), scene.base)
        for region, found in zip(turned, pieces, strict=True):
            first = region.keep.box[0], region.keep.half[0]
            cols = np.flatnonzero(np.abs(x - first[0][0]) <= first[1][0])
            if len(cols) and np.abs(z[rows] - first[0][2]).min() <= first[1][2]:
                span = slice(int(cols[0]), int(cols[-1]) + 1)
                gaps = region_gaps(region, x[span], z[rows])
                sink.region(rows, span, gaps, region.change)
                found.append((rows, span, gaps))
    known = {id(region): _assembled(found, view.pixels) for region, found in zip(distinct, pieces, strict=True)}
    solids, change, place = scene.parts()
    everywhere = [known[id(region)] for region in scene.regions.values()]
    _trace_parts(sink, solids.turned(turn), change.astype(np.float32), place, everywhere, view)


def thickness(scene: Scene, view: View) -> np.ndarray:
    """Water-equivalent path length of every ray, mm, float32 [H, W]: the exact integral of the scene's density."""
    lengths = _Lengths(np.zeros((view.pixels, view.pixels), np.float32))
    trace(scene, view, lengths)
    return lengths.total


@dataclass(frozen=True)
class _Lengths:
    """The sink of radiographs: adds every interval's length times its change to `total` [H, W]."""

    total: np.ndarray

    def body(self, rows: slice, enter: np.ndarray, leave: np.ndarray, base: float) -> None:
        self.total[rows] = base * union_length(enter, leave)

    def region(self, rows: slice, columns: slice, gaps: np.ndarray, change: float) -> None:
        self.total[rows, columns] += change * (gaps[1] - gaps[0]).sum(axis=0)

    def parts(self, top: np.ndarray, left: np.ndarray, spans: list[Interval], change: np.ndarray, free: bool) -> None:
        enter, leave = spans[0]
        length = np.maximum(leave - enter, 0)
        for enter, leave in spans[1:]:
            length += np.maximum(leave - enter, 0)
        length *= change[:, None, None]
        h, w = length.shape[1:]
        for patch, t, s in zip(length, top, left, strict=True):
            self.total[t : t + h, s : s + w] += patch


def _near(solids: Solids, z: np.ndarray) -> Solids:
    """The solids that reach the rows at z; one that does not, if none does, since a ray needs something to miss."""
    rows = np.flatnonzero((np.abs(solids.box[:, 2] - z.mean())) <= solids.half[:, 2] + np.ptp(z) / 2)
    return solids.take(rows if len(rows) else np.array([0]))


def _assembled(found: list, pixels: int) -> np.ndarray:
    """One array [2, G, H, W] of a region's intervals from its bands."""
    whole = np.full((2, max((len(gaps[0]) for _, _, gaps in found), default=1), pixels, pixels), FAR, np.float32)
    for rows, span, gaps in found:
        whole[:, : len(gaps[0]), rows, span] = gaps
    return whole


def _trace_parts(sink: Sink, solids: Solids, change: np.ndarray, place: np.ndarray, gaps: list, view: View) -> None:
    """Hands every part's intervals to `sink`, in batches of equal patch and region (`place`, -1 for free)."""
    n, (x, z) = view.pixels, view.grid()
    left = np.floor((solids.box[:, 0] - solids.half[:, 0] - x[0]) / view.spacing).astype(int)
    right = np.ceil((solids.box[:, 0] + solids.half[:, 0] - x[0]) / view.spacing).astype(int)
    top = np.floor((z[0] - solids.box[:, 2] - solids.half[:, 2]) / view.spacing).astype(int)
    bottom = np.ceil((z[0] - solids.box[:, 2] + solids.half[:, 2]) / view.spacing).astype(int)
    seen = (right >= 0) & (left < n) & (bottom >= 0) & (top < n)
    sides = np.minimum([*_SIDES, n], n)
    wide = sides[np.searchsorted(sides, np.minimum(right - left + 1, n))]
    tall = sides[np.searchsorted(sides, np.minimum(bottom - top + 1, n))]
    left, top = np.clip(left, 0, n - wide), np.clip(top, 0, n - tall)
    keys = np.where(seen, ((place + 1) * 10_000 + tall) * 10_000 + wide, -1)
    order = np.argsort(keys, kind="stable")
    for rows in _batches(order[keys[order] >= 0], keys, wide * tall):
        w, h, where = int(wide[rows[0]]), int(tall[rows[0]]), int(place[rows[0]])
        xs = x[left[rows, None] + np.arange(w)][:, None, :]
        zs = z[top[rows, None] + np.arange(h)][:, :, None]
        enter, leave = intervals(solids.take(rows), xs, zs)
        spans = [(enter, leave)]
        if where >= 0:
            near = np.stack(
                [gaps[where][:, :, t : t + h, s : s + w] for t, s in zip(top[rows], left[rows], strict=True)]
            )
            spans = [(np.maximum(enter, near[:, 0, g]), np.minimum(leave, near[:, 1, g])) for g in range(near.shape[2])]
        sink.parts(top[rows], left[rows], spans, change[rows], where < 0)


def _batches(order: np.ndarray, keys: np.ndarray, area: np.ndarray) -> list[np.ndarray]:
    """Runs of equal key, cut so that a batch has at most _BATCH pixels (or one patch) and stays in the cache."""
    batches = []
    for run in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        step = max(1, _BATCH // int(area[run[0]])) if len(run) else 1
        batches += [run[i : i + step] for i in range(0, len(run), step)]
    return batches
