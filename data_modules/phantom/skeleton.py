"""Bones: spine, twelve rib pairs, clavicles, scapulae, sternum, humeral heads. Densities are changes against water.

Cortical shells are tubes within tubes: the outer adds, the inner takes most of it back, so edges come out bright.
Trabecular bone 1.1 to 1.3, cortical 1.6 to 1.9 g/cm3 (ICRU 44); thin cortices are averaged down here.
"""

from __future__ import annotations

import numpy as np

from data_modules.phantom.body import SIDES, Body
from data_modules.phantom.project import intervals
from data_modules.phantom.scene import Scene, ellipsoids, rotation, tubes

RIB_STEPS = 11
VERTEBRAE = 17  # C6 to L3 reach over the whole picture


def vertebra_level(body: Body, number: np.ndarray) -> np.ndarray:
    """Level z of the middle of thoracic vertebra `number` (1 to 12; 0 and below cervical, 13 and above lumbar)."""
    return body.size * (136 - 22.0 * (number - 1) - 0.32 * (number - 1) ** 2)


def add_skeleton(scene: Scene, body: Body, rng: np.random.Generator) -> None:
    """All bones of the picture, mirrored left and right with small differences."""
    _spine(scene, body)
    _ribs(scene, body, rng)
    for side in SIDES:
        _shoulder(scene, body, side, rng)
    k = body.size
    scene.add(ellipsoids([0, -86 * k * body.deep, 70 * k], [20 * k, 6 * k, 26 * k]), 0.35 * body.rib_density)


def _bow(body: Body, z: np.ndarray) -> np.ndarray:
    """Lateral shift of the spine at level z: a shallow curve."""
    return np.tan(np.radians(body.kyphosis)) * 60 * np.cos(z / (120 * body.size)) * 0.6


def _spine(scene: Scene, body: Body) -> None:
    k, dense = body.size, body.rib_density
    number = np.arange(-1, VERTEBRAE - 2)
    z = vertebra_level(body, number)
    x, tall, wide = _bow(body, z), (8.6 + 0.16 * number) * k, (14 + 0.55 * number) * k

    def span(dx: np.ndarray | float, y: tuple[float, float], dz: tuple, ex: np.ndarray | float = 0.0) -> np.ndarray:
        ends = [
            np.stack([x + dx + e * ex, np.full_like(z, yy * k), z + d], axis=-1)
            for e, yy, d in zip((0, 1), y, dz, strict=True)
        ]
        return np.stack(ends, axis=1)

    scene.add(tubes(span(0 * x, (62, 62), (-tall, tall)), 15 * k, wide[:, None], up=(0, 1, 0)), 0.2 * dense)
    for end in (-tall, tall):  # end plates
        scene.add(
            tubes(span(0 * x, (62, 62), (end - 0.9, end + 0.9)), 15 * k, wide[:, None], up=(0, 1, 0)), 0.45 * dense
        )
    for sign in SIDES.values():
        scene.add(
            tubes(span(sign * 0.72 * wide, (76, 90), (3 * k, 2 * k)), 5.4 * k, 3.6 * k), 0.5 * dense
        )  # pedicles, end on
        scene.add(tubes(span(sign * 13 * k, (84, 90), (2 * k, 6 * k), sign * 18 * k), 4.2 * k, 3.6 * k), 0.4 * dense)
    spikes = np.stack([x, np.full_like(z, 100 * k), z - 9 * k], axis=-1)
    scene.add(ellipsoids(spikes, [3.2 * k, 10 * k, 9 * k]), 0.55 * dense)


