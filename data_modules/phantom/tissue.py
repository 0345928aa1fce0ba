"""What a CT tells apart and a radiograph does not: fat, muscle, blood and organs, small vessels, a patient on the back.

The radiograph's scene is all water, air and bone. `add_tissue` gives its soft parts their usual Hounsfield units at
120 kVp without contrast (Kalender, Computed Tomography, 2011): fat -90, muscle and blood 40, liver 60, pleural fluid 0.
It takes numbers from its own generator, so that everything else in the scene stays where the radiograph has it.
"""

from __future__ import annotations

import numpy as np

from data_modules.phantom.anatomy import mediastinum
from data_modules.phantom.body import SIDES, Body
from data_modules.phantom.findings import Finding
from data_modules.phantom.scene import Region, Scene, ellipsoids, join, rotation, tubes

MUSCLE, FAT, LIVER = 0.04, -0.13, 0.02  # of the body against water; fat and liver against muscle
BREASTS = 7  # rows of `anatomy.soft_tissue`: the trunk is row 0, breasts, if any, are the last two
TWIGS, HOLES = 240, 140  # small vessels, and spaces of emphysema, in each lung


def add_tissue(scene: Scene, body: Body, findings: list[Finding], rng: np.random.Generator) -> None:
    """Turns a finished scene into that of a CT: soft tissues, a sternum, small vessels, and holes in emphysema."""
    scene.base += MUSCLE
    for side in SIDES:
        scene.regions[side].change -= MUSCLE  # aerated lung keeps its density, and fluid in its place is water
    _shoulder_blades(scene, body)
    _chest_wall(scene, body)
    _mediastinum(scene, body)
    _belly(scene, body)
    for side in SIDES:
        _small_vessels(scene, body, side, rng)
        if any(finding.name == "emphysema" for finding in findings):
            holes = _in_lung(scene, side, HOLES, rng)
            scene.add(ellipsoids(holes, rng.uniform(4, 10, (len(holes), 1)) * np.ones(3)), -0.09, side + " lung")


def _shoulder_blades(scene: Scene, body: Body) -> None:
    """Muscle about the scapulae, which the trunk of the radiograph leaves in the air behind it."""
    k, out = body.size, (146 if body.view == "PA" else 128) * body.size * body.wide
    for sign in SIDES.values():
        lean = rotation(y=-12 * sign, z=-32 * sign)
        pad = ellipsoids([sign * (out - 20 * k), 76 * k, 46 * k], [68 * k, 34 * k, 88 * k], lean)
        scene.body = join([scene.body, pad])


def _chest_wall(scene: Scene, body: Body) -> None:
    """Fat under the skin of the trunk and in the breasts, and the body of the sternum."""
    k = body.size
    trunk, rest = scene.body.take(np.array([0])), scene.body.take(np.arange(1, len(scene.body)))
    radii = [1.02 * body.half_width + 15 * k, 102 * k * body.deep, 330 * k]
    muscle = ellipsoids([0, 4 * k, -70 * k], radii)
    limbs = rest.take(np.setdiff1d(np.arange(len(rest)), [BREASTS - 1, BREASTS])) if body.breast else rest
    scene.regions["fat"] = Region(trunk, join([muscle, limbs]), FAT)
    if body.breast:
        for side, row in zip(SIDES, (BREASTS, BREASTS + 1), strict=True):
            scene.regions[side + " breast"] = Region(scene.body.take(np.array([row])), trunk, 0.8 * FAT)
    sternum = np.array([[0, -88 * k * body.deep, 48 * k], [0, -90 * k * body.deep, -62 * k]])
    scene.add(tubes(sternum, 14 * k, 4.5 * k, up=(1, 0, 0)), 0.28 * body.rib_density)


