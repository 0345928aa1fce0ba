"""DeLong's variance and test against published numbers, a definition by pairs, and Holm against its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, norm
from sklearn.metrics import roc_auc_score

from radz.metrics.delong import delong, holm

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
    assert np.isnan(found.p_value()) or 0 <= found.p_value() <= 1


def test_without_spread_there_is_no_p() -> None:
    truth = np.array([1, 0, 1, 0, 0, np.nan, 1])
    scores = np.array([0.3, 0.1, 0.8, 0.2, 0.4, np.nan, 0.1])
    assert np.isnan(delong(truth, [scores, scores**3]).p_value())
    assert np.isnan(delong(truth, [np.r_[1, 0, 1, 0, 0, 0, 1.0], np.r_[0, 1, 0, 1, 1, 0, 0.0]]).p_value())
    with pytest.raises(ValueError, match="finite"):
        delong([1, 0, 1, 0], [[0.1, np.nan, 0.2, 0.3]])


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


def clustered(seed: int) -> tuple[np.ndarray, ...]:
    """Labels, two tied scorers and patients of one to many rows that may have both classes."""
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 15, 60)
    labels = (rng.random(60) < 0.4).astype(float)
    scores = [np.round(rng.normal(size=15)[patients] + rng.normal(size=60) + labels, 1) for _ in range(2)]
    return labels, *scores, patients


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_a_patient_go_together_as_obuchowski_has_it(seed: int) -> None:
    """His sums over pairs and patients, written out."""
    labels, first, second, patients = clustered(seed)
    found = delong(labels, [first, second], [f"patient {number}" for number in patients])
    ones, zeros = labels == 1, labels == 0
    m, n = ones.sum(), zeros.sum()
    wins = [(s[ones][:, None] > s[zeros]) + 0.5 * (s[ones][:, None] == s[zeros]) for s in (first, second)]
    sums = [
        np.array([[(w.mean(axis=1) - w.mean())[patients[ones] == p].sum() for p in range(15)],
                  [(w.mean(axis=0) - w.mean())[patients[zeros] == p].sum() for p in range(15)]])
        for w in wins
    ]  # fmt: skip
    i10, i01, i = (len(set(patients[rows])) for rows in (ones, zeros, slice(None)))
    for a in range(2):
        for b in range(2):
            s10 = i10 / ((i10 - 1) * m) * (sums[a][0] * sums[b][0]).sum()
            s01 = i01 / ((i01 - 1) * n) * (sums[a][1] * sums[b][1]).sum()
            s11 = i / (i - 1) * (sums[a][0] * sums[b][1] + sums[a][1] * sums[b][0]).sum()
            assert found.covariance[a, b] == pytest.approx(s10 / m + s01 / n + s11 / (m * n), abs=1e-12)


def test_one_row_a_patient_is_delong_itself() -> None:
    labels, first, second, _ = clustered(0)
    plain, by_patient = delong(labels, [first, second]), delong(labels, [first, second], np.arange(60)[::-1])
    np.testing.assert_allclose(by_patient.covariance, plain.covariance, rtol=0, atol=1e-15)
    assert by_patient.p_value() == pytest.approx(plain.p_value(), abs=1e-14)


def test_variance_of_a_difference_is_that_of_the_jackknife_and_of_resamples_by_patient() -> None:
    """200 patients of three images, most of the noise the patient's: an independent way to the same spread."""
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(200), 3)
    labels = np.repeat(rng.random(200) < 0.4, 3).astype(float)
    scores = [1.5 * np.repeat(rng.normal(size=200), 3) + rng.normal(size=600) + labels for _ in range(2)]

    def gap(rows: np.ndarray) -> float:
        one = labels[rows] == 1
        first, second = ((s[rows][one][:, None] > s[rows][~one]).mean() for s in scores)
        return float(first - second)

    c = delong(labels, scores, patients).covariance
    variance = c[0, 0] + c[1, 1] - 2 * c[0, 1]
    without = np.array([gap(patients != p) for p in range(200)])
    assert variance == pytest.approx(199 / 200 * ((without - without.mean()) ** 2).sum(), rel=0.05)
    of = [np.flatnonzero(patients == p) for p in range(200)]
    drawn = [gap(np.concatenate([of[p] for p in rng.integers(200, size=200)])) for _ in range(300)]
    assert variance == pytest.approx(np.var(drawn), rel=0.25)
    by_row = delong(labels, scores).covariance
    assert by_row[0, 0] + by_row[1, 1] - 2 * by_row[0, 1] < variance / 2


def test_one_patient_of_a_class_shows_no_spread() -> None:
    labels, scores = np.array([1.0, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.3, 0.4, 0.1])
    with pytest.raises(ValueError, match="two patients of each class, there are 1 positive and 2 negative"):
        delong(labels, [scores], ["a", "a", "a", "b", "c"])


@pytest.mark.parametrize(("images", "by_row"), [(3, 0.15), (9, 0.35)])
def test_p_holds_its_level_with_several_images_a_patient(images: int, by_row: float) -> None:
    """No true difference: by patient about 5 % lie below .05 (bounds: 4 standard errors), by row many more."""
    rng, patients, below = np.random.default_rng(images), np.repeat(np.arange(150), images), np.zeros(2)
    for _ in range(400):
        labels = np.repeat(rng.random(150) < 0.3, images).astype(float)
        scores = [np.repeat(2 * rng.normal(size=150), images) + rng.normal(size=150 * images) + labels for _ in "ab"]
        below += [delong(labels, scores, codes).p_value() < 0.05 for codes in (patients, None)]
    assert 0.01 <= below[0] / 400 <= 0.095 and below[1] / 400 > by_row
