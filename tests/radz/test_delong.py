"""DeLong's variance and test against published numbers, a definition by pairs, and Holm against its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, norm, rankdata
from sklearn.metrics import roc_auc_score

from radz.scoring.delong import delong, holm, midranks

ASAH = Path(__file__).with_name("asah.csv")
"""113 patients with aneurysmal subarachnoid haemorrhage (Turck et al. 2010), the example data of R's pROC."""


def test_published_example_of_proc() -> None:
    """Robin et al. 2011 and the manual of pROC: AUC, 95 % interval of s100b, DeLong's test of wfns against s100b
    (Z = 2.209, p = 0.02718) and of s100b against ndka (p = 0.1643); the covariance stands in pROC's own tests."""
    data = pd.read_csv(ASAH)
    found = delong(data["poor_outcome"], [data[name] for name in ("wfns", "s100b", "ndka")])
    assert found.auroc.round(4).tolist() == [0.8237, 0.7314, 0.6120]
    assert np.round(found.interval(1), 4).tolist() == [0.6301, 0.8326]
    assert found.p_value(0, 1) == pytest.approx(0.02718, abs=5e-6)
    assert found.p_value(1, 2) == pytest.approx(0.1643, abs=5e-5)
    c = found.covariance
    z = (found.auroc[0] - found.auroc[1]) / np.sqrt(c[0, 0] + c[1, 1] - 2 * c[0, 1])
    assert z == pytest.approx(2.209, abs=5e-4) and 2 * norm.sf(z) == pytest.approx(found.p_value(0, 1), rel=1e-12)
    assert 1e4 * c[1, 2] == pytest.approx(-7.56164938056579, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=20))
def test_equals_the_definition_by_pairs(rows: list[tuple[bool, int, int]]) -> None:
    truth, *scores = (np.array(values, dtype=float) for values in zip(*rows, strict=True))
    if min(truth.sum(), (1 - truth).sum()) < 2:
        with pytest.raises(ValueError, match="two rows of each class"):
            delong(truth, scores)
        return
    found = delong(truth, scores)
    wins = [(s[truth == 1][:, None] > s[truth == 0]) + 0.5 * (s[truth == 1][:, None] == s[truth == 0]) for s in scores]
    over = [np.cov([w.mean(axis=axis) for w in wins]) / w.shape[1 - axis] for axis, w in ((1, wins[0]), (0, wins[0]))]
    assert found.covariance == pytest.approx(over[0] + over[1], abs=1e-12)
    assert found.auroc == pytest.approx([roc_auc_score(truth, s) for s in scores], abs=1e-12)
    assert np.array_equal(midranks(scores[0]), rankdata(scores[0]))
    assert 0 <= found.p_value() <= 1


def test_equal_rankings_do_not_differ() -> None:
    truth = np.array([1, 0, 1, 0, 0, np.nan, 1])
    scores = np.array([0.3, 0.1, 0.8, 0.2, 0.4, np.nan, 0.1])
    assert delong(truth, [scores, scores**3]).p_value() == 1.0
    assert delong(truth, [np.r_[1, 0, 1, 0, 0, 0, 1.0], np.r_[0, 1, 0, 1, 1, 0, 0.0]]).p_value() == 0.0
    with pytest.raises(ValueError, match="finite"):
        delong([1, 0, 1, 0], [[0.1, np.nan, 0.2, 0.3]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_equals_its_definition(p_values: list[float]) -> None:
    order = np.argsort(p_values, kind="stable")
    m = len(p_values)
    expected = [0.0] * m
    for step, place in enumerate(order):
        expected[place] = max(min(1.0, (m - k) * p_values[order[k]]) for k in range(step + 1))
    got = holm(p_values)
    assert got == pytest.approx(expected)
    if m:
        # Never more lenient than Benjamini and Hochberg's, as scipy has it.
        assert (np.array(got) >= false_discovery_control(p_values) - 1e-12).all()


def _coverage(repetitions: int) -> float:
    rng, truth, hit = np.random.default_rng(1), float(norm.cdf(1 / np.sqrt(2))), 0
    for _ in range(repetitions):
        label = rng.random(300) < 0.4
        low, high = delong(label, [rng.normal(size=300) + label]).interval()
        hit += low <= truth <= high
    return hit / repetitions


def test_interval_covers() -> None:
    assert 0.93 <= _coverage(500) <= 0.97
