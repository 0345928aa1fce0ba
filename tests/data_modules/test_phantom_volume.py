"""The phantom's volumes: their sums are the radiograph, their axes NIfTI's, and findings lie where the report says."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from data_modules.phantom.anatomy import build
from data_modules.phantom.body import SIDES, Body, sample_body, sample_person
from data_modules.phantom.findings import Finding, shape_body
from data_modules.phantom.place import collapsed_lung, place
from data_modules.phantom.project import thickness
from data_modules.phantom.scene import Scene, Solids, ellipsoids
from data_modules.phantom.study import PhantomStudy, sample_study
from data_modules.phantom.tissue import add_tissue
from data_modules.phantom.volume import RAYS, Scan, density, sample_scan, volume

CT = "chest_ct"


def places(scan: Scan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Millimetres to the right [X, 1, 1], to the front [1, Y, 1] and to the head [1, 1, Z] of every voxel."""
    affine, steps = scan.affine(), np.arange(scan.voxels)
    right, front, head = (affine[a, a] * steps + affine[a, 3] for a in range(3))
    return right[:, None, None], front[None, :, None], head[None, None, :]


def rendered(index: int, seed: int = 0, voxels: int = 64) -> tuple[PhantomStudy, Scan, np.ndarray]:
    study = sample_study("test", index, index, seed, modality=CT)
    assert study.scene is not None
    scan = replace(sample_scan(study.body, voxels, study.rng), turn=(0.0, 0.0, 0.0))
    return study, scan, volume(study.scene, scan, study.rng)


def lone(solids: Solids) -> Scene:
    """A scene of one body in the air; it has a part, as every scene must, which changes nothing."""
    scene = Scene(solids)
    scene.add(solids, 0.0)
    return scene


def normal(count: int) -> list[int]:
    drawn = (sample_study("test", i, i, 0, scene=False) for i in range(60))
    return [study.index for study in drawn if not study.findings][:count]


# ---- Geometry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["chest_xray", CT])
@pytest.mark.parametrize(("index", "seed", "rays"), [(0, 0, 2), (8, 0, 1), (31, 0, 2), (3, 5, 1), (9, 5, 3)])
def test_the_volume_summed_from_front_to_back_is_the_radiograph(
    index: int, seed: int, rays: int, modality: str
) -> None:
    scene = sample_study("test", index, index, seed, modality=modality).scene
    assert scene is not None
    scan = Scan(45, 560.0, (5.0, -7.0, -30.0), (2.0, -1.5, 6.0))
    summed = density(scene, scan, rays).sum(axis=1, dtype=float) * scan.spacing
    exact = thickness(scene, scan.view(rays)).reshape(45, rays, 45, rays).mean(axis=(1, 3))
    assert exact.max() > 180
    # a radiograph's union of solids is a difference of numbers near 1e4 in float32, so 1e-3 mm is its precision
    np.testing.assert_allclose(summed[::-1, ::-1].T, exact, atol=3e-3)


def test_a_ball_lies_where_the_affine_says() -> None:
    scan = Scan(40, 100.0, (12.0, -9.0, 4.0))
    found = density(lone(ellipsoids([30, -20, 10], [17, 17, 17])), scan)
    assert found.shape == (40, 40, 40)
    for axis, expected in zip(places(scan), (-30, 20, 10), strict=True):
        assert (found * axis).sum() / found.sum() == pytest.approx(expected, abs=0.02)
    assert found.sum() * scan.spacing**3 == pytest.approx(4 / 3 * np.pi * 17**3, rel=3e-3)
    assert nibabel.aff2axcodes(scan.affine()) == ("R", "A", "S")


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 8, 31])
def test_voxels_are_the_mean_of_the_scene_within_them(index: int) -> None:
    scene = sample_study("test", index, index, 0, modality=CT).scene
    assert scene is not None
    scan, rng = Scan(48, 380.0, (0.0, 4.0, -34.0)), np.random.default_rng(index)
    found = density(scene, scan, 4)
    voxels = rng.integers(6, 42, (60, 3))
    centers = np.stack([axis.ravel()[voxels[:, a]] for a, axis in enumerate(places(scan))], axis=1) * [-1, -1, 1]
    fine = (np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3) - 3.5) / 8 * scan.spacing
    means = scene.density((centers[:, None] + fine).reshape(-1, 3)).reshape(60, -1).mean(axis=1)
    away = np.abs(found[tuple(voxels.T)] - means)
    assert means.std() > 0.2 and away.mean() < 0.01 and away.max() < 0.15


