"""Platt's fit, Brier score and calibration error against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from radz.metrics.calibration import BINS, Calibration, Platt, fit


def column(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.25).astype(float)
    return labels, 0.5 + 0.01 * np.tanh(rng.normal(size=n) + labels)


@pytest.mark.parametrize("seed", range(3))
def test_fit_is_that_of_scikit_learn(seed: int) -> None:
    """Platt's targets are rows of either class, weighted."""
    labels, scores = column(seed)
    ones, zeros = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    x = np.r_[scores, scores][:, None] * 100
    theirs = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000, solver="newton-cholesky")
    theirs.fit(x, np.repeat([1, 0], len(scores)), sample_weight=np.r_[target, 1 - target])
    assert fit(labels, scores)(scores) == pytest.approx(theirs.predict_proba(x)[: len(scores), 1], abs=1e-7)


def test_fit_is_the_optimum_and_stays_finite() -> None:
    for labels, scores in (column(4), (np.r_[np.zeros(9), np.ones(3)], np.linspace(0.4, 0.6, 12))):
        found = fit(np.r_[labels, np.nan], np.r_[scores, 0.9])
        ones, zeros = (labels == 1).sum(), (labels == 0).sum()
        target = np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
        off = found(scores) - target
        assert abs(off.sum()) < 1e-8 and abs((off * scores).sum()) < 1e-8 and np.isfinite(found.slope)


@pytest.mark.parametrize(
    ("labels", "scores", "reason"), [([1, 1], [0, 1], "one class"), ([1, 0], [0.5, 0.5], "all scores are equal")]
)
def test_no_fit(labels: list[float], scores: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit(labels, scores)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=60))
def test_errors_equal_scikit_learn(rows: list[tuple[int, int]]) -> None:
    labels, level = (np.array(values, dtype=float) for values in zip(*rows, strict=True))
    p = Platt(0.7, -3.0)(level)
    found = Calibration(labels, p)
    brier, error = found.brier(np.ones((1, len(p)), dtype=np.int32)), found.error
    assert brier[0] == pytest.approx(np.mean((p - labels) ** 2), abs=1e-12)
    if len(set(labels)) == 2:
        assert brier[0] == pytest.approx(brier_score_loss(labels, p), abs=1e-12)
    true, mean = calibration_curve(labels, p, n_bins=BINS, strategy="quantile")
    size, ours_mean, ours_true = (np.array(values) for values in zip(*found.curve(), strict=True))
    assert ours_true == pytest.approx(true, abs=1e-12) and ours_mean == pytest.approx(mean, abs=1e-12)
    assert error == pytest.approx((size * np.abs(true - mean)).sum() / len(p), abs=1e-12)


def test_weights_repeat_rows_by_patient() -> None:
    labels, scores = column(5, 120)
    labels[::7] = np.nan
    p, patients = fit(labels, scores)(scores), np.arange(120) // 3
    counts = np.random.default_rng(0).integers(0, 3, (20, 40)).astype(np.int32)
    one = Calibration(labels, p, patients)
    brier = one.brier(counts)
    known = np.isfinite(labels)
    for r in range(20):
        weight = counts[r][patients[known]]
        off = p[known] - labels[known]
        assert brier[r] == pytest.approx(np.average(off**2, weights=weight), abs=1e-12)
    assert np.isnan(one.brier(np.zeros((1, 40), dtype=np.int32))).all()
    both = Calibration.joined([one, one])
    assert both.brier(counts) == pytest.approx(brier, abs=1e-12)
