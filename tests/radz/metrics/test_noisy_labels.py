"""Doubted labels: planted flips are found, nothing is learned from the study itself, unknown stays unknown."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radz.metrics.noisy_labels import out_of_fold, suspicion


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Features [600, 12], labels [600, 2] with a tenth flipped, where, and two studies of each patient."""
    rng = np.random.default_rng(3)
    truth = (rng.random((600, 2)) < [0.3, 0.5]).astype(float)
    features = rng.normal(size=(600, 12)).astype(np.float32)
    features[:, :2] += 3 * truth.astype(np.float32)
    flipped = rng.random(truth.shape) < 0.1
    return features, np.where(flipped, 1 - truth, truth), flipped, [i // 2 for i in range(600)]


def test_flips_are_ranked_first(planted: tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]) -> None:
    features, labels, flipped, groups = planted
    doubts, off = suspicion(out_of_fold(features, labels, groups), labels)
    for k in range(2):
        assert roc_auc_score(flipped[:, k], doubts[:, k]) > 0.93
        assert off[flipped[:, k], k].mean() > 0.5 > 10 * off[~flipped[:, k], k].mean()


def test_no_study_is_judged_by_its_own_patient() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 1)) < 0.5).astype(float)
    # Each patient has one vector of its own, twice: a regression that saw the other study would know the label.
    features = np.repeat(rng.normal(size=(100, 300)).astype(np.float32), 2, axis=0)
    labels = np.repeat(labels[::2], 2, axis=0)
    groups = [i // 2 for i in range(200)]
    assert abs(roc_auc_score(labels[:, 0], out_of_fold(features, labels, groups)[:, 0]) - 0.5) < 0.15
    assert roc_auc_score(labels[:, 0], out_of_fold(features, labels, list(range(200)))[:, 0]) > 0.9


def test_unknown_labels_and_rare_findings_have_no_suspicion() -> None:
    features = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    labels = np.zeros((60, 3))
    labels[:20, 0], labels[40:, 0], labels[:3, 1], labels[:, 2] = 1, np.nan, 1, np.nan
    probabilities = out_of_fold(features, labels, list(range(60)))
    doubts, off = suspicion(probabilities, labels)
    assert np.isnan(probabilities[40:, 0]).all() and not np.isnan(probabilities[:40, 0]).any()
    assert np.isnan(doubts[:, 1:]).all() and not off[:, 1:].any() and not off[40:, 0].any()


def test_expectations_of_the_classes_are_those_of_confident_learning() -> None:
    probabilities = np.array([[0.9], [0.7], [0.2], [0.1], [0.8], [0.3]])
    labels = np.array([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]])
    doubts, off = suspicion(probabilities, labels)
    present, absent = np.mean([0.9, 0.7, 0.2]), np.mean([0.9, 0.2, 0.7])  # expected p of present, 1 - p of absent
    assert off[:, 0].tolist() == [False, False, absent <= 0.8, False, present <= 0.8, False]
    assert doubts[4, 0] == pytest.approx((0.8 - present) - (0.2 - absent)) and doubts[:, 0].argmax() in (2, 4)