def test_more_rays_see_what_falls_between_two() -> None:
    wire = lone(ellipsoids([0.9, 0, 0.9], [0.8, 40, 0.8]))
    scan = Scan(21, 84.0)  # voxels of 4 mm, a ray through every corner of 2 mm
    assert density(wire, scan, 1).max() == 0
    assert density(wire, scan, RAYS).max() > 0.2


# ---- Anatomy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", normal(3))
def test_organs_lie_on_their_side(index: int) -> None:
    study, scan, hu = rendered(index)
    assert study.scene is not None
    right, front, head = places(scan)
    body = study.body
    lung = (hu > -950) & (hu < -500) & (abs(right) < body.half_width) & (abs(front) < 100) & (head < body.apex())
    heart = (hu > -50) & (abs(head - body.heart().center[0, 2]) < 12) & (abs(front - 20) < 25)
    assert (right * heart)[abs(right[:, 0, 0]) < 0.6 * body.half_width].sum() < 0, "heart on the left"
    bone = (hu > 150) & (abs(right) < 25) & (abs(head) < 80)
    assert np.median((front + 0 * hu)[bone]) < -45, "spine at the back, although the sternum is in front"
    levels = lung.sum(axis=(0, 1))
    dome = int(np.argmin(abs(head[0, 0] - body.dome("left") + 100)))
    assert levels[dome] < 0.2 * levels.max() and head[0, 0, levels.argmax()] > body.dome("left")
    inside = (abs(right) < 0.7 * body.half_width) & (abs(front - 6) < 45) & (abs(head - body.dome("right") + 45) < 25)
    liver = hu[inside & (right > 30)]
    assert 30 < np.median(liver) < 90 and (liver > -150).mean() > 0.9, "liver under the right dome"


def test_stomach_air_is_on_the_left_and_in_front_of_its_fluid() -> None:
    index = next(i for i in range(90) if _bubble(i))
    study, scan, hu = rendered(index)
    right, front, head = places(scan)
    level = head < study.body.dome("left") - 4
    gas = (hu < -600) & (abs(right) < 110) & (abs(front) < 40) & level & (head > study.body.dome("left") - 60)
    middle = (abs(right) > 40) & (abs(right) < 80)
    assert (gas & middle & (right < 0)).sum() > 20 * max(1, (gas & middle & (right > 0)).sum())


def _bubble(index: int) -> bool:
    study = sample_study("test", index, index, 0, scene=False)
    low = study.body.lift["left"] < study.body.lift["right"] + 5
    return not study.findings and study.body.bubble > 24 and low


@pytest.mark.parametrize("index", normal(4))
def test_hounsfield_units_are_those_of_a_chest(index: int) -> None:
    study, scan, hu = rendered(index)
    right, front, _ = places(scan)
    assert hu.dtype == np.int16 and hu.min() >= -1024 and hu.max() <= 3071
    inside = (abs(right) < 0.9 * study.body.half_width) & (abs(front) < 80)
    lung = hu[inside & (hu > -940) & (hu < -500)]
    assert -900 < np.median(lung) < -600 and lung.size > 0.1 * hu.size * inside.mean()
    soft = hu[inside & (hu > -60) & (hu < 140)]
    assert 20 < np.median(soft) < 60 and 10 < soft.std() < 30
    fat = hu[(hu > -200) & (hu < -60)]
    assert -110 < np.median(fat) < -75
    assert 0.005 < (hu > 200).mean() < 0.08 and np.percentile(hu[hu > 200], 90) > 400, "bone"
    corner = hu[:4, -4:, :4]
    assert corner.mean() == pytest.approx(-1000, abs=20) and 3 < corner.std() < 20, "air outside, with noise"


def test_there_is_no_lead_letter_in_a_ct() -> None:
    for index in range(12):
        scene = sample_study("test", index, index, 1, modality=CT).scene
        film = sample_study("test", index, index, 1).scene
        assert scene is not None and film is not None
        highest = [changes.max() for changes in (scene.parts()[1], film.parts()[1])]
        assert highest[0] < 14.0 == highest[1]


