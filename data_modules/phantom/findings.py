"""Which findings a study has, with side, zone and size from cited ranges, and how they change the body around them.

Sources of the ranges: nodule up to 30 mm, mass above it (Fleischner glossary, Hansell et al., Radiology 2008);
cardiomegaly from a cardiothoracic ratio of 0.50 (Danzer, Am J Med Sci 1919); pneumothorax large from a 20 mm rim (BTS,
MacDuff et al., Thorax 2010); fluid blunts the lateral angle from about 200 ml and hides the diaphragm from about 500 ml
(Blackmore et al., Acad Radiol 1996); aorta enlarged above 40 mm (ESC, Erbel et al., Eur Heart J 2014); flat diaphragm
in emphysema (Thurlbeck & Simon, AJR 1978); cavities in about half of post-primary tuberculosis, mostly apical (Woodring
et al., AJR 1986); endotracheal tip 3 to 7 cm above the carina (Goodman et al., AJR 1976).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_modules.phantom.body import SIDES, Body

SEEN = (
    "cardiomegaly", "pleural_effusion", "pneumothorax", "consolidation", "edema", "nodule",
    "atelectasis", "emphysema", "support_devices", "aortic_enlargement", "pleural_thickening",
)  # fmt: skip
UNSEEN = ("mass", "tuberculosis", "hiatal_hernia")  # test split only
NAMES = SEEN + UNSEEN
NORMAL_SHARE = 0.30
HOW_MANY = (0.22, 0.33, 0.28, 0.17)  # probability of 1, 2, 3, 4 seen findings in a study that is not normal
UNSEEN_RATE = 0.21  # of each unseen finding in test studies that are not normal: about 15 % of all test studies
EXCLUSIVE = {"edema", "emphysema"}  # wet and hyperlucent lungs contradict each other


@dataclass
class Finding:
    """One finding of a study: side "right", "left", "both" or ""; zone "upper", "mid", "lower" or ""; size in mm."""

    name: str
    side: str = ""
    zone: str = ""
    size: float = 0.0
    kind: str = ""
    flags: tuple[str, ...] = ()


def choose(rng: np.random.Generator, split: str, kept: Mapping[str, bool] | None = None) -> list[Finding]:
    """The findings of one study, in a fixed order; about 30 % of studies have none.

    `kept`: findings that are taken out where False stands, as if they had not been drawn.
    """
    if rng.random() < NORMAL_SHARE:
        return []
    count = 1 + int(rng.choice(len(HOW_MANY), p=HOW_MANY))
    names: list[str] = []
    for name in rng.permutation(SEEN):
        if len(names) < count and not (name in EXCLUSIVE and EXCLUSIVE & set(names)):
            names.append(str(name))
    names = [name for name in names if (kept or {}).get(name, True)]
    if split == "test":
        names += [name for name in UNSEEN if rng.random() < UNSEEN_RATE]
    taken: dict[str, str] = {}  # side -> what fills it, so that no finding is drawn where another would hide it
    chosen = [_sample(name, rng, taken) for name in sorted(names, key=_order)]
    return sorted(chosen, key=lambda finding: NAMES.index(finding.name))


def _order(name: str) -> int:
    first = ("pneumothorax", "pleural_effusion", "hiatal_hernia", "mass", "consolidation")
    return first.index(name) if name in first else len(first) + NAMES.index(name)


def _sample(name: str, rng: np.random.Generator, taken: dict[str, str]) -> Finding:
    sides = (
        [side for side in SIDES if side not in taken] or [s for s in SIDES if taken[s] != "pneumothorax"] or list(SIDES)
    )
    side = str(rng.choice(sides))
    zones = ["upper", "mid"] if side in taken else ["upper", "mid", "lower"]
    zone = str(rng.choice(zones))
    if name == "cardiomegaly":
        return Finding(name, size=rng.uniform(0.515, 0.605))
    if name == "pleural_effusion":
        both = rng.random() < 0.2 and not taken
        for s in SIDES if both else (side,):
            taken[s] = name
        return Finding(name, "both" if both else side, "lower", rng.uniform(0.10, 0.42))
    if name == "pneumothorax":
        taken[side] = name
        return Finding(name, side, "upper", rng.uniform(18, 48))
    if name == "consolidation":
        taken.setdefault(side, name)
        zone = "lower" if "lower" in zones and rng.random() < 0.25 else zone
        behind = side == "left" and zone == "lower" and rng.random() < 0.5
        return Finding(name, side, zone, rng.uniform(26, 40), kind="retrocardiac" if behind else "")
    if name == "edema":
        return Finding(name, "both", "mid", flags=("lines",) if rng.random() < 0.5 else ())
    if name == "nodule":
        return Finding(name, side, zone, rng.uniform(15, 30), flags=("cavity",) if rng.random() < 0.15 else ())
    if name == "atelectasis":
        zone = "mid" if side in taken else str(rng.choice(["lower", "lower", "mid"]))
        kind = str(rng.choice(["band", "band", "wedge"]))
        behind = side == "left" and zone == "lower" and rng.random() < 0.4
        return Finding(name, side, zone, rng.uniform(36, 56), kind="retrocardiac" if behind else kind)
    if name == "emphysema":
        return Finding(name, "both", "upper", rng.uniform(0.6, 1.0), flags=("bulla",) if rng.random() < 0.3 else ())
    if name == "support_devices":
        return Finding(
            name,
            side=str(rng.choice(["left", "left", "right"])),
            kind=str(rng.choice(["pacemaker", "line", "tube", "line and tube"])),
        )
    if name == "aortic_enlargement":
        return Finding(name, size=rng.uniform(23, 31))
    if name == "pleural_thickening":
        return Finding(name, side, kind=str(rng.choice(["lateral", "lateral", "apical"])), size=rng.uniform(9, 15))
    if name == "mass":
        return Finding(name, side, zone, rng.uniform(38, 68))
    if name == "tuberculosis":
        return Finding(name, side, "upper", rng.uniform(22, 32), flags=("cavity",))
    assert name == "hiatal_hernia", name
    return Finding(name, "left", "lower", rng.uniform(58, 92))


def shape_body(body: Body, findings: list[Finding], rng: np.random.Generator) -> None:
    """Changes the sampled body in place where a finding is a change of the anatomy itself."""
    for finding in findings:
        if finding.name == "cardiomegaly":
            body.ratio = finding.size
        elif finding.name == "emphysema":  # hyperinflation: low flat domes, deep chest, narrow heart, few vessels
            body.flat = rng.uniform(0.38, 0.52)
            body.expiration = -rng.uniform(0, 12)
            body.lift = {"right": 0.0, "left": 0.0}
            body.deep *= 1.05
            body.lung = -rng.uniform(0.81, 0.87)
            narrow = rng.uniform(0.35, 0.42)
            body.ratio = body.ratio if body.ratio > 0.5 else narrow
            body.vessel, body.vessel_count = rng.uniform(0.72, 0.82), 0.62
        elif finding.name == "edema":
            body.vessel *= 1.25
        elif finding.name == "aortic_enlargement":
            body.knob, body.unfolding = finding.size, rng.uniform(8, 20)
        elif finding.name == "atelectasis":  # volume loss
            body.lift[finding.side] += rng.uniform(10, 22)
        elif finding.name == "pneumothorax":
            body.lift[finding.side] -= rng.uniform(0, 8)
