"""Intervals of AUROC by patient: against formulas written out, at their edges, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import t

from radz.metrics import intervals
from radz.metrics.delong import Parts, parts
from radz.metrics.estimates import Estimates, mean_of_seeds
from radz.metrics.score_table import ScoreTable
from radz.multirun.ablation.arm_scores import ArmScores
from radz.multirun.paper.sections import SetScores


def cell(positives: int, rows: int, shift: float, seed: int = 0, each: int = 1) -> Parts:
    rng = np.random.default_rng(seed)
    labels = (np.arange(rows) < positives).astype(float)
    return parts(labels, rng.normal(size=rows) + shift * labels, np.arange(rows) // each, -(-rows // each))


def test_the_interval_of_a_cell_is_where_its_score_equation_ends() -> None:
    """Newcombe's equation with the ratio of variances, solved by scipy."""
    one = cell(9, 80, 1.0)
    own = one.variances
    m, n, total = 9, 71, sum(own)

    def model(a: float) -> float:
        first, second, more = (1 - a) / (2 - a), a / (1 + a), (m + n) / 2 - 1
        return a * (1 - a) * (1 + more * first + more * second) / (m * n)

    freedom = total**2 / (own[0] ** 2 / (m - 1) + own[1] ** 2 / (n - 1))
    ratio = (freedom * total / model(one.auroc) + 6) / (freedom + 6)
    quantile = t.ppf(0.975, freedom + 6)

    def excess(a: float) -> float:
        return (one.auroc - a) ** 2 - quantile**2 * ratio * model(a)

    expected = brentq(excess, 0, one.auroc), brentq(excess, one.auroc, 1)
    assert intervals.of_mean([one]) == pytest.approx(expected, abs=1e-9)


def test_an_interval_is_turned_over_with_its_scores() -> None:
    rng = np.random.default_rng(1)
    labels, scores = (np.arange(60) < 12).astype(float), rng.normal(size=60)
    (low, high), turned = (intervals.of_mean([parts(labels, s, np.arange(60), 60)]) for s in (scores, -scores))
    assert turned == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_an_auroc_of_one_has_an_interval_and_one_patient_has_none() -> None:
    labels = np.array([1.0, 1, 1, 1, *[0] * 40])
    whole = parts(labels, labels, np.arange(44), 44)
    low, high = intervals.of_mean([whole])
    assert whole.auroc == high == 1 and 0.4 < low < 0.85
    assert intervals.few(whole) == "4 patients with a positive, fewer than 30"
    # The same rows, of one patient each side: nothing tells how patients differ.
    lone = parts(labels, labels, np.r_[np.zeros(4, int), np.arange(1, 41)], 44)
    assert intervals.none_reason(lone) == "one patient with a positive; an interval needs two"
    assert np.isnan(intervals.of_mean([lone])).all() and np.isnan(intervals.of_mean([])).all()
    assert intervals.none_reason(whole) is None and intervals.few(cell(40, 80, 1.0)) is None
    assert intervals.few(cell(60, 80, 1.0)) == "20 patients with a negative, fewer than 30"
    assert intervals.few(cell(30, 80, 1.0)) is None
    assert intervals.few(cell(29, 80, 1.0)) == "29 patients with a positive, fewer than 30"
    # In a mean over findings it counts with the variance of the model, beside one that has an interval.
    low, high = intervals.of_mean([lone, whole])
    assert low < intervals.of_mean([whole, whole])[0] and high == 1
    assert np.isnan(intervals.of_mean([lone, lone])).all()


def test_a_mean_of_equal_cells_has_their_interval_and_of_apart_ones_a_narrower() -> None:
    one = cell(20, 100, 1.0)
    assert intervals.of_mean([one, one, one]) == pytest.approx(intervals.of_mean([one]), abs=1e-9)
    rng = np.random.default_rng(2)
    labels = [(rng.permutation(100) < 20).astype(float) for _ in range(4)]
    apart = [parts(y, rng.normal(size=100) + y, np.arange(100), 100) for y in labels]
    widths = [np.diff(intervals.of_mean([each]))[0] for each in apart]
    assert np.diff(intervals.of_mean(apart))[0] == pytest.approx(np.mean(widths) / 2, rel=0.25)


def test_the_half_width_of_a_difference() -> None:
    """Twenty add alike, or one alone, of which one degree of freedom is left."""
    alike = np.array([1.0, -1] * 10) / 100
    assert intervals.half_width(alike) == pytest.approx(t.ppf(0.975, 39) * np.sqrt((alike**2).sum()))
    assert intervals.half_width(np.array([0.1, 0, 0])) == pytest.approx(t.ppf(0.975, 1) * 0.1)
    assert intervals.half_width(np.zeros(5)) == 0.0


