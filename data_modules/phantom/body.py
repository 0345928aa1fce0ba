"""One sampled person: sex, age, habitus, inspiration, heart and aorta sizes, and where the organs then lie.

Lengths are mm. Typical adults: internal thoracic diameter 250 to 310 mm, cardiothoracic ratio up to 0.50 on a PA film,
cardiomegaly above it (Danzer, Am J Med Sci 1919); right hemidiaphragm 10 to 25 mm above the left (Felson, Chest
Roentgenology); healthy aortas stay below 40 mm (ESC guidelines, Erbel et al., Eur Heart J 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_modules.phantom.scene import Solids, ellipsoids, join, rotation

RIGHT, LEFT = -1, 1  # the sign of x
SIDES = {"right": RIGHT, "left": LEFT}
LUNG_APEX, DOME_LEVEL = 128.0, -106.0  # mm, average adult at full inspiration; z = 0 lies below the carina


@dataclass
class Body:
    """Everything the anatomy is built from. Fields are changed by `findings.shape_body` before anything is built."""

    sex: str
    age: int
    view: str  # PA upright, or AP in bed
    size: float  # linear scale of the skeleton, 1 = average man
    wide: float  # width of the thorax against its height
    deep: float  # depth of the thorax against its height
    fat: float  # subcutaneous layer
    breast: float  # radius, 0 = no shadow
    expiration: float  # rise of both domes above full inspiration
    lift: dict[str, float]  # extra rise of a dome per side: volume loss, effusion
    ratio: float  # cardiothoracic ratio
    heart_turn: float  # degrees of the long axis below the horizontal
    knob: float  # radius of the aortic arch seen from the front
    unfolding: float  # how far the descending aorta bows to the left
    lung: float  # density change of aerated lung against water
    flat: float  # 1 = normal domes, lower = flattened
    vessel: float  # calibre of lung vessels, 1 = normal
    vessel_count: float  # share of peripheral vessels kept
    rib_density: float
    kyphosis: float  # degrees of lateral bow of the spine
    bubble: float  # radius of the gas in the stomach, 0 = none
    supine: bool = False  # on the back in a CT scanner: fluid sinks and air rises along y

    @property
    def half_width(self) -> float:
        """Half of the internal thoracic diameter."""
        return 137.0 * self.size * self.wide

    def dome(self, side: str) -> float:
        """Level z of the top of a hemidiaphragm."""
        lower = 0.0 if side == "right" else 14.0
        return (DOME_LEVEL - lower) * self.size + self.expiration + self.lift[side]

    def apex(self) -> float:
        """Level z of the lung apices."""
        return LUNG_APEX * self.size

    def level(self, side: str, fraction: float) -> float:
        """Level z at a fraction of the lung height, 0 at the dome and 1 at the apex."""
        return self.dome(side) + fraction * (self.apex() - self.dome(side))

    def lungs(self, side: str) -> Solids:
        """The solids whose overlap is one hemithorax, before heart, mediastinum and diaphragm are cut out of it."""
        sign, k = SIDES[side], self.size
        width = 67.0 if side == "right" else 64.0
        center = np.array([sign * (137 - width) * k * self.wide, 2 * k, -68 * k])
        radii = np.array([width * k * self.wide, 88 * k * self.deep, 207 * k])
        tall = ellipsoids(center, radii, rotation(y=-sign * 4.2)).clipped((0, 0, -1), 190 * k)
        top = self.apex() - 92 * k  # a blunt apex: the tall ellipsoid alone is pointed
        cap = ellipsoids(
            [sign * 60 * k * self.wide, 0, top - 60 * k], [95 * k * self.wide, 100 * k * self.deep, 152 * k]
        )
        return join([tall, cap.clipped((-sign, 0, 0), -8 * k)])

    def edge(self, side: str, z: np.ndarray | float) -> np.ndarray:
        """Distance |x| of the lung's lateral border at levels z in the plane y = 0, mm."""
        k, width = self.size, 67.0 if side == "right" else 64.0
        up = np.asarray(z) + 68 * k
        fall = np.sqrt(np.maximum(0.02, 1 - (up / (207 * k)) ** 2))
        return (137 - width + width * fall) * k * self.wide - np.tan(np.radians(4.2)) * np.maximum(0.0, up)

    def diaphragm(self, side: str) -> Solids:
        """The dome that cuts a lung from below; its rim lies lower at the back and the side than its top."""
        sign, k = SIDES[side], self.size
        rise = 78 * k * self.flat
        return ellipsoids(
            [sign * 66 * k * self.wide, -6 * k, self.dome(side) - rise], [88 * k * self.wide, 104 * k * self.deep, rise]
        )

    def heart(self) -> Solids:
        """The heart as two ellipsoids: ventricles about a tilted axis, and the right atrium."""
        half = self.ratio * self.half_width
        turn = np.radians(self.heart_turn)
        short = 0.78
        long_axis = half / np.sqrt(np.cos(turn) ** 2 + short**2 * np.sin(turn) ** 2)
        tall = long_axis * np.sqrt(np.sin(turn) ** 2 + short**2 * np.cos(turn) ** 2)
        level = self.dome("left") - self.lift["left"] + 0.74 * tall
        center = np.array([0.30 * half, -20 * self.size, level])
        main = ellipsoids(
            center, [long_axis, 0.5 * half + 28 * self.size, short * long_axis], rotation(y=self.heart_turn)
        )
        atrium = ellipsoids(
            [0.30 * half - 0.62 * half, -10 * self.size, level + 0.12 * tall],
            [0.36 * half, 0.35 * half + 18 * self.size, 0.68 * tall],
        )
        return join([main, atrium])

    def hilum(self, side: str) -> np.ndarray:
        """Centre of a lung root; the left lies 10 to 15 mm above the right (Felson)."""
        k = self.size
        return np.array([SIDES[side] * (38 if side == "right" else 40) * k, 8 * k, (20 if side == "right" else 32) * k])