def _mediastinum(scene: Scene, body: Body) -> None:
    """Fat about the great vessels, of which the radiograph's mediastinum has only those that form its borders."""
    k = body.size
    left = mediastinum(body, "left")
    core, organs = left.take(np.array([2])), left.take(np.array([0, 1, 3, 4, 5, 6]))
    cava = mediastinum(body, "right").take(np.array([4]))
    ascending = np.array([[-8, -38, -10], [-14, -34, 30], [-6, -22, 58], [20, 2, 66]]) * k
    artery = np.array([[24, -14, 22], [0, 2, 22], [-38, 8, 20]]) * k
    neck = np.array([[[-14, -24, 66], [-30, -16, 140]], [[4, -10, 66], [12, -4, 140]], [[22, 4, 66], [28, 8, 140]]]) * k
    windpipe = np.array([[0, 2, 190], [2, 8, 100], [2, 14, 42]]) * k
    vessels = [
        tubes(ascending, max(14.0, 0.9 * body.knob) * k, max(14.0, 0.9 * body.knob) * k, up=(1, 0, 0.3)),
        tubes(artery, 10 * k, 10 * k),
        tubes(neck, 5.5 * k, 5.5 * k, up=(0, 1, 0)),
        tubes(windpipe, 12 * k, 11 * k, up=(0, 1, 0)),
        ellipsoids([6 * k, 32 * k, 20 * k], [8 * k, 6 * k, 150 * k]),  # oesophagus
    ]
    front = ellipsoids([0, -45 * k * body.deep, 30 * k], [45 * k, 75 * k * body.deep, 105 * k])
    scene.regions["mediastinal fat"] = Region(join([core, front]), join([organs, cava, *vessels]), FAT)


def _belly(scene: Scene, body: Body) -> None:
    """Liver under the right dome; spleen, stomach and fat under the left one."""
    k, top = body.size, body.dome("left")
    wall = ellipsoids([0, 2 * k, -70 * k], [0.98 * body.half_width, 90 * k * body.deep, 330 * k])
    near = join([body.heart(), mediastinum(body, "left").take(np.array([2, 3, 6]))])
    domes = [body.diaphragm(side) for side in SIDES]
    inner = [ellipsoids(dome.center, dome.half - 3) for dome in domes]
    scene.regions["liver"] = Region(join([inner[0], wall]), near, LIVER)
    organs = [
        ellipsoids([64 * k, -8 * k, top - 36 * k], [52 * k, 40 * k, 37 * k]),  # stomach
        ellipsoids([92 * k * body.wide, 44 * k, top - 46 * k], [24 * k, 34 * k, 44 * k]),  # spleen
        ellipsoids([6 * k, -34 * k, top - 30 * k], [52 * k, 44 * k, 30 * k]),  # left lobe of the liver
    ]
    scene.regions["belly fat"] = Region(join([inner[1], wall]), join([near, domes[0], *organs]), FAT)


def _small_vessels(scene: Scene, body: Body, side: str, rng: np.random.Generator) -> None:
    """Vessels of 1 to 4 mm, away from the lung root and thinner towards the pleura."""
    middle = _in_lung(scene, side, int(TWIGS * body.vessel_count), rng)
    away = middle - body.hilum(side) + rng.normal(0, 12 * body.size, middle.shape)
    far = np.linalg.norm(away, axis=1, keepdims=True)
    along = away / far * rng.uniform(7, 13, (len(far), 1)) * body.size
    radius = (0.7 + 1.8 * np.exp(-far / (70 * body.size))) * rng.uniform(0.7, 1.2, far.shape) * body.vessel
    paths = np.stack([middle - along, middle + along], axis=1)
    scene.add(tubes(paths, radius, radius, up=(0.01, 1, 0.02)), -0.95 * body.lung, side + " lung")


def _in_lung(scene: Scene, side: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` points [N, 3] mm spread evenly over an aerated lung."""
    region = scene.regions[side + " lung"]
    box, half = region.keep.box[0], region.keep.half[0]
    points = rng.uniform(box - half, box + half, (4 * count, 3))
    return points[region.inside(points)][:count]
