"""Tubes, lines and pacemakers: metal and barium-marked plastic, so dense that 2 mm still shows."""

from __future__ import annotations

import numpy as np

from data_modules.phantom.body import SIDES, Body
from data_modules.phantom.findings import Finding
from data_modules.phantom.project import intervals
from data_modules.phantom.scene import Scene, ellipsoids, rotation, tubes

UP = (0.05, 1.0, 0.03)  # no device runs along this direction


def curve(points: list, steps: int = 14) -> np.ndarray:
    """A smooth path [steps + 1, 3] through control points (mm): Catmull-Rom."""
    p = np.array([points[0], *points, points[-1]], float)
    t = np.linspace(0, len(points) - 1 - 1e-6, steps + 1)
    i, u = t.astype(int), (t % 1)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3)


def add_devices(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    """A pacemaker with its lead, a central venous line, an endotracheal tube, or line and tube together."""
    if finding.kind == "pacemaker":
        _pacemaker(scene, body, SIDES[finding.side], rng)
    if "line" in finding.kind:
        _line(scene, body, SIDES[finding.side], rng)
    if "tube" in finding.kind:
        _tube(scene, body, rng)


def _pacemaker(scene: Scene, body: Body, sign: int, rng: np.random.Generator) -> None:
    k, half = body.size, body.ratio * body.half_width
    box = np.array([sign * rng.uniform(78, 100) * k, -92 * k * body.deep - 0.3 * body.fat, rng.uniform(58, 84) * k])
    if body.supine:  # a radiograph does not tell how deep it lies; a CT shows it under the skin
        skin = scene.body.take(np.array([0]))
        enter, _ = intervals(skin, box[None, None, :1], box[None, None, 2:])
        box[1] = max(box[1], float(enter[0, 0, 0]) + 10)
    scene.add(ellipsoids(box, [23, 5, 19], rotation(y=rng.uniform(-25, 25))), 7.0)
    apex = np.array([0.62 * half, -50 * k, body.heart().center[0, 2] - 0.45 * half])
    points = [
        box + np.array([0, 0, 17]),
        [sign * 62 * k, -50 * k, 108 * k],
        [sign * 24 * k, -30 * k, 92 * k],
        [-19 * k, -12 * k, 56 * k],
        [-22 * k, -15 * k, 0],
        [0, -30 * k, apex[2] + 14 * k],
        apex,
    ]
    path = curve(points, 18)
    scene.add(tubes(path, 1.5, 1.5, up=UP), 9.0)


def _line(scene: Scene, body: Body, sign: int, rng: np.random.Generator) -> None:
    k = body.size
    tip = [-19 * k, -8 * k, rng.uniform(14, 40) * k]
    points = [
        [sign * 40 * k, -15 * k, 178 * k],
        [sign * 34 * k, -20 * k, 125 * k],
        [sign * 16 * k, -20 * k, 92 * k],
        [-19 * k, -12 * k, 62 * k],
        tip,
    ]
    scene.add(tubes(curve(points), 1.6, 1.6, up=UP), 9.0)


def _tube(scene: Scene, body: Body, rng: np.random.Generator) -> None:
    k = body.size
    tip = (42 + rng.uniform(28, 55)) * k  # 3 to 5.5 cm above the carina
    path = np.array([[0, 0, 195 * k], [1 * k, 4 * k, 0.5 * (195 * k + tip)], [2 * k, 9 * k, tip]])
    scene.add(tubes(path, 5.5, 5.5, up=UP), 2.6)
    scene.add(tubes(path, 4.2, 4.2, up=UP), -2.6)
    scene.add(tubes(path + np.array([4.6, 0, 0]), 1.6, 1.6, up=UP), 10.0)  # the marker stripe in its wall