def sample_person(rng: np.random.Generator) -> dict[str, object]:
    """What stays the same over a patient's studies: sex, age, habitus, breast shadow, aorta."""
    sex = "F" if rng.random() < 0.47 else "M"
    age = int(np.clip(rng.normal(56, 17), 18, 90))
    heavy = rng.beta(2, 3)  # 0 slim, 1 obese
    return {
        "sex": sex,
        "age": age,
        "size": rng.normal(0.94 if sex == "F" else 1.0, 0.035),
        "wide": rng.uniform(0.93, 1.02) + 0.09 * heavy,
        "deep": rng.uniform(0.92, 1.05) + 0.15 * heavy,
        "fat": 10 + 45 * heavy,
        "breast": rng.uniform(38, 66) * (0.8 + 0.4 * heavy) if sex == "F" and rng.random() < 0.8 else 0.0,
        "rib_density": rng.uniform(0.75, 1.15) - 0.003 * max(0, age - 50),
        "kyphosis": rng.normal(0, 2.2),
    }


def sample_body(person: dict, rng: np.random.Generator) -> Body:
    """A body as it stands before the detector on one day: view, breath and the free choices of this study."""
    view = "AP" if rng.random() < 0.28 else "PA"
    older = max(0, person["age"] - 45)
    return Body(
        **person,
        view=view,
        # full inspiration shows ten posterior ribs; patients in bed manage one to two interspaces less
        expiration=rng.uniform(-10, 22) + (rng.uniform(2, 22) if view == "AP" else 0),
        lift=_lift(rng),
        ratio=rng.uniform(0.365, 0.483) + (0.012 if view == "AP" else 0),
        heart_turn=rng.uniform(26, 46),
        knob=rng.uniform(12, 17) + 0.05 * older,
        unfolding=rng.uniform(0, 4) + 0.14 * older,
        lung=-rng.uniform(0.64, 0.83),
        flat=rng.uniform(0.66, 1.2),
        vessel=rng.uniform(0.8, 1.25),
        vessel_count=rng.uniform(0.8, 1.0),
        bubble=rng.uniform(14, 30) if rng.random() < 0.8 else 0.0,
    )


def _lift(rng: np.random.Generator) -> dict[str, float]:
    """Height of each dome against its usual level; one person in eight has one 15 to 35 mm high (eventration)."""
    lift = {"right": rng.uniform(-8, 8), "left": rng.uniform(-8, 8)}
    if rng.random() < 0.12:
        lift[str(rng.choice(["right", "left"]))] += rng.uniform(15, 35)
    return lift
