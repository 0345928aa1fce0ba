"""Statistics against scikit-learn, replicate by replicate, and against simulated data with a known answer."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as reference
from sklearn.metrics import f1_score, matthews_corrcoef

from radz.metrics import bootstrap, ranking
from radz.metrics.ranking import Ranking, auroc, average_precision, best_f1, undefined_reason


def column(seed: int, n: int = 200, levels: int = 12, unknown: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Tied scores that carry some signal, with a share of unknown labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(float)
    scores = np.round((rng.normal(size=n) + labels) * levels / 8) / levels
    labels[rng.random(n) < unknown] = np.nan
    return labels, scores


def reference_best_f1(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Every threshold tried with scikit-learn's own F1."""
    return max(
        ((t, reference.f1_score(labels, scores >= t, sample_weight=weights)) for t in np.unique(scores)),
        key=lambda pair: (round(pair[1], 12), pair[0]),
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighted", [False, True])
def test_points_equal_scikit_learn(seed: int, weighted: bool) -> None:
    labels, scores = column(seed)
    weights = np.random.default_rng(seed).random(len(labels)) if weighted else None
    known = np.isfinite(labels)
    y, s, w = labels[known], scores[known], None if weights is None else weights[known]
    assert auroc(labels, scores, weights) == pytest.approx(
        reference.roc_auc_score(y, s, sample_weight=w), rel=0, abs=1e-10
    )
    expected = reference.average_precision_score(y, s, sample_weight=w)
    assert average_precision(labels, scores, weights) == pytest.approx(expected, rel=0, abs=1e-10)
    at = Ranking(labels, scores).measure(np.ones((1, len(labels))) if weights is None else weights[None], None, [0.1])
    expected = reference.f1_score(y, s >= 0.1, sample_weight=w)
    assert at.fixed.f1[0, 0] == pytest.approx(expected, rel=0, abs=1e-10)
    assert best_f1(labels, scores, weights) == pytest.approx(reference_best_f1(y, s, w), rel=0, abs=1e-10)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=25))
def test_small_cases_equal_scikit_learn(rows: list[tuple[int, int, int]]) -> None:
    """Heavy ties and zero weights, the cases in which group ends are easily taken wrongly."""
    labels, scores, weights = (np.array(values, dtype=float) for values in zip(*rows, strict=True))
    drawn = weights > 0
    if len(set(labels[drawn])) < 2:
        assert np.isnan(auroc(labels, scores, weights))
        assert np.isnan(best_f1(labels, scores, weights)).all()
        return
    y, s, w = labels[drawn], scores[drawn], weights[drawn]
    assert auroc(labels, scores, weights) == pytest.approx(reference.roc_auc_score(y, s, sample_weight=w), abs=1e-10)
    expected = reference.average_precision_score(y, s, sample_weight=w)
    assert average_precision(labels, scores, weights) == pytest.approx(expected, abs=1e-10)
    assert best_f1(labels, scores, weights)[1] == pytest.approx(reference_best_f1(y, s, w)[1], abs=1e-10)
    false, true, _ = reference.roc_curve(y, s, sample_weight=w, drop_intermediate=False)
    measures = Ranking(labels, scores).measure(weights[None], thresholds=(-1.0, 0.0, 1.5, 4.0, 9.0))
    assert measures.sensitivity[0] == pytest.approx(true[false <= 0.1 + 1e-12].max(), abs=1e-10)
    for place, threshold in enumerate((-1.0, 0.0, 1.5, 4.0, 9.0)):
        called = s >= threshold
        assert measures.fixed.accuracy[0, place] == pytest.approx(
            reference.accuracy_score(y, called, sample_weight=w), abs=1e-10
        )
        expected = reference.matthews_corrcoef(y, called, sample_weight=w)
        assert measures.fixed.mcc[0, place] == pytest.approx(expected, abs=1e-10)
        expected = reference.f1_score(y, called, sample_weight=w, zero_division=0.0)
        assert measures.fixed.f1[0, place] == pytest.approx(expected, abs=1e-10)


def test_every_replicate_equals_resampled_scikit_learn() -> None:
    """Each replicate is rebuilt by repeating rows, and scored by scikit-learn; patients have several rows."""
    replicates, patients = 40, np.random.default_rng(1).integers(0, 35, size=120)
    columns = [column(seed, n=120) for seed in range(3)]
    rankings = [Ranking(y, s) for y, s in columns]
    got = bootstrap.bootstrap(rankings, patients, [[0.05]] * 3, replicates, seed=7)
    names = pd.unique(patients)
    counts = bootstrap.draw(np.random.default_rng(7), len(names), replicates)
    assert (counts.sum(axis=1) == len(names)).all()
    for r in range(replicates):
        rows = np.concatenate(
            [np.repeat(np.flatnonzero(patients == p), c) for p, c in zip(names, counts[r], strict=True)]
        )
        for (labels, scores), measures in zip(columns, got, strict=True):
            y, s = labels[rows], scores[rows]
            y, s = y[np.isfinite(y)], s[np.isfinite(y)]
            assert measures.auroc[r] == pytest.approx(reference.roc_auc_score(y, s), abs=1e-12)
            assert measures.auprc[r] == pytest.approx(reference.average_precision_score(y, s), abs=1e-12)
            assert measures.fixed.f1[r, 0] == pytest.approx(reference.f1_score(y, s >= 0.05), abs=1e-12)
            assert measures.best_f1[r] == pytest.approx(reference_best_f1(y, s)[1], abs=1e-12)
            assert measures.fixed.mcc[r, 0] == pytest.approx(reference.matthews_corrcoef(y, s >= 0.05), abs=1e-12)


