"""CT volumes: how much of every voxel each interval of `project.trace` fills, so that summed voxels are radiographs.

A voxel holds the mean density of its RAYS x RAYS rays along the patient's y axis, exact along the ray. What is thinner
than a voxel is averaged with its surroundings as in a scanner (partial volume), and nothing aliases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_modules.phantom.body import Body
from data_modules.phantom.project import FAR, Interval, View, ordered, trace
from data_modules.phantom.scene import Scene

RAYS = 2  # per voxel along x and along z
NOISE_HU = 15.0  # standard deviation in water, as in a standard dose chest CT at 3 to 5 mm (AAPM TG-233, 2019)
AIR, DENSEST = -1000.0, 3000.0  # HU, clipped before the noise
FULLEST = 0.02  # of what lies in a lung, against the body: 60 HU where the body has 40
STORED = (-1024, 3071)  # HU, the range of 12 bits


@dataclass(frozen=True)
class Scan:
    """A cube of `voxels`^3 and the patient in it: side `field` mm, centre (x, y, z) mm in the turned patient's axes."""

    voxels: int
    field: float
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)  # degrees about x, y, z, applied to the patient

    @property
    def spacing(self) -> float:
        """Side of a voxel, mm."""
        return self.field / self.voxels

    def view(self, rays: int = RAYS) -> View:
        """The rays of the volume, `rays` by `rays` in every voxel's face, as those of a radiograph."""
        return View(self.voxels * rays, self.spacing / rays, (self.center[0], self.center[2]), self.turn)

    def affine(self) -> np.ndarray:
        """[4, 4] from voxel index to NIfTI millimetres: towards the patient's right, front and head (RAS+)."""
        corner = -(self.voxels - 1) / 2 * self.spacing
        x, y, z = self.center
        found = np.diag([self.spacing, self.spacing, self.spacing, 1.0])
        found[:3, 3] = corner - x, corner - y, corner + z
        return found


def sample_scan(body: Body, voxels: int, rng: np.random.Generator) -> Scan:
    """A field from skin to skin, 360 to 400 mm in an average adult, that holds both lungs; the patient lies loosely."""
    k = body.size
    skin = 2 * (1.02 * body.half_width + 18 * k + body.fat)
    depth = 2 * (104 * k * body.deep + 0.6 * body.fat)
    field = float(max(rng.uniform(1.0, 1.08) * skin, 1.02 * depth, 345 * k))
    center = (rng.uniform(-8, 8), 4 * k + rng.uniform(-4, 4), -34 * k + rng.uniform(-8, 8))
    turn = (rng.normal(0, 1.5), rng.normal(0, 1.2), rng.normal(0, 2.0))
    return Scan(voxels, field, center, (turn[0], turn[1], turn[2]))


def density(scene: Scene, scan: Scan, rays: int = RAYS) -> np.ndarray:
    """Mean density of every voxel relative to water, float32 [X, Y, Z], indices growing to right, front and head.

    Summed over Y and times the spacing it is `thickness` of `scan.view(rays)`, averaged over the rays of a voxel, as
    far as the scene lies within the field.
    """
    held, filled = _layers(scene, scan, rays)
    return _nifti_axes(held + filled)


