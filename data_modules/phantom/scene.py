"""The geometry of a phantom: convex solids, the regions they lie in, and the density changes they carry.

World coordinates are millimetres in the patient: x to the patient's left, y to the back, z to the head.
Density is relative to water (water 1, air 0), so HU = 1000 * (density - 1).

Composition is additive: a scene's density at a point is its base inside the body (a union of solids), plus the change
of every region that holds the point, plus that of every part whose solid holds the point, the part's region permitting.
A line integral is then a plain sum over parts, with no order of painting that picture and volume could read apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

PLANES = 2  # clipping planes a solid may carry: a tube segment needs both, an ellipsoid rarely one
FREE = ""  # the name of "no region": the part counts wherever it lies


@dataclass(frozen=True)
class Solids:
    """N convex solids {p : (p - center)' shape (p - center) <= 1 and planes[:, :3] . p <= planes[:, 3]}.

    center [N, 3] mm; shape [N, 3, 3] 1/mm^2, rank 3 for an ellipsoid and 2 for a tube; planes [N, PLANES, 4];
    half [N, 3] mm, half extents of a box about `box` [N, 3] that holds the solid.
    """

    center: np.ndarray
    shape: np.ndarray
    planes: np.ndarray
    box: np.ndarray
    half: np.ndarray

    def __len__(self) -> int:
        return len(self.center)

    def take(self, rows: np.ndarray) -> Solids:
        """The solids at `rows`, in that order."""
        return Solids(self.center[rows], self.shape[rows], self.planes[rows], self.box[rows], self.half[rows])

    def clipped(self, normal: tuple[float, float, float], offset: float) -> Solids:
        """The same solids where normal . p <= offset (mm). At most PLANES cuts; the box stays the uncut one."""
        used = int(np.any(self.planes[:, :, :3] != 0, axis=(0, 2)).sum())
        assert used < PLANES, "no clipping plane left"
        planes = self.planes.copy()
        planes[:, used] = [*normal, offset]
        return Solids(self.center, self.shape, planes, self.box, self.half)

    def turned(self, turn: np.ndarray) -> Solids:
        """The solids after the rotation p -> turn @ p about the origin."""
        planes = np.concatenate([self.planes[..., :3] @ turn.T, self.planes[..., 3:]], axis=-1)
        shape = turn @ self.shape @ turn.T
        return Solids(self.center @ turn.T, shape, planes, self.box @ turn.T, self.half @ np.abs(turn).T)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """bool [N, M]: which of the points [M, 3] each solid holds."""
        away = points[None] - self.center[:, None]
        held = np.einsum("nmi,nij,nmj->nm", away, self.shape, away) <= 1
        for k in range(PLANES):
            held &= self.planes[:, k, :3] @ points.T <= self.planes[:, k, 3, None]
        return held


def join(several: list[Solids]) -> Solids:
    """All solids of the list as one set, in order."""
    names = ("center", "shape", "planes", "box", "half")
    return Solids(*(np.concatenate([getattr(s, name) for s in several]) for name in names))


def rotation(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """[3, 3] rotation about the x, then y, then z axis, in degrees."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians([x, y, z])), np.sin(np.radians([x, y, z]))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def ellipsoids(center: ArrayLike, radii: ArrayLike, turn: np.ndarray | None = None) -> Solids:
    """Ellipsoids with center [N, 3] and radii [N, 3] (mm), turned by `turn` [3, 3] or [N, 3, 3] about their centres."""
    middle, axis = np.broadcast_arrays(
        np.atleast_2d(np.asarray(center, float)), np.atleast_2d(np.asarray(radii, float))
    )
    axes = np.broadcast_to(np.eye(3) if turn is None else turn, (len(middle), 3, 3))
    scaled = axes / axis[:, None, :]
    half = np.sqrt(((axes * axis[:, None, :]) ** 2).sum(axis=-1))
    return Solids(middle, scaled @ np.swapaxes(scaled, 1, 2), _no_planes(len(middle)), middle, half)


def tubes(paths: np.ndarray, height: ArrayLike, thick: ArrayLike, up: tuple[float, float, float] = (0, 0, 1)) -> Solids:
    """Elliptic tubes along polylines, one solid per segment, mitred at the joints so that neighbours never overlap.

    paths [..., S+1, 3] mm; height and thick are half axes (mm) that broadcast to [..., S]: height along `up` as far
    as the path allows, thick across it. `up` must not be parallel to any segment.
    """
    start, end = paths[..., :-1, :], paths[..., 1:, :]
    along = _unit(end - start)
    across = _unit(_cross(along, np.asarray(up, float)))
    raised = _cross(across, along)
    joint = _unit(along[..., :-1, :] + along[..., 1:, :])
    low = np.concatenate([along[..., :1, :], joint], axis=-2)
    high = np.concatenate([joint, along[..., -1:, :]], axis=-2)
    lead = along.shape[:-1]
    tall, wide = np.broadcast_to(height, lead)[..., None], np.broadcast_to(thick, lead)[..., None]
    scaled = np.stack([raised / tall, across / wide], axis=-1)
    planes = np.stack(
        [
            np.concatenate([-low, -(low * start).sum(-1, keepdims=True)], axis=-1),
            np.concatenate([high, (high * end).sum(-1, keepdims=True)], axis=-1),
        ],
        axis=-2,
    )
    middle = (start + end) / 2
    half = np.abs(end - start) / 2 + 1.15 * np.maximum(tall, wide)  # 1.15: a mitre reaches past the joint
    return Solids(
        middle.reshape(-1, 3),
        (scaled @ np.swapaxes(scaled, -1, -2)).reshape(-1, 3, 3),
        planes.reshape(-1, PLANES, 4),
        middle.reshape(-1, 3),
        half.reshape(-1, 3),
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors * vectors).sum(-1, keepdims=True))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cross product on the last axis; np.cross spends more on set-up than on short arrays."""
    (ax, ay, az), (bx, by, bz) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def _no_planes(count: int) -> np.ndarray:
    planes = np.zeros((count, PLANES, 4))
    planes[..., 3] = 1.0  # 0 . p <= 1 always holds
    return planes


@dataclass
class Region:
    """Where all of `keep` overlap and none of `cut` reaches, with one density change for the whole of it."""

    keep: Solids
    cut: Solids
    change: float = 0.0

    def inside(self, points: np.ndarray) -> np.ndarray:
        """bool [M]: which of the points [M, 3] lie in the region."""
        return np.all(self.keep.inside(points), axis=0) & ~np.any(self.cut.inside(points), axis=0)


@dataclass
class Scene:
    """A body (a union of solids), named regions, and parts: solids with a density change, a region and an owner."""

    body: Solids
    regions: dict[str, Region] = field(default_factory=dict)
    base: float = 1.0  # density of the body
    owner: str = ""  # finding that parts added now belong to; "" is the healthy body
    _parts: list[tuple[Solids, np.ndarray, str, str]] = field(default_factory=list)

    def distinct_regions(self) -> list[Region]:
        """The regions, each once: two names may stand for one region, whose change then counts once."""
        return list({id(region): region for region in self.regions.values()}.values())

    def add(self, solids: Solids, change: ArrayLike, region: str = FREE) -> None:
        """Adds solids whose density change (scalar or [N]) counts inside `region` only; FREE counts everywhere."""
        assert region == FREE or region in self.regions, region
        self._parts.append((solids, np.broadcast_to(np.asarray(change, float), (len(solids),)), region, self.owner))

    def without(self, owner: str) -> Scene:
        """The same scene without the parts of one finding."""
        return replace(self, _parts=[part for part in self._parts if part[3] != owner])

    def parts(self) -> tuple[Solids, np.ndarray, np.ndarray]:
        """All parts as one set: solids, changes [N], and region numbers [N] (-1 free, else position in `regions`)."""
        names = list(self.regions)
        places = [np.full(len(s), -1 if r == FREE else names.index(r)) for s, _, r, _ in self._parts]
        return (
            join([s for s, *_ in self._parts]),
            np.concatenate([c for _, c, *_ in self._parts]),
            np.concatenate(places),
        )

    def density(self, points: np.ndarray) -> np.ndarray:
        """float32 [M]: density relative to water at the points [M, 3]; the volume that the projections integrate."""
        value = self.base * np.any(self.body.inside(points), axis=0)
        held = {name: region.inside(points) for name, region in self.regions.items()}
        for region in self.distinct_regions():
            value += region.change * region.inside(points)
        for solids, change, name, _ in self._parts:
            each = solids.inside(points)
            value += change @ (each if name == FREE else each & held[name])
        return np.asarray(value, np.float32)
