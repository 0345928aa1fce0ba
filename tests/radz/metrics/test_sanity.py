"""Sanity checks against scikit-learn and planted faults."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radz.metrics import sanity
from radz.metrics.ranking import auroc


def drawn(seed: int, n: int = 120, findings: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores that follow their own finding, and labels with a tenth unknown."""
    draw = np.random.default_rng(seed)
    labels = (draw.random((n, findings)) < 0.3).astype(np.float32)
    scores = (0.3 + 0.3 * labels + 0.2 * draw.random((n, findings))).astype(np.float32).round(2)
    labels[draw.random(labels.shape) < 0.1] = np.nan
    return scores, labels


def test_auroc_equals_scikit_learn_with_ties_and_unknown_labels() -> None:
    scores, labels = drawn(0)
    for k in range(3):
        known = ~np.isnan(labels[:, k])
        expected = roc_auc_score(labels[known, k], scores[known, k])
        assert auroc(labels[:, k], scores[:, k]) == pytest.approx(expected, abs=1e-12)
    assert math.isnan(auroc(np.ones(120), scores[:, 0]))
    labels[:, 1] = 0
    assert sanity.macro(scores, labels) == pytest.approx(np.mean([auroc(labels[:, k], scores[:, k]) for k in (0, 2)]))
    assert math.isnan(sanity.macro(scores, np.zeros_like(labels)))


def test_a_sound_score_passes_and_each_fault_is_named() -> None:
    scores, labels = drawn(1)
    blank, prior = np.tile(np.float32([0.2, 0.3, 0.4]), (40, 1)), np.float32([0.3, 0.3, 0.3])
    sound = sanity.checks(scores, labels, blank, labels[:40], prior, seed=0)
    assert sanity.warnings(sound) == []
    assert sound["macro"] > 0.95 and sound["blank"] == 0.5 and sound["pooled_label_prior"] == 0.5
    assert sound["shuffled"]["low"] < 0.5 < sound["shuffled"]["high"] < 0.65
    assert sound["swapped"] == pytest.approx(0.5, abs=0.1)
    known = ~np.isnan(labels)
    assert sound["pooled"] == pytest.approx(roc_auc_score(labels[known], scores[known]), abs=1e-12)
    assert sound["pooled_text_prior"] == pytest.approx(
        roc_auc_score(labels[known], np.broadcast_to(blank[:1], labels.shape)[known]), abs=1e-12
    )
    # The same column for every finding: no prompt matters.
    alike = sanity.checks(np.repeat(scores[:, :1], 3, axis=1), labels, blank, labels[:40], None, seed=0)
    assert "prompts of other findings do as well" in sanity.warnings(alike) and alike["pooled_label_prior"] is None
    # Labels leak into the scores of blank images.
    leak = sanity.checks(scores, labels, np.nan_to_num(labels[:40]), labels[:40], prior, seed=0)
    assert any("blank images are ranked" in text for text in sanity.warnings(leak))
    noise = np.random.default_rng(5).random(scores.shape).astype(np.float32)
    assert "no better than with shuffled images" in sanity.warnings(
        sanity.checks(noise, labels, blank, labels[:40], prior, seed=0)
    )


def test_one_finding_has_nothing_to_swap_and_no_label_no_warning() -> None:
    scores, labels = drawn(2, findings=1)
    assert sanity.checks(scores, labels, scores[:5], labels[:5], None, 0)["swapped"] is None
    empty = sanity.checks(scores, np.zeros_like(labels), scores[:5], labels[:5] * 0, None, 0)
    assert empty["macro"] is None and sanity.warnings(empty) == []


def test_a_run_records_and_shows_them(trained_run: Path) -> None:
    result = json.loads((trained_run / "metrics.json").read_text())["results"]["phantom/test"]
    found = result["sanity"]
    assert found["scorer"] == "fused" and set(found["findings"]) <= set(result["primary"])
    assert found["blank"] == 0.5, "equal images must have equal scores whatever batch they are in"
    assert found["macro"] == pytest.approx(result["scorers"]["fused"]["macro"]["auroc"]["value"], abs=1e-9)
    assert "Sanity checks of fused" in (trained_run / "report.html").read_text()


def test_rounding_does_not_rank_blank_images() -> None:
    scores, labels = drawn(3)
    blank = np.full((40, 3), 0.25, np.float32) + 1e-7 * np.nan_to_num(labels[:40])
    assert sanity.checks(scores, labels, blank, labels[:40], None, 0)["blank"] == 0.5
