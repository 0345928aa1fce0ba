"""Where the findings of a phantom lie: masks in the pixels of a radiograph or the voxels of a CT, from its geometry.

A finding that was added to the body covers the pixels whose ray it lengthens or shortens by more than VISIBLE mm of
water: the radiograph with it less the same one without. A pneumothorax covers those where the chest cavity holds more
air than lung, cardiomegaly the shadow of the heart. In a CT a finding fills the voxels that it changes by more than
VISIBLE_HU, free air and heart those that are mostly theirs. Emphysema and the enlarged aorta change the body as a whole
and have no mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data_modules.phantom.findings import NAMES
from data_modules.phantom.project import View, intervals, thickness, union_length
from data_modules.phantom.scene import Scene, ellipsoids, rotation
from data_modules.phantom.study import PhantomStudy, patients, sample_study, sample_view
from data_modules.phantom.volume import Scan, density, noiseless, sample_scan

VISIBLE = 1.0
"""mm of water, which dims the beam by 2 %"""
VISIBLE_HU = 50.0
"""three times the noise of a voxel"""
WHOLE = ("emphysema", "aortic_enlargement")
LOCATED = tuple(name for name in NAMES if name not in WHOLE)

Mask = NDArray[np.bool_]


def truth(
    split: str, index: int, count: int, seed: int, side: int, modality: str = "chest_xray",
    rare: Mapping[str, float] | None = None,
) -> dict[str, Mask]:  # fmt: skip
    """Masks of the findings of one study, as `write_phantom` renders it.

    bool [side, side], or of a CT [side, side, side] (X, Y, Z).

    Args:
        split, index: the study, `index` from 0 among the `count` of its split.
        seed, modality, rare: of the phantom. side: its `image_px` or `voxels`.
    """
    study = sample_study(split, index, patients(split, count, seed)[index], seed, modality=modality, rare=rare)
    if modality == "chest_ct":
        return volume_masks(study, sample_scan(study.body, side, study.rng))
    return masks(study, sample_view(study.body, side, study.rng))


def masks(study: PhantomStudy, view: View) -> dict[str, Mask]:
    """Masks of a study with a scene, seen from `view`; a finding that leaves no pixel is left out."""
    assert study.scene is not None
    scene, whole = study.scene, thickness(study.scene, view)

    def free_air(side: str) -> Mask:
        cavity, lung = (thickness(_only(scene, name), view) for name in (side, f"{side} lung"))
        return cavity - lung > np.maximum(lung, VISIBLE)

    def added(name: str) -> Mask:
        return np.abs(whole - thickness(scene.without(name), view)) > VISIBLE

    return _found(study, free_air, lambda: _heart(study, view), added)


def volume_masks(study: PhantomStudy, scan: Scan) -> dict[str, Mask]:
    """Masks [X, Y, Z] of a study of modality chest_ct; a finding that leaves no voxel is left out."""
    assert study.scene is not None
    scene, whole = study.scene, noiseless(study.scene, scan)

    def free_air(side: str) -> Mask:
        cavity, lung = (density(_only(scene, name), scan) for name in (side, f"{side} lung"))
        return cavity - lung > 0.5

    def added(name: str) -> Mask:
        return np.abs(whole - noiseless(scene.without(name), scan)) > VISIBLE_HU

    return _found(study, free_air, lambda: density(_seen(Scene(study.body.heart())), scan) > 0.5, added)


def _found(
    study: PhantomStudy, free_air: Callable[[str], Mask], heart: Callable[[], Mask], added: Callable[[str], Mask]
) -> dict[str, Mask]:
    """The masks that are not empty: `free_air` of a side, `heart`, or what a finding has `added`, by its name."""
    found = {}
    for finding in study.findings:
        if finding.name in WHOLE:
            continue
        if finding.name == "pneumothorax":
            mask = free_air(finding.side)
        else:
            mask = heart() if finding.name == "cardiomegaly" else added(finding.name)
        if mask.any():
            found[finding.name] = mask
    return found


def _only(scene: Scene, region: str) -> Scene:
    """A region of a scene alone, as dense as water."""
    return _seen(Scene(scene.body, {region: replace(scene.regions[region], change=1.0)}, base=0.0))


def _seen(bare: Scene) -> Scene:
    """A scene without parts, ready to be traced: that needs a part, and one without density changes nothing."""
    bare.add(ellipsoids([0, 0, 0], [1, 1, 1]), 0.0)
    return bare


def _heart(study: PhantomStudy, view: View) -> Mask:
    x, z = view.grid()
    heart = study.body.heart().turned(rotation(*view.turn))
    return union_length(*intervals(heart, x[None, None], z[None, :, None])) > VISIBLE