def test_pooled_equals_scikit_learn_on_all_cells() -> None:
    columns = [column(seed, n=90) for seed in range(3)]
    labels, scores = (np.stack(side, axis=1) for side in zip(*columns, strict=True))
    patients = np.arange(90) // 2
    counts = bootstrap.draw(np.random.default_rng(2), 45, 5)
    got = Ranking.pooled(labels, scores).measure(counts, patients)
    known = np.isfinite(labels)
    for r in range(5):
        weight = np.repeat(counts[r][patients][:, None], 3, axis=1)[known]
        assert got.auroc[r] == pytest.approx(
            reference.roc_auc_score(labels[known], scores[known], sample_weight=weight), abs=1e-10
        )
        expected = reference.average_precision_score(labels[known], scores[known], sample_weight=weight)
        assert got.auprc[r] == pytest.approx(expected, abs=1e-10)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = column(0)
    patients, ranking = np.arange(len(labels)), [Ranking(labels, scores)]
    whole = bootstrap.bootstrap(ranking, patients, [[0.5]], 50, seed=3)[0]
    monkeypatch.setattr(bootstrap, "_CHUNK", 3 * len(labels))
    parts = bootstrap.bootstrap(ranking, patients, [[0.5]], 50, seed=3)[0]
    fewer = bootstrap.bootstrap(ranking, patients, [[0.5]], 20, seed=3)[0]
    other = bootstrap.bootstrap(ranking, patients, [[0.5]], 50, seed=4)[0]
    assert np.array_equal(whole.auroc, parts.auroc) and np.array_equal(whole.fixed.f1, parts.fixed.f1)
    assert np.array_equal(whole.auroc[:20], fewer.auroc)
    assert not np.array_equal(whole.auroc, other.auroc)


def test_intervals_do_not_depend_on_the_salt_of_the_hashes() -> None:
    rng = np.random.default_rng(0)
    patients, labels, scores = rng.integers(0, 20, 60), rng.integers(0, 2, 60).astype(float), rng.random(60)
    ranking = [Ranking(labels, scores)]
    found = [
        bootstrap.bootstrap(ranking, np.array([names[p] for p in patients]), [[0.5]], 30, seed=1)[0].auroc
        for names in (rng.permutation(20).astype(str), [f"{hash((p, 3)):x}" for p in range(20)])
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "no known label"),
        ([np.nan, np.nan], "no known label"),
        ([0, 0, np.nan], "no positive among 2 known labels"),
        ([1, 1], "no negative among 2 known labels"),
    ],
)
def test_undefined_is_nan_with_a_reason(labels: list[float], reason: str) -> None:
    scores = np.linspace(0, 1, len(labels))
    assert undefined_reason(labels) == reason
    values = [auroc(labels, scores), average_precision(labels, scores)]
    at = Ranking(labels, scores).measure(np.ones((1, len(labels))), thresholds=[0.5])
    values += [*best_f1(labels, scores), at.fixed.f1[0, 0]]
    assert np.isnan(values).all()
    with pytest.raises(ValueError, match=reason):
        ranking.roc_curve(labels, scores)


def test_equal_scores_are_chance() -> None:
    labels = np.array([1.0, 0, 0, 0])
    assert auroc(labels, np.full(4, 0.3)) == 0.5
    assert average_precision(labels, np.full(4, 0.3)) == 0.25
    assert best_f1(labels, np.full(4, 0.3)) == (0.3, pytest.approx(0.4))


def test_single_class_replicates_are_left_out_and_counted() -> None:
    """One positive among 20 patients is missing from about (19/20)^20 = 36 % of the resamples."""
    labels = np.r_[1.0, np.zeros(19)]
    measures = bootstrap.bootstrap(
        [Ranking(labels, np.linspace(1, 0, 20))], np.arange(20), [[]], replicates=1000, seed=0
    )[0]
    low, high, undefined = bootstrap.interval(measures.auroc)
    assert (low, high) == (1.0, 1.0)
    assert undefined == np.isnan(measures.best_f1).sum() and 300 < undefined < 420
    assert np.isnan(bootstrap.interval([np.nan, np.nan])[:2]).all()


def test_interval_is_the_percentile_interval_and_macro_skips_undefined() -> None:
    samples = np.random.default_rng(0).normal(size=1000)
    assert bootstrap.interval(samples)[:2] == pytest.approx(tuple(np.percentile(samples, [2.5, 97.5])))
    got = bootstrap.macro([[1.0, np.nan, np.nan], [0.5, 0.25, np.nan]])
    assert got[:2] == pytest.approx([0.75, 0.25]) and np.isnan(got[2])


