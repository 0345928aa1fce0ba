"""The scene of a healthy chest from a sampled body: soft tissue, lungs, vessels, airways, gas, bones.

Region names: "right" and "left" are the whole hemithoraces (pleural cavities less heart, mediastinum and diaphragm);
"right lung" and "left lung" the aerated lungs in them, which differ from the cavity when a lung has collapsed.
"""

from __future__ import annotations

import numpy as np

from data_modules.phantom.body import SIDES, Body
from data_modules.phantom.scene import Region, Scene, Solids, ellipsoids, join, rotation, tubes
from data_modules.phantom.skeleton import add_skeleton

BRANCHES, GENERATIONS = 9, 4


def build(body: Body, rng: np.random.Generator, collapse: dict[str, Solids] | None = None) -> Scene:
    """A scene without findings. `collapse` gives the solid that a lung has shrunk to, for a side with pneumothorax."""
    scene = Scene(soft_tissue(body))
    cut = {side: join([mediastinum(body, side), body.diaphragm(side)]) for side in SIDES}
    for side in SIDES:
        keep = body.lungs(side)
        if collapse and side in collapse:  # free air fills what the lung has left
            scene.regions[side] = Region(keep, cut[side], -1.0)
            scene.regions[side + " lung"] = Region(join([keep, collapse[side]]), cut[side], 1.0 + body.lung)
        else:
            scene.regions[side] = scene.regions[side + " lung"] = Region(keep, cut[side], body.lung)
    for side in SIDES:
        add_vessels(scene, body, side, rng)
    add_airway(scene, body)
    add_gas(scene, body, rng)
    add_skeleton(scene, body, rng)
    return scene


def soft_tissue(body: Body) -> Solids:
    """Trunk, shoulders, neck, upper arms and breasts: the union that has density 1."""
    k, fat = body.size, body.fat
    trunk = ellipsoids(
        [0, 4 * k, -70 * k], [body.half_width * 1.02 + 18 * k + fat, 104 * k * body.deep + 0.6 * fat, 330 * k]
    )
    neck = tubes(
        np.array([[0, 15 * k, 60 * k], [0, 10 * k, 320 * k]]), 58 * k + 0.3 * fat, 56 * k + 0.3 * fat, up=(0, 1, 0)
    )
    sides = np.array([-1, 1])[:, None]
    shoulder = ellipsoids(
        sides * [124 * k, 0, 0] + [0, 14 * k, 74 * k], [104 * k + 0.4 * fat, 62 * k, 66 * k + 0.3 * fat]
    )
    yoke = ellipsoids([0, 26 * k, 98 * k], [170 * k, 58 * k, 54 * k + 0.3 * fat])
    arm_path = np.array([[[s * 186 * k, 10 * k, 118 * k], [s * (250 * k + fat), 0, -120 * k]] for s in (-1, 1)])
    several = [trunk, neck, shoulder, yoke, tubes(arm_path, 40 * k + 0.3 * fat, 42 * k + 0.3 * fat, up=(0, 1, 0))]
    if body.breast:
        r = body.breast
        # tilted, its upper half within the chest wall: only the lower border shows
        place = sides * [(72 * k * body.wide), 0, 0] + [0, -84 * k * body.deep - 0.35 * fat, -34 * k - 0.25 * r]
        several.append(ellipsoids(place, [1.1 * r, 0.44 * r, 1.5 * r], rotation(x=-26)))
    return join(several)


def mediastinum(body: Body, side: str) -> Solids:
    """What bounds a lung on the inside: heart, great vessels, spine; on the left also arch and descending aorta."""
    k, bow = body.size, body.unfolding
    core = tubes(
        np.array([[2 * k, -8 * k, -170 * k], [3 * k, -8 * k, 170 * k]]), 72 * k * body.deep, 25 * k, up=(0, 1, 0)
    )
    spine = tubes(np.array([[0, 66 * k, -190 * k], [0, 66 * k, 190 * k]]), 26 * k, 20 * k, up=(0, 1, 0))
    if side == "right":
        cava = ellipsoids([-20 * k, -8 * k, 52 * k], [11 * k + 0.25 * bow, 22 * k, 66 * k])
        return join([body.heart(), core, spine, cava])
    # the arch's outer border lies 40 to 45 mm from the midline when normal
    arch = ellipsoids(
        [27 * k + 0.3 * (body.knob - 15), 8 * k, 62 * k], [body.knob * k, 1.4 * body.knob * k, 1.1 * body.knob * k]
    )
    trunk = ellipsoids([25 * k, -20 * k, 18 * k], [17.5 * k, 22 * k, 38 * k], rotation(y=8))
    r = 12.5 * k + 0.3 * (body.knob - 15) * k
    aorta = ellipsoids([18 * k + 0.5 * bow, 42 * k, -30 * k], [r + 0.5 * bow, 1.1 * r, 128 * k])
    return join([body.heart(), core, spine, arch, trunk, aorta])


