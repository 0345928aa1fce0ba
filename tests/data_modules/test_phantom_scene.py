"""The phantom's geometry: projections are the integrals of the volume, and chords are those of hand and of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from data_modules.phantom.findings import NAMES, SEEN
from data_modules.phantom.project import View, intervals, thickness, union_length
from data_modules.phantom.scene import Region, Scene, Solids, ellipsoids, join, rotation, tubes
from data_modules.phantom.study import SPLITS, sample_study, sample_view


def chord(solids: Solids, x: float, z: float) -> float:
    enter, leave = intervals(solids, np.full((1, 1, 1), x, np.float32), np.full((1, 1, 1), z, np.float32))
    return float(np.maximum(leave - enter, 0).sum())


def test_chord_of_a_sphere_is_the_textbook_one() -> None:
    assert chord(ellipsoids([3, 7, -2], [10, 10, 10]), 9.0, -2.0) == pytest.approx(2 * np.sqrt(100 - 36), rel=1e-5)
    assert chord(ellipsoids([3, 7, -2], [10, 10, 10]), 14.0, -2.0) == 0.0


def test_chord_of_a_half_sphere_is_cut_at_the_plane() -> None:
    half = ellipsoids([0, 0, 0], [10, 10, 10]).clipped((0, 1, 0), 2.0)
    assert chord(half, 0.0, 0.0) == pytest.approx(12.0, rel=1e-5)


def test_mitred_tube_has_no_double_counted_joint() -> None:
    bent = tubes(np.array([[-40.0, 0, 0], [0, 0, 0], [30, 0, 30]]), 5.0, 5.0, up=(0, 1, 0))
    for x in np.linspace(-10, 4, 29):  # along the centre line across the joint the chord stays one diameter
        assert chord(bent, x, max(0.0, x)) == pytest.approx(10.0, rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_chord_of_any_solid_is_the_integral_of_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = rotation(*rng.uniform(-180, 180, 3))
    solids = join([
        ellipsoids(rng.uniform(-5, 5, 3), rng.uniform(6, 20, 3), turn).clipped(tuple(turn[0]), 1.0),
        tubes(rng.uniform(-20, 20, (3, 3)), 6.0, 3.0, up=(0.3, 0.2, 1)),
    ]).turned(rotation(*rng.uniform(-20, 20, 3)))  # fmt: skip
    for x, z in rng.uniform(-8, 8, (6, 2)):
        y = np.linspace(-60, 60, 24_001)
        inside = solids.inside(np.stack([np.full_like(y, x), y, np.full_like(y, z)], axis=1))
        assert chord(solids, x, z) == pytest.approx(inside.sum() * (y[1] - y[0]), abs=0.03)


def test_union_counts_overlap_once() -> None:
    enter = np.array([0.0, 2, 10, 5], np.float32)[:, None, None]
    leave = np.array([3.0, 6, 12, 4], np.float32)[:, None, None]  # the last one is empty
    assert union_length(enter, leave)[0, 0] == pytest.approx(8.0)


def test_part_in_a_region_counts_there_only() -> None:
    scene = Scene(ellipsoids([0, 0, 0], [50, 50, 50]))
    scene.regions["hole"] = Region(ellipsoids([0, 0, 0], [30, 30, 30]), ellipsoids([0, 5, 0], [10, 10, 10]), -0.7)
    scene.add(ellipsoids([0, 20, 0], [15, 15, 15]), 0.5, "hole")
    view = View(5, 4.0)
    found = thickness(scene, view)[2, 2]
    expected, _ = quad(
        lambda y: float(scene.density(np.array([[0.0, y, 0.0]]))[0]),
        -60,
        60,
        points=[-30, -5, 5, 15, 30, 35, -50, 50],
        limit=200,
    )
    assert found == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(100 - 0.7 * (60 - 20) + 0.5 * 15, rel=1e-4)


@pytest.mark.parametrize("index", [0, 3, 9])
def test_radiograph_is_the_projection_of_the_volume(index: int) -> None:
    """The whole scene, findings and all, sampled as a thin volume along the rays, gives the same picture."""
    study = sample_study("test", index, index, seed=5)
    assert study.scene is not None
    view = sample_view(study.body, 12, study.rng)
    exact = thickness(study.scene, view)
    x, z = view.grid()
    y = np.arange(-330, 330, 1.0) + 0.5
    rows = [4, 8]
    points = np.stack(np.meshgrid(z[rows], x, y, indexing="ij"), axis=-1).reshape(-1, 3)[:, [1, 2, 0]]
    density = study.scene.density(points @ rotation(*view.turn))  # world to patient: the inverse rotation, row vectors
    summed = density.reshape(len(rows), len(x), len(y)).sum(axis=-1)
    assert np.abs(summed - exact[rows]).mean() < 0.9  # the volume is sampled every 1 mm
    assert np.abs(summed - exact[rows]).max() < 6.0
    assert exact.max() > 150


def test_density_is_never_that_of_less_than_nothing() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform((-160, -140, -160), (160, 120, 160), (1500, 3))
    for index in range(4):
        scene = sample_study("test", index, index, seed=2).scene
        assert scene is not None
        assert scene.density(points).min() > -0.7


def test_every_split_and_finding_can_be_drawn() -> None:
    seen = {f.name for split in SPLITS for i in range(120) for f in sample_study(split, i, i, 0, scene=False).findings}
    assert seen == set(NAMES)


def test_a_rare_finding_leaves_training_and_nothing_else_moves() -> None:
    """A tenth of its training studies keep it; the test split and all other findings stay as they are."""
    rare = {"edema": 0.1, "nodule": 0.0}
    for split in SPLITS:
        pairs = [
            [sample_study(split, i, i, 0, scene=False, rare=of) for of in (None, rare)] for i in range(400)
        ]  # fmt: skip
        count = {name: [sum(any(f.name == name for f in study.findings) for study in side)
                        for side in zip(*pairs, strict=True)] for name in SEEN}  # fmt: skip
        for name, (plain, thin) in count.items():
            assert thin == plain or (split != "test" and name in rare)
        if split != "test":
            assert count["nodule"][1] == 0 and 0 < count["edema"][1] < 0.3 * count["edema"][0]
        for plain, thin in pairs:
            assert {f.name for f in plain.findings} - {f.name for f in thin.findings} <= set(rare)
            assert (plain.body.age, plain.body.sex) == (thin.body.age, thin.body.sex)
