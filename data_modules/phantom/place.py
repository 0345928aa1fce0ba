"""Puts findings into a scene: opacities restore or exceed water density inside a lung, lucencies take it away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_modules.phantom.body import SIDES, Body
from data_modules.phantom.devices import add_devices
from data_modules.phantom.findings import Finding
from data_modules.phantom.scene import FREE, Scene, Solids, ellipsoids, rotation, tubes

LEVELS = {"lower": (0.10, 0.30), "mid": (0.42, 0.60), "upper": (0.70, 0.86)}  # of the lung height


def collapsed_lung(body: Body, finding: Finding) -> Solids:
    """What a pneumothorax leaves of a lung: an ellipsoid on the hilum, `size` mm off the wall and more off the apex."""
    return _shrunk(body, finding, 0.0)


def _shrunk(body: Body, finding: Finding, by: float) -> Solids:
    sign, k, rim = SIDES[finding.side], body.size, finding.size
    width = 67 * k * body.wide
    back = 6 * k + (0.45 * rim if body.supine else 0)  # a lung sinks in the air about it
    center = np.array([sign * (70 * k * body.wide - 0.55 * rim), back, -68 * k - 0.3 * rim])
    radii = np.array([width - 0.42 * rim, 88 * k * body.deep - 0.15 * rim, 200 * k - 0.9 * rim]) - by
    return ellipsoids(center, radii, rotation(y=-sign * 4.2))


def spot(
    body: Body, side: str, zone: str, rng: np.random.Generator, out: tuple[float, float] = (0.4, 0.75)
) -> np.ndarray:
    """A point in a lung zone, `out` of the way from the mediastinal to the lateral border."""
    z = body.level(side, rng.uniform(*LEVELS[zone]))
    inner, outer = 32 * body.size, body.edge(side, z)
    return np.array(
        [SIDES[side] * (inner + rng.uniform(*out) * (float(outer) - inner)), rng.uniform(-35, 40) * body.size, z]
    )


def cluster(
    center: np.ndarray, spread: float, count: int, radius: tuple[float, float], rng: np.random.Generator
) -> Solids:
    """Overlapping ellipsoids about a centre: together a patchy shadow whose edge fades."""
    places = center + rng.normal(0, 1, (count, 3)) * spread * np.array([1, 1, 0.85])
    return ellipsoids(places, rng.uniform(*radius, (count, 1)) * rng.uniform(0.75, 1.25, (count, 3)))


def place(scene: Scene, body: Body, findings: list[Finding], rng: np.random.Generator) -> None:
    """Adds every finding that is more than a change of the body."""
    for finding in findings:
        if finding.name in _PLACERS:
            scene.owner = finding.name
            _PLACERS[finding.name](scene, body, finding, rng)
    scene.owner = ""


def _effusion(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    k = body.size
    for side in SIDES if finding.side == "both" else (finding.side,):
        fluid = ellipsoids([0, 0, -60 * k], [260 * k, 200 * k, 400 * k])
        share = finding.size if finding.side != "both" else max(0.14, finding.size * rng.uniform(0.6, 1.0))
        top = body.level(side, share)  # where the fluid ends at the lateral wall; its middle lies lower: the meniscus
        curve = rng.uniform(34, 50) * k
        if body.supine:
            _layer(scene, body, fluid, side, share, 0.35 * curve)
            continue
        low = top - curve
        wall, tall = float(body.edge(side, top)), 120 * k
        reach = np.sqrt(1 - (1 - (top - low) / tall) ** 2)
        inner, radii = (
            np.array([SIDES[side] * 30 * k, 0, low + tall]),
            [(wall - 30 * k) / reach, 92 * k * body.deep / reach, tall],
        )
        scene.add(fluid.clipped((0, 0, 1), top), -body.lung, side)
        scene.add(ellipsoids(inner, radii).clipped((0, 0, 1), top), body.lung, side)


def _layer(scene: Scene, body: Body, fluid: Solids, side: str, share: float, curve: float) -> None:
    """Fluid of a supine patient: a crescent along the back, deepest at the base and thin towards the apex."""
    k, slope, tall = body.size, 0.35, 110 * body.size
    foot, middle = body.dome(side), body.level(side, 0.4)
    front = 90 * k * body.deep - (12 * k + 150 * k * share) - curve  # its lateral edge at the level of the dome
    plane = (0.0, -1.0, slope), slope * foot - front
    wide = (float(body.edge(side, middle)) - 30 * k) / np.sqrt(1 - (1 - curve / tall) ** 2)
    center = [SIDES[side] * 30 * k, front + slope * (middle - foot) + curve - tall, middle]
    lung = ellipsoids(center, [wide, tall, 2000 * k], rotation(x=-np.degrees(np.arctan(slope))))
    scene.add(fluid.clipped(*plane), -body.lung, side)
    scene.add(lung.clipped(*plane), body.lung, side)


def _pneumothorax(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    scene.add(_shrunk(body, finding, 0.0), 0.8, finding.side)  # visceral pleura, 1.8 mm with the lung rind beneath it
    scene.add(_shrunk(body, finding, 1.8), -0.8, finding.side)


def _consolidation(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    behind = finding.kind == "retrocardiac"
    center = _behind_heart(body, rng) if behind else spot(body, finding.side, finding.zone, rng, (0.3, 0.7))
    blobs = cluster(center, 0.5 * finding.size, 18, (11, 20), rng)
    scene.add(blobs, 0.36 if behind else 0.26, finding.side + " lung")


def _behind_heart(body: Body, rng: np.random.Generator) -> np.ndarray:
    z = body.level("left", rng.uniform(0.08, 0.2))
    return np.array([rng.uniform(34, 50), rng.uniform(36, 50), z]) * [body.size, body.size, 1]


def _edema(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    k = body.size
    reach, level, dense = rng.uniform(18, 34), rng.uniform(-40, 10), rng.uniform(0.065, 0.11)
    for side in SIDES:
        center = body.hilum(side) + np.array([SIDES[side] * reach * k, 0, level * k])
        scene.add(cluster(center, 26 * k, 16, (18, 32), rng), dense * rng.uniform(0.75, 1.25), side + " lung")
        if "lines" in finding.flags:  # septal lines: 15 mm, level, at the lateral bases
            z = body.level(side, 0.08) + np.arange(7) * 7.0 * k
            x = body.edge(side, z)
            ends = [np.stack([SIDES[side] * (x - d), np.zeros(7), z], axis=-1) for d in (3 * k, 22 * k)]
            scene.add(tubes(np.stack(ends, axis=1), 1.0, 12 * k), 0.55, side + " lung")


def _nodule(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    center, r = spot(body, finding.side, finding.zone, rng, (0.3, 0.8)), finding.size / 2
    ball = ellipsoids(center, r * rng.uniform(0.92, 1.08, 3))
    scene.add(ball, rng.uniform(0.95, 1.3), finding.side + " lung")
    if "cavity" in finding.flags:
        scene.add(ellipsoids(center, 0.6 * r * np.ones(3)), -1.5, finding.side + " lung")


def _mass(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    center, r = spot(body, finding.side, finding.zone, rng, (0.3, 0.65)), finding.size / 2
    lobes = ellipsoids(center + rng.normal(0, 0.22 * r, (4, 3)), 0.82 * r * rng.uniform(0.85, 1.1, (4, 3)))
    scene.add(lobes, 0.32, finding.side + " lung")


def _atelectasis(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    side, k = finding.side, body.size
    low, high = (0.05, 0.2) if finding.zone == "lower" else (0.36, 0.52)
    z = body.level(side, rng.uniform(low, high))
    center = np.array([SIDES[side] * (0.55 * float(body.edge(side, z)) + 12 * k), rng.uniform(-25, 30) * k, z])
    if finding.kind == "retrocardiac":
        center = _behind_heart(body, rng)
        triangle = ellipsoids(center, [24 * k, 30 * k, 44 * k]).clipped(
            (0.82, 0, 0.57), 0.82 * center[0] + 0.57 * center[2]
        )
        scene.add(triangle, 0.66, "left lung")
    elif finding.kind == "band":
        for n in range(2 if rng.random() < 0.4 else 1):
            plate = rotation(y=rng.uniform(-16, 16))
            size = [0.5 * finding.size * rng.uniform(1.1, 1.4), 32 * k, rng.uniform(3.2, 5.2)]
            scene.add(ellipsoids(center + np.array([0, 0, 13 * k * n]), size, plate), 0.62, side + " lung")
    else:  # a wedge with its point at the hilum and its base on the chest wall
        root, wide = body.hilum(side), rng.uniform(12, 18)
        away = (center - root) / np.linalg.norm(center - root)
        solid = ellipsoids(root, [1.7 * finding.size * k, 40 * k, 1.7 * finding.size * k])
        for edge in (-1, 1):  # both planes hold the hilum and lie `wide` degrees off the axis of the wedge
            normal = rotation(y=edge * (90 - wide)) @ np.array([away[0], 0, away[2]])
            solid = solid.clipped(tuple(-normal), -float(normal @ root))
        scene.add(solid, 0.6, side + " lung")


def _emphysema(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    if "bulla" in finding.flags:
        side = str(rng.choice(list(SIDES)))
        center, r = spot(body, side, "upper", rng, (0.4, 0.7)), rng.uniform(16, 26)
        scene.add(ellipsoids(center, r * np.ones(3)), 0.5, side + " lung")
        scene.add(ellipsoids(center, (r - 1.4) * np.ones(3)), -0.6, side + " lung")


def _thickening(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    # a lens on the pleura, of which the part inside the cavity shows: thickest in its middle, smooth inside
    side, k, t = finding.side, body.size, finding.size
    if finding.kind == "apical":
        z = body.apex() + 2 * k
        center, radii = [SIDES[side] * 62 * k * body.wide, 0, z], [58 * k, 90 * k, 2.2 * t]
    else:
        z = body.level(side, rng.uniform(0.32, 0.6))
        center, radii = [SIDES[side] * float(body.edge(side, z)), 0, z], [1.25 * t, 75 * k, rng.uniform(46, 72) * k]
    lean = (
        0.0
        if finding.kind == "apical"
        else SIDES[side] * np.degrees(np.arctan2(body.edge(side, z - 30) - body.edge(side, z + 30), 60))
    )
    scene.add(ellipsoids(center, radii, rotation(y=-float(lean))), -0.95 * body.lung, side)


def _tuberculosis(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    side = finding.side
    center = spot(body, side, "upper", rng, (0.35, 0.6))
    scene.add(cluster(center + np.array([0, 0, -12.0]), 0.62 * finding.size, 16, (7, 12), rng), 0.34, side + " lung")
    r = rng.uniform(13, 18)
    scene.add(ellipsoids(center, r * rng.uniform(0.9, 1.1, 3)), 0.9, side + " lung")
    scene.add(ellipsoids(center, 0.66 * r * np.ones(3)), -1.5, side + " lung")


def _hernia(scene: Scene, body: Body, finding: Finding, rng: np.random.Generator) -> None:
    k, r = body.size, finding.size / 2
    center = np.array([rng.uniform(8, 24) * k, 46 * k, body.dome("left") + 0.75 * r + 4])
    sac = ellipsoids(center, [r, 0.8 * r, 0.9 * r])
    for side in SIDES:
        scene.add(sac, -body.lung, side)
    gas, level = ellipsoids(center, [0.88 * r, 0.7 * r, 0.8 * r]), rng.uniform(-0.1, 0.25) * r
    gas = gas.clipped((0, 1, 0), center[1] - level) if body.supine else gas.clipped((0, 0, -1), -(center[2] + level))
    scene.add(gas, -0.95, FREE)


_PLACERS: dict[str, Callable[[Scene, Body, Finding, np.random.Generator], None]] = {
    "pleural_effusion": _effusion,
    "pneumothorax": _pneumothorax,
    "consolidation": _consolidation,
    "edema": _edema,
    "nodule": _nodule,
    "mass": _mass,
    "atelectasis": _atelectasis,
    "emphysema": _emphysema,
    "pleural_thickening": _thickening,
    "tuberculosis": _tuberculosis,
    "hiatal_hernia": _hernia,
    "support_devices": add_devices,
}