def test_roc_curve_equals_scikit_learn() -> None:
    labels, scores = column(2)
    known = np.isfinite(labels)
    fpr, tpr, thresholds = ranking.roc_curve(labels, scores)
    expected = reference.roc_curve(labels[known], scores[known], drop_intermediate=False)
    assert np.interp(expected[0], fpr, tpr)[0] == 0
    assert set(zip(fpr, tpr, strict=True)) <= set(zip(expected[0], expected[1], strict=True))
    assert np.trapezoid(tpr, fpr) == pytest.approx(auroc(labels, scores), abs=1e-12)
    assert thresholds[0] == np.inf and (np.diff(thresholds) < 0).all()


def test_bad_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Ranking([1, 0], [0.1, np.nan])
    with pytest.raises(ValueError, match="one length"):
        Ranking([1, 0], [0.1])
    with pytest.raises(ValueError, match="0 or 1"):
        Ranking([1, 2], [0.1, 0.2])


def test_a_thousand_replicates_take_seconds() -> None:
    """1,000 rows x 14 findings x 5 scorers; the bound is loose for a busy machine (about 2 s when idle)."""
    rng = np.random.default_rng(0)
    labels = (rng.random((1000, 14)) < 0.15).astype(float)
    rankings = [Ranking(labels[:, c], rng.random(1000)) for _ in range(5) for c in range(14)]
    start = time.process_time()
    bootstrap.bootstrap(rankings, np.arange(1000), [[0.5, 0.4]] * len(rankings), 1000, seed=0)
    assert time.process_time() - start < 20


def coverage(repetitions: int, patients: int, each: int, replicates: int, shared: float) -> dict[str, float]:
    """How often 95 % intervals of AUROC hold the truth, by patient and by row, on binormal scores.

    `shared` is the share of the variance that the rows of a patient have in common; the marginal law stays the same.
    """
    rng, truth = np.random.default_rng(0), float(norm.cdf(1.0 / np.sqrt(2)))
    hit = {"patient": 0, "row": 0}
    for run in range(repetitions):
        label = np.repeat(rng.random(patients) < 0.4, each)
        own = np.sqrt(1 - shared) * rng.normal(size=label.size)
        noise = np.sqrt(shared) * np.repeat(rng.normal(size=patients), each) + own
        ranking = [Ranking(label.astype(float), noise + label)]
        for unit, codes in (("patient", np.repeat(np.arange(patients), each)), ("row", np.arange(label.size))):
            low, high, _ = bootstrap.interval(bootstrap.bootstrap(ranking, codes, [[]], replicates, seed=run)[0].auroc)
            hit[unit] += low <= truth <= high
    return {unit: count / repetitions for unit, count in hit.items()}


def test_interval_by_patient_covers_where_that_by_row_does_not() -> None:
    """In small; the slow tests below hold the bounds that are promised."""
    found = coverage(60, 60, 6, 150, shared=0.8)
    assert found["patient"] >= 0.85 and found["row"] < 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "each", "shared"), [(400, 1, 0.0), (300, 4, 0.8)])
def test_nominal_intervals_cover(patients: int, each: int, shared: float) -> None:
    """500 repetitions, rows apart and rows clustered in patients."""
    found = coverage(500, patients, each, 1000, shared)
    assert 0.93 <= found["patient"] <= 0.97
    assert found["row"] < 0.85 if each > 1 else 0.93 <= found["row"] <= 0.97


def test_no_warning_reaches_the_user() -> None:
    labels, scores = column(3, n=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bootstrap.bootstrap([Ranking(labels, scores)], np.arange(30), [[0.5]], 200, seed=0)


def test_counts_of_a_resample_without_positives_still_add_up() -> None:
    """Alone they have no F1; with those of another finding they are the counts over all its rows."""
    rare = Ranking([1, 0, 0, 0], [0.9, 0.8, 0.2, 0.1])
    common = Ranking([1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1])
    weights = np.array([[1, 1, 1, 1], [0, 2, 1, 1], [4, 0, 0, 0]])
    one, two = (ranking.measure(weights, thresholds=(0.5,)) for ranking in (rare, common))
    assert np.isnan(one.fixed.f1[:, 0]).tolist() == np.isnan(one.best_f1).tolist() == [False, True, True]
    assert one.best.called[:, 0].tolist() == [1, 0, 4]
    together = one.fixed + two.fixed
    for row, weight in enumerate(weights):
        labels = np.repeat([1, 0, 0, 0, 1, 1, 0, 0], np.tile(weight, 2))
        called = np.repeat([1, 1, 0, 0, 1, 0, 1, 0], np.tile(weight, 2))
        if 0 < labels.sum() < len(labels):
            assert together.f1[row, 0] == pytest.approx(f1_score(labels, called))
            assert together.accuracy[row, 0] == pytest.approx((labels == called).mean())
            assert together.mcc[row, 0] == pytest.approx(matthews_corrcoef(labels, called))
        else:
            assert np.isnan([together.f1[row, 0], together.accuracy[row, 0], together.mcc[row, 0]]).all()