def add_vessels(scene: Scene, body: Body, side: str, rng: np.random.Generator) -> None:
    """Lung root and a tree of vessels from it; each division keeps 2 ** (-1/3) of the calibre (Murray's law)."""
    k, sign, root = body.size, SIDES[side], body.hilum(side)
    region, change = side + " lung", -0.93 * body.lung
    scene.add(ellipsoids(root, [13 * k * body.vessel, 15 * k, 19 * k * body.vessel]), 0.55 * change, region)
    # fan of the main branches in the frontal plane, 0 = lateral, 90 = up; more of them to the base
    fan = np.radians(np.linspace(-78, 74, BRANCHES) + rng.normal(0, 6, BRANCHES))
    ahead = np.stack([sign * np.cos(fan), rng.uniform(-0.6, 0.6, BRANCHES), np.sin(fan)], axis=-1)
    start = root + ahead * 4 * k
    radius = rng.uniform(2.7, 3.7, BRANCHES) * k * body.vessel * np.where(fan < 0, 1.08, 0.92)
    starts, ends, radii = [], [], []
    for generation in range(GENERATIONS):
        ahead = ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
        end = start + ahead * rng.uniform(20, 34, len(start))[:, None] * k * 0.95**generation
        starts.append(start)
        ends.append(end)
        radii.append(radius)
        start, ahead, radius = np.repeat(end, 2, 0), np.repeat(ahead, 2, 0), np.repeat(radius, 2) * 0.79
        ahead = ahead + rng.normal(0, 0.36, ahead.shape)
        kept = rng.random(len(start)) < (body.vessel_count if generation else 1.0)
        start, ahead, radius = start[kept], ahead[kept], radius[kept]
    paths = np.stack([np.concatenate(starts), np.concatenate(ends)], axis=1)
    width = np.concatenate(radii)[:, None]
    scene.add(tubes(paths, width, width, up=(0.01, 1, 0.02)), change, region)


def add_airway(scene: Scene, body: Body) -> None:
    """Trachea and main bronchi: air within the mediastinum, the right bronchus steeper than the left."""
    k = body.size
    carina = np.array([2 * k, 14 * k, 42 * k])
    windpipe = np.array([[0, 2 * k, 190 * k], [2 * k, 8 * k, 100 * k], carina])
    scene.add(tubes(windpipe, 10 * k, 9 * k, up=(0, 1, 0)), -0.95)
    for end in ([-24 * k, 16 * k, 22 * k], [24 * k, 16 * k, 24 * k]):
        scene.add(tubes(np.array([carina, end]), 6 * k, 6 * k, up=(0, 1, 0)), -0.7)


def add_gas(scene: Scene, body: Body, rng: np.random.Generator) -> None:
    """Stomach bubble under the left dome, flat where the fluid begins, and sometimes gas in the splenic flexure."""
    k, top = body.size, body.dome("left")
    r = body.bubble * k
    if r:
        center = np.array([rng.uniform(48, 78) * k, -10 * k, top - 0.8 * r - 9 * k])
        bubble = ellipsoids(center, [r * rng.uniform(1.0, 1.5), r, 0.8 * r])
        if body.supine:
            bubble = bubble.clipped((0, 1, 0), center[1] + 0.2 * r)
        elif body.view == "PA":
            bubble = bubble.clipped((0, 0, -1), -(center[2] - 0.2 * r))
        scene.add(bubble, -0.9)
    if rng.random() < 0.4:
        several = rng.integers(1, 4)
        place = np.stack(
            [rng.uniform(70, 115, several) * k, np.full(several, -20 * k), top - rng.uniform(45, 75, several) * k],
            axis=-1,
        )
        scene.add(ellipsoids(place, rng.uniform(9, 16, (several, 1)) * k * np.ones(3)), -0.8)
