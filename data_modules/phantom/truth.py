"""Where the findings of a phantom radiograph lie: masks in its pixels, from the geometry that made them.

A finding that was added to the body covers the pixels whose ray it lengthens or shortens by more than VISIBLE mm of
water: the radiograph with it less the same one without. A pneumothorax covers those where the chest cavity holds more
air than lung, cardiomegaly the shadow of the heart. Emphysema and the enlarged aorta change the body as a whole and
have no mask.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data_modules.phantom.findings import NAMES, Finding
from data_modules.phantom.project import View, intervals, thickness, union_length
from data_modules.phantom.scene import Scene, ellipsoids, rotation
from data_modules.phantom.study import PhantomStudy, patients, sample_study, sample_view

VISIBLE = 1.0
"""mm of water, which dims the beam by 2 %"""
WHOLE = ("emphysema", "aortic_enlargement")
LOCATED = tuple(name for name in NAMES if name not in WHOLE)

Mask = NDArray[np.bool_]


def truth(split: str, index: int, count: int, seed: int, pixels: int) -> dict[str, Mask]:
    """Masks bool [pixels, pixels] of the findings of one radiograph, as `write_phantom` renders it.

    Args:
        split, index: the study, `index` from 0 among the `count` of its split.
        seed, pixels: of the phantom.
    """
    study = sample_study(split, index, patients(split, count, seed)[index], seed)
    return masks(study, sample_view(study.body, pixels, study.rng))


def masks(study: PhantomStudy, view: View) -> dict[str, Mask]:
    """Masks of a study with a scene, seen from `view`; a finding that leaves no pixel is left out."""
    assert study.scene is not None
    whole = thickness(study.scene, view)
    found = {}
    for finding in study.findings:
        if finding.name == "pneumothorax":
            mask = _free_air(study.scene, finding, view)
        elif finding.name == "cardiomegaly":
            mask = _heart(study, view)
        elif finding.name not in WHOLE:
            mask = np.abs(whole - thickness(study.scene.without(finding.name), view)) > VISIBLE
        else:
            continue
        if mask.any():
            found[finding.name] = mask
    return found


def _free_air(scene: Scene, finding: Finding, view: View) -> Mask:
    cavity, lung = (_length(scene, name, view) for name in (finding.side, finding.side + " lung"))
    return cavity - lung > np.maximum(lung, VISIBLE)


def _length(scene: Scene, region: str, view: View) -> NDArray[np.float32]:
    """Length of every ray inside a region, mm."""
    # A scene needs a part; one without density changes nothing.
    bare = Scene(scene.body, {region: replace(scene.regions[region], change=1.0)}, base=0.0)
    bare.add(ellipsoids([0, 0, 0], [1, 1, 1]), 0.0)
    return thickness(bare, view)


def _heart(study: PhantomStudy, view: View) -> Mask:
    x, z = view.grid()
    heart = study.body.heart().turned(rotation(*view.turn))
    return union_length(*intervals(heart, x[None, None], z[None, :, None])) > VISIBLE