def test_a_difference_of_areas_without_spread_is_as_wide_as_their_own_intervals() -> None:
    """Three positives above all negatives, or below all: nothing of either area varies in the data."""
    labels, patients = (np.arange(60) < 3).astype(float), np.arange(60)
    best, worst = (parts(labels, sign * labels, patients, 60) for sign in (1, -1))
    reach = 1 - intervals.of_mean([best])[0]
    assert reach > 0.3 and intervals.of_difference([best], [best]) == pytest.approx((-reach, reach))
    assert intervals.of_difference([best], [worst]) == pytest.approx((1 - np.hypot(reach, reach), 1))
    # In a mean it adds to what the others show.
    one, other = cell(20, 60, 1.0), cell(20, 60, 1.0, seed=1)
    half = intervals.half_width(one.influence - other.influence)
    value = (one.auroc - other.auroc) / 2
    expected = value - np.hypot(half, reach) / 2, value + np.hypot(half, reach) / 2
    assert intervals.of_difference([one, best], [other, best]) == pytest.approx(expected)


def test_a_difference_without_any_spread_has_no_interval() -> None:
    one = cell(20, 60, 1.0)
    assert np.isnan(intervals.of_difference([one], [one])).all()
    lone = cell(1, 60, 1.0)
    assert np.isnan(intervals.of_difference([lone, lone], [cell(1, 60, 1.0, seed=1)] * 2)).all()


def test_seeds_and_patients_put_together() -> None:
    points = np.array([0.70, 0.74, 0.72])
    seeds = t.ppf(0.975, 2) * 0.02 / np.sqrt(3)
    low, high = intervals.with_seeds(points, (0.69, 0.74))
    assert (low, high) == pytest.approx((0.72 - np.hypot(0.03, seeds), 0.72 + np.hypot(0.02, seeds)))
    assert intervals.with_seeds(points[:1], (0.6, 0.8)) == (0.6, 0.8)
    assert intervals.with_seeds(np.full(3, 0.7), (0.6, 0.8)) == pytest.approx((0.6, 0.8))


def test_an_interval_over_seeds_ends_where_its_metric_does() -> None:
    """Two seeds far apart: Student's t with one degree of freedom reaches beyond [0, 1]."""
    points = np.array([0.40, 0.60])
    assert ArmScores("a", "k", "g", "s", ("x",), None, points, (0.3, 0.7), []).estimate.low == 0.0
    of_seeds = [{"value": value, "low": value - 0.1, "high": value + 0.1} for value in points]
    assert mean_of_seeds(of_seeds, intervals.UNIT) == {"value": pytest.approx(0.5), "low": 0.0, "high": 1.0}
    difference = mean_of_seeds(of_seeds)
    assert difference["low"] is not None and difference["low"] < 0
    # The patients of all seeds are the same: one seed alone has no interval where its resamples are all alike.
    alike: dict[str, float | None] = {"value": 0.5, "low": None, "high": None}
    some = mean_of_seeds([*of_seeds, alike])
    assert some["low"] is not None and some["value"] == pytest.approx(0.5)
    assert mean_of_seeds([alike, alike])["low"] is None
    # Of two seeds that chose other headlines each is read by its own.
    either = [{"scorers": {name: {"macro": {"auroc": one}} for name, one in (("s", own), ("t", other))}}
              for own, other in (of_seeds, of_seeds[::-1])]  # fmt: skip
    mixed = SetScores("c", "p", "m", "k", ["s", "t"], either)
    assert mixed.macro["auroc"]["value"] == pytest.approx(0.4) and mixed.scorer == "s, t"
    results = [{"scorers": {"s": {"macro": {"auroc": one, "mcc_half": one}}}} for one in of_seeds]
    macro = SetScores("c", "p", "m", "k", ["s", "s"], results).macro
    assert macro["auroc"]["low"] == 0.0
    assert macro["mcc_half"] == {
        "value": pytest.approx(0.5),
        "low": pytest.approx(-0.7745, abs=1e-3),
        "high": 1,
    }


@pytest.mark.parametrize(("rare", "has"), [(1, False), (2, False), (3, True)])
def test_a_mean_of_findings_that_resamples_lack_has_no_percentiles(rare: int, has: bool) -> None:
    """A resample without positives of a finding gives a mean of the others, which is another number."""
    rng = np.random.default_rng(rare)
    labels = np.zeros((200, 8), np.float32)
    labels[:80, :2] = 1
    labels[:rare, 2:] = 1
    scores = expit(rng.normal(size=labels.shape) + labels).astype(np.float32)
    names = [str(row) for row in range(200)]
    findings = tuple(f"f{column}" for column in range(8))
    table = ScoreTable("c", "test", np.arange(200), names, names, names, findings, labels, {"a": scores})
    measured = Estimates(table, {}, {}, 100, 0)
    for metric in ("auprc", "f1_oracle", "f1_half", "sensitivity_90"):
        entry = measured.macro(measured.of("a", findings), metric)
        assert entry["value"] is not None
        if has:
            assert entry["low"] < entry["value"] < entry["high"]
        else:
            assert entry["low"] is entry["high"] is None
    assert measured.macro(measured.of("a", findings[:2]), "auprc")["low"] is not None
    assert measured.macro(measured.of("a", findings), "auroc")["low"] is not None
