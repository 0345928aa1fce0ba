"""Distances of pictures: against scipy and scikit-learn, and what is foreign on drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from radz.models.appearance import VECTORS, Appearance, Pictures, areas, greys, shape, vectors

RNG = np.random.default_rng(0)
SIZE = 64


def chests(count: int) -> Pictures:
    """Two dark lungs in a bright body, of varying place and exposure."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    made = []
    for _ in range(count):
        left, right, top = RNG.normal([0.3, 0.7, 0.45], 0.02)
        body = 170 * (np.abs(x - 0.5) < 0.42)
        lungs = sum((((x - at) / 0.13) ** 2 + ((y - top) / 0.3) ** 2 < 1) for at in (left, right))
        picture = (body - 110 * lungs) * RNG.uniform(0.8, 1.2) + RNG.normal(30, 4, (SIZE, SIZE))
        made.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(made)


@pytest.fixture(scope="module")
def training() -> Pictures:
    return chests(300)


@pytest.fixture(scope="module")
def validation() -> Pictures:
    return chests(120)


@pytest.fixture(scope="module")
def fitted(training: Pictures, validation: Pictures) -> Appearance:
    return Appearance.fit(vectors(training), vectors(validation), np.arange(len(validation)))


def farthest(model: Appearance, pictures: Pictures) -> list[float]:
    return [model.farthest(one[None])[0] for one in pictures]


@pytest.mark.parametrize("name", VECTORS)
def test_a_distance_is_that_of_mahalanobis(
    fitted: Appearance, training: Pictures, validation: Pictures, name: str
) -> None:
    vector, part = VECTORS[name], fitted.parts[name]
    known = LedoitWolf().fit(vector(training))
    inverse = np.linalg.inv(known.covariance_)
    expected = np.log([mahalanobis(row, known.location_, inverse) for row in vector(validation)])
    middle = np.median(expected)
    expected = (expected - middle) / (1.4826 * np.median(np.abs(expected - middle)))
    np.testing.assert_allclose(part.distances(vector(validation)), expected, atol=5e-3)


def test_the_limit_leaves_one_study_in_a_hundred_beyond(fitted: Appearance, validation: Pictures) -> None:
    found = np.array(farthest(fitted, validation))
    assert (found > fitted.limit).sum() == 1 and fitted.studies == 120
    assert fitted.beyond == "99 % of 120 validation studies"
    assert Appearance(fitted.parts, 1.0, 100).beyond == "all 100 validation studies"


def test_a_study_is_as_far_as_its_farthest_picture(training: Pictures, validation: Pictures) -> None:
    """Studies of two pictures each: fewer numbers, and the limit is that of the study's farthest."""
    study = np.repeat(np.arange(60), 2)
    model = Appearance.fit(vectors(training), vectors(validation), study)
    each = np.array(farthest(model, validation)).reshape(60, 2).max(1)
    assert model.studies == 60 and model.limit == pytest.approx(each.max())
    assert model.farthest(validation[:2])[0] == pytest.approx(each[0])


def foreign(pictures: Pictures) -> dict[str, Pictures]:
    return {
        "inverted": 255 - pictures,
        "turned": np.rot90(pictures, axes=(1, 2)).copy(),
        "noise": RNG.integers(0, 256, pictures.shape).astype(np.uint8),
        "nearly blank": RNG.normal(120, 3, pictures.shape).astype(np.uint8),
        "overexposed": np.clip(pictures * 3.0, 0, 255).astype(np.uint8),
        "underexposed": (pictures * 0.15).astype(np.uint8),
    }


def test_foreign_pictures_are_farther_than_those_of_a_test(fitted: Appearance) -> None:
    pictures = chests(60)
    own = farthest(fitted, pictures)
    for kind, made in foreign(pictures).items():
        found = farthest(fitted, made)
        assert roc_auc_score([0] * 60 + [1] * 60, own + found) > 0.99, kind
        assert np.mean(np.array(found) > fitted.limit) > 0.95, kind


def test_shape_is_the_same_whatever_the_exposure(training: Pictures) -> None:
    dim = np.clip(training[:5] * 0.5 + 10, 0, 255).astype(np.uint8)
    assert np.abs(shape(training[:5]) - shape(dim)).max() < 0.05 < np.abs(areas(training[:5]) - areas(dim)).max()


def test_grey_levels_by_hand() -> None:
    picture = np.zeros((1, 16, 16), np.uint8)
    picture[:, :, 8:] = 255  # one step of 255 in each of 15 gaps of a row, none in a column
    found = greys(picture)[0]
    assert found[:5].tolist() == [0] * 5 and found[5:10].tolist() == [255] * 5
    assert found[10:] == pytest.approx([127.5, 127.5, 0, 50 * np.log1p(255 / 15)])
    assert areas(picture)[0].reshape(16, 16)[3].tolist() == [0] * 8 + [255] * 8