def rib_paths(body: Body, side: str, steps: int = RIB_STEPS) -> np.ndarray:
    """Centre lines of the twelve ribs of a side, [12, steps + 1, 3] mm, from the head to the costochondral end.

    The back part runs nearly level, the front part falls steeply towards the midline and ends short of the sternum.
    """
    k, number = body.size, np.arange(1.0, 13.0)[:, None]
    sweep = 146 - 2.5 * np.abs(number - 5)
    sweep[[0, 1, 10, 11], 0] = 128, 138, 78, 58
    phi = np.radians(9 + (sweep - 9) * np.linspace(0, 1, steps + 1))
    drop = np.interp(number, [1, 3, 7, 10, 12], [22, 46, 92, 84, 60]) * k
    level = vertebra_level(body, number) + 6 * k
    z = level + 6 * k * np.sin(np.minimum(3 * phi, np.pi)) - drop * (0.5 - 0.5 * np.cos(phi * 0.96)) ** 0.9
    edge = np.maximum(body.edge(side, z - 4 * k), 52 * k) + 3.5 * k
    edge[:2] = np.minimum(edge[:2], np.array([[66.0], [92.0]]) * k * body.wide)
    depth = np.interp(z, [-160 * k, -40 * k, 60 * k, 130 * k], [84, 92, 82, 52]) * k * body.deep
    x = SIDES[side] * (16 * k * np.cos(phi / 2) ** 4 + edge * np.sin(phi) ** 0.85)
    y = depth * np.cos(phi) * np.where(phi < np.pi / 2, 0.97, 1.0) + 4 * k
    if body.supine:  # along y a radiograph tells nothing; a CT shows that ribs lie outside the lungs
        front, back = intervals(body.lungs(side), x[None], z[None])
        front, back = front.max(axis=0) - 5 * k, back.min(axis=0) + 5 * k
        y = np.where(back - front <= 10 * k, y, np.where(phi < np.pi / 2, np.maximum(y, back), np.minimum(y, front)))
    return np.stack([x, y, z], axis=-1)


def _ribs(scene: Scene, body: Body, rng: np.random.Generator) -> None:
    k = body.size
    paths = np.concatenate([rib_paths(body, side) for side in SIDES])
    tall = np.tile(np.interp(np.arange(1, 13), [1, 2, 6, 10, 12], [6.6, 5.6, 7.0, 6.4, 4.6]), 2)[:, None] * k
    tall = tall * rng.uniform(0.92, 1.08, (24, 1)) * np.linspace(0.88, 1.12, RIB_STEPS)
    thick = 3.6 * k
    fade = np.tile(np.linspace(1.0, 0.72, RIB_STEPS), 24)  # the flat front ends hold less bone
    fade = fade * np.repeat(rng.uniform(0.9, 1.1, 24), RIB_STEPS)
    scene.add(tubes(paths, tall, thick), 1.9 * body.rib_density * fade)
    scene.add(tubes(paths, 0.72 * tall, 0.6 * thick), -1.25 * body.rib_density * fade)


def _shoulder(scene: Scene, body: Body, side: str, rng: np.random.Generator) -> None:
    k, sign = body.size, SIDES[side]
    rise = rng.uniform(-5, 5) * k + (8 * k if body.view == "AP" else 0)
    along = np.linspace(0, 1, 9)
    collar = np.stack(
        [
            sign * (17 + 122 * along) * k * body.wide,
            (-62 + 52 * along**1.3) * k * body.deep,
            (100 + 20 * along + 7 * np.sin(2 * np.pi * along)) * k + rise * along,
        ],
        axis=-1,
    )
    swell = np.interp(along[:-1], [0, 0.2, 0.6, 1], [8.6, 6.2, 5.4, 7]) * k
    dense = body.rib_density
    scene.add(tubes(collar, swell, swell), 1.5 * dense)
    scene.add(tubes(collar, 0.7 * swell, 0.7 * swell), -0.95 * dense)
    # scapulae are rolled off the lungs on a PA film and lie over them in bed
    out = (146 if body.view == "PA" else 128) * k * body.wide + rng.uniform(-5, 8)
    plate = rotation(y=sign * rng.uniform(-16, -8), z=-sign * 32)
    scene.add(ellipsoids([sign * out, 84 * k, 44 * k], [40 * k, 3.4 * k, 72 * k], plate), 0.7 * dense)
    rim = np.array(
        [
            [sign * (out + 34 * k), 70 * k, 78 * k],
            [sign * (out + 16 * k), 76 * k, 20 * k],
            [sign * (out - 4 * k), 84 * k, -24 * k],
        ]
    )
    scene.add(tubes(rim, 4 * k, 3.5 * k, up=(0, 1, 0.2)), 0.9 * dense)
    crest = np.array([[sign * (out - 30 * k), 92 * k, 86 * k], [sign * (out + 26 * k), 92 * k, 108 * k]])
    scene.add(tubes(crest, 5.5 * k, 4 * k), 0.9 * dense)
    head = np.array([sign * (out + 48 * k), 20 * k, 98 * k + rise])
    scene.add(ellipsoids(head, [25 * k, 25 * k, 26 * k]), 0.6 * dense)
    arm = head + np.array([[0, 0, -12 * k], [sign * 22 * k, 0, -120 * k], [sign * 40 * k, 0, -280 * k]])
    scene.add(tubes(arm, 11 * k, 11 * k, up=(0, 1, 0)), 1.2 * dense)
    scene.add(tubes(arm, 6 * k, 6 * k, up=(0, 1, 0)), -1.0 * dense)