def volume(scene: Scene, scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """The CT in Hounsfield units with scanner noise from `rng`, int16 [X, Y, Z], axes as `Scan.affine` tells.

    Opacities of a lung, which add up in the scene, fill it to soft tissue and no further: overlapping vessels or the
    many blobs of a consolidation are no bone.
    """
    hounsfield = _hounsfield(scene, scan)
    noise = rng.standard_normal(hounsfield.shape, dtype=np.float32)
    noise *= NOISE_HU
    hounsfield += noise
    np.clip(np.rint(hounsfield, out=hounsfield), *STORED, out=hounsfield)
    return _nifti_axes(hounsfield.astype(np.int16))


def noiseless(scene: Scene, scan: Scan) -> np.ndarray:
    """`volume` without noise and rounding: float32 [X, Y, Z] in Hounsfield units."""
    return _nifti_axes(_hounsfield(scene, scan))


def _hounsfield(scene: Scene, scan: Scan) -> np.ndarray:
    """float32 [Z, X, Y], as `_layers` has it."""
    held, filled = _layers(scene, scan, RAYS)
    hounsfield = np.minimum(filled, FULLEST)
    hounsfield += held
    hounsfield -= 1
    hounsfield *= 1000
    return np.clip(hounsfield, AIR, DENSEST, out=hounsfield)


def _layers(scene: Scene, scan: Scan, rays: int) -> tuple[np.ndarray, np.ndarray]:
    """The density in two parts that add up: body and free parts, and regions with what lies in them.

    Both [Z, X, Y], from the head, to the left and to the back.
    """
    n = scan.voxels
    steps = np.zeros((2, n * n * (n + 2)), np.float32)
    trace(scene, scan.view(rays), _Deposits(steps, n, rays, scan.center[1] - scan.field / 2, scan.spacing))
    layers = steps.reshape(2, n, n, n + 2)
    np.cumsum(layers, axis=-1, out=layers)
    return layers[0, ..., :n], layers[1, ..., :n]


def _nifti_axes(traced: np.ndarray) -> np.ndarray:
    """[X, Y, Z], to the right, the front and the head, from [Z, X, Y] as traced; the same memory."""
    return traced.transpose(1, 2, 0)[::-1, ::-1, ::-1]


@dataclass(frozen=True)
class _Deposits:
    """The sink of volumes: `steps` [2, Z * X * (Y + 2)] holds the changes of density from voxel to voxel along y.

    An interval raises the density where it begins and lowers it where it ends. A step inside a voxel is split over
    it and the next, so that the sum along y gives every voxel the share of it that the interval fills.
    """

    steps: np.ndarray
    voxels: int
    rays: int
    start: float  # y of the first voxel's front face, mm
    spacing: float

    def body(self, rows: slice, enter: np.ndarray, leave: np.ndarray, base: float) -> None:
        first = np.where(leave > enter, enter, FAR).min(axis=0)
        start, stop = ordered(enter, leave)
        where = self._columns(np.arange(rows.start, rows.stop)[:, None], np.arange(self.voxels * self.rays))
        self._deposit(where, first, stop[-1], base)
        for k in range(len(start) - 1):  # less what is free between one solid and the next
            self._deposit(where, stop[k], np.where(stop[k] > -FAR, start[k + 1], -FAR), -base)

    def region(self, rows: slice, columns: slice, gaps: np.ndarray, change: float) -> None:
        where = self._columns(np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop))
        for start, stop in zip(*gaps, strict=True):
            self._deposit(where, start, stop, change, 1)

    def parts(self, top: np.ndarray, left: np.ndarray, spans: list[Interval], change: np.ndarray, free: bool) -> None:
        h, w = spans[0][0].shape[1:]
        where = self._columns(top[:, None, None] + np.arange(h)[:, None], left[:, None, None] + np.arange(w))
        for start, stop in spans:
            self._deposit(where, start, stop, change[:, None, None], int(not free))

    def _columns(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The place in `steps` of the first voxel that the rays at `row` and `column` meet."""
        return ((row // self.rays) * self.voxels + column // self.rays) * (self.voxels + 2)

    def _deposit(
        self, where: np.ndarray, start: np.ndarray, stop: np.ndarray, change: np.ndarray | float, layer: int = 0
    ) -> None:
        met = stop > start
        share = np.broadcast_to(np.float32(change) / np.float32(self.rays**2), met.shape)[met]
        at = where[met]
        for y, step in ((start, share), (stop, -share)):
            place = np.clip((y[met] - np.float32(self.start)) / np.float32(self.spacing), 0, self.voxels)
            voxel = place.astype(np.intp)
            later = step * (place - voxel).astype(np.float32)
            voxel += at
            np.add.at(self.steps[layer], voxel, step - later)
            voxel += 1
            np.add.at(self.steps[layer], voxel, later)