# ---- Findings ------------------------------------------------------------------------------------------------------


def changed(finding: Finding, seed: int = 3) -> tuple[Body, Scan, np.ndarray, np.ndarray]:
    """Body, scan, HU without the finding and HU with it; no noise, the same person."""

    def person() -> Body:
        rng = np.random.default_rng(seed)
        body = sample_body(sample_person(rng), rng)
        body.supine, body.lift = True, {"right": 0.0, "left": 0.0}
        return body

    found, scan = [], Scan(64, 400.0, (0.0, 0.0, -30.0))
    for findings in ([], [finding]):
        body, rng = person(), np.random.default_rng(seed)
        shape_body(body, findings, rng)
        body.lift = {"right": 0.0, "left": 0.0}
        gone = {f.side: collapsed_lung(body, f) for f in findings if f.name == "pneumothorax"}
        scene = build(body, np.random.default_rng(seed), gone)
        place(scene, body, findings, np.random.default_rng(seed))
        add_tissue(scene, body, findings, np.random.default_rng(seed))
        found.append(density(scene, scan) * 1000 - 1000)
    return body, scan, *found


def middle(where: np.ndarray, scan: Scan) -> np.ndarray:
    """Centre of a mask, mm to the left, to the front and to the head."""
    right, front, head = ((axis * where).sum() / where.sum() for axis in places(scan))
    return np.array([-right, front, head])


@pytest.mark.parametrize("side", list(SIDES))
@pytest.mark.parametrize(("zone", "low", "high"), [("lower", 0.05, 0.35), ("mid", 0.38, 0.65), ("upper", 0.66, 0.9)])
def test_nodule_is_in_its_zone(side: str, zone: str, low: float, high: float) -> None:
    body, scan, before, after = changed(Finding("nodule", side, zone, 24.0))
    there = after - before > 300
    left, _, head = middle(there, scan)
    assert left * SIDES[side] > 20
    assert body.level(side, low) < head < body.level(side, high)
    assert there.sum() * scan.spacing**3 == pytest.approx(np.pi / 6 * 24**3, rel=0.5)


@pytest.mark.parametrize("side", list(SIDES))
@pytest.mark.parametrize("size", [0.12, 0.25, 0.4])
def test_fluid_lies_at_the_back_of_its_side(side: str, size: float) -> None:
    _, scan, before, after = changed(Finding("pleural_effusion", side, "lower", size))
    fluid, air = after - before > 300, (before < -500) & (before > -950)
    left, front, head = middle(fluid, scan)
    lung = middle(air & (np.sign(-places(scan)[0]) == SIDES[side]), scan)
    assert left * SIDES[side] > 25 and front < lung[1] - 30 and head < lung[2]
    assert np.median(after[after - before > 600]) == pytest.approx(0, abs=15), "water, not muscle"
    larger = changed(Finding("pleural_effusion", side, "lower", size + 0.1))
    assert (larger[3] - larger[2] > 300).sum() > 1.1 * fluid.sum()


@pytest.mark.parametrize("side", list(SIDES))
def test_free_air_rises_to_the_front_of_its_side(side: str) -> None:
    _, scan, before, after = changed(Finding("pneumothorax", side, "upper", 35.0))
    air = (after < -980) & (before > -950) & (before < -500)
    left, front, _ = middle(air, scan)
    lung = middle((before < -500) & (before > -950), scan)
    assert left * SIDES[side] > 40 and front > lung[1] + 8
    assert np.median(after[air]) == pytest.approx(-1000, abs=1)


def test_opacities_add_up_to_soft_tissue_and_not_to_bone() -> None:
    study, scan, _ = rendered(25)  # consolidation, nodule and mass
    assert study.scene is not None and {f.name for f in study.findings} >= {"consolidation", "nodule", "mass"}
    right, front, head = places(scan)
    low, high = study.body.level("left", 0.6), study.body.level("left", 0.8)
    core = (abs(-right - 65) < 18) & (abs(front) < 45) & (head > low) & (head < high)
    dense = volume(study.scene, scan, np.random.default_rng(0))[core]
    assert (dense > 0).mean() > 0.02 and (dense > 150).mean() < 0.002
    assert (density(study.scene, scan)[core] > 1.15).any(), "the scene itself adds up"
