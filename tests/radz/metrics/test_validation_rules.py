"""What validation says of scores: what is kept, what is missing and why, and that it comes back from JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from radz.metrics.score_table import ScoreTable
from radz.metrics.split_results import calibrations_from, thresholds_from
from radz.metrics.validation_rules import Rules

NAMES = ("edema", "mass", "nodule", "fracture", "scoliosis")


@pytest.fixture
def table() -> ScoreTable:
    """edema has 4 positives of 10; mass none; nodule no negative; fracture no label; scoliosis equal scores."""
    labels = np.full((12, 5), np.nan, dtype=np.float32)
    labels[:10, 0] = [1, 0, 1, 0, 0, 1, 0, 0, 1, 0]
    labels[:, 1], labels[:3, 2], labels[:, 4] = 0, 1, [0, 1] * 6
    scores = np.random.default_rng(0).random((12, 5)).astype(np.float32)
    scores[:, 4] = 0.25
    ids = [f"s{number}" for number in range(12)]
    unnamed = scores.copy()
    unnamed[:, 0] = np.nan
    both = {"prompt": scores, "anchor": unnamed}
    return ScoreTable("ours", "val", np.arange(12), ids, [""] * 12, ids, NAMES, labels, both)


def test_they_hold_thresholds_fits_and_counts(table: ScoreTable) -> None:
    rules = Rules.of(table, "chest_xray")
    assert (rules.split, rules.modality) == ("ours/val", "chest_xray")
    assert rules.support == {
        "edema": (4, 6),
        "mass": (0, 12),
        "nodule": (3, 0),
        "fracture": (0, 0),
        "scoliosis": (6, 6),
    }
    assert rules.thresholds == thresholds_from(table) and set(rules.thresholds["prompt"]) == {"edema"}
    assert rules.calibrations == calibrations_from(table) and set(rules.calibrations["prompt"]) == {"edema"}


def test_each_gap_has_its_reason(table: ScoreTable) -> None:
    rules = Rules.of(table, "chest_xray")
    for scorer, finding, why in (
        ("prompt", "mass", "no positive among 12 known labels in ours/val"),
        ("prompt", "nodule", "no negative among 3 known labels in ours/val"),
        ("prompt", "fracture", "no known label in ours/val"),
        ("prompt", "scoliosis", "all 12 scores are equal in ours/val"),
        ("prompt", "swallowed coin", "no label column in ours/val"),
        ("anchor", "edema", "scorer not available for this finding in ours/val"),
        ("fused", "edema", "ours/val was not scored by fused"),
    ):
        assert rules.why_not(scorer, finding) == why
    old = Rules("ours/val", "chest_xray", {"prompt": {"edema": 0.5}}, {}, {}, {})
    assert "earlier radz" in old.why_not("prompt", "edema")


def test_they_come_back_from_json_bit_for_bit(table: ScoreTable) -> None:
    rules = Rules.of(table, "chest_ct")
    assert Rules.read(json.loads(json.dumps(rules.plain(), allow_nan=False))) == rules
    for damage in (
        {"support": {"edema": [1]}},
        {"calibrations": {"prompt": {"edema": ["x", 1]}}},
        {"thresholds": None},
    ):
        with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
            Rules.read(rules.plain() | damage)
