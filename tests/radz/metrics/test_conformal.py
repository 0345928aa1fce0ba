"""Conformal sets: by p values, over many seeds, and what a table says of them."""

from __future__ import annotations

import numpy as np
import pytest

from radz.metrics.calibration import Platt
from radz.metrics.conformal import ANSWERS, COVERAGES, LEVEL, Sets, answers, fit
from radz.metrics.score_table import ScoreTable


def p_value(own: np.ndarray, unusual: np.ndarray) -> float:
    """(count of validation studies as unusual or more, and the study itself) over all."""
    return (int(unusual.sum()) + 1) / (len(own) + 1)


@pytest.mark.parametrize("count", [1, 4, 9, 19, 40])
def test_limits_are_those_of_p_values(count: int) -> None:
    """Ties included: scores of one digit."""
    generator = np.random.default_rng(count)
    labels = np.r_[np.ones(count), np.zeros(count + 3), np.nan]
    scores = np.round(generator.random(len(labels)), 1)
    fitted, present, absent = fit(labels, scores), scores[labels == 1], scores[labels == 0]
    for score in np.unique(np.r_[scores, -1.0, 0.55, 2.0]):
        # A p value that equals the level is not above it.
        kept = [p_value(present, present <= score) > LEVEL + 1e-12, p_value(absent, absent >= score) > LEVEL + 1e-12]
        assert [score >= fitted.least, score <= fitted.most] == kept
        names = {(False, False): "unusual", (False, True): "absent", (True, False): "present", (True, True): "unsure"}
        assert ANSWERS[int(fitted.answer(score))] == names[kept[0], kept[1]]
    assert Sets.read(fitted.plain()) == fitted


def test_ninety_of_a_hundred_keep_their_answer_over_500_seeds() -> None:
    """Of either class, whatever the scores are worth; with few positives the promise holds by saying less."""
    for shift, positives in ((0.0, 30), (1.5, 30), (1.5, 9), (1.5, 4)):
        covered: dict[str, list[float]] = {"present": [], "absent": []}
        for seed in range(500):
            generator = np.random.default_rng(seed)
            val = np.r_[np.ones(positives), np.zeros(100)]
            sets = fit(val, generator.normal(size=len(val)) + shift * val)
            covered["present"].append(float(np.mean(generator.normal(size=50) + shift >= sets.least)))
            covered["absent"].append(float(np.mean(generator.normal(size=50) <= sets.most)))
        assert np.mean(covered["absent"]) == pytest.approx(0.9, abs=0.02)
        assert np.mean(covered["present"]) == pytest.approx(0.9 if positives >= 9 else 1.0, abs=0.02)


def test_a_table_says_how_often_it_answers_and_errs() -> None:
    labels = np.array([[1, 0], [1, 1], [0, np.nan], [0, 0], [0, 1], [np.nan, 0]], dtype=np.float32)
    scores = np.array([[0.9, 0.1], [0.4, 0.9], [0.1, 0.5], [0.2, 0.6], [0.8, 0.2], [0.5, 0.4]], dtype=np.float32)
    names = [str(i) for i in range(6)]
    table = ScoreTable("c", "test", np.arange(6), names, names, names, ("edema", "nodule"), labels, {"anchor": scores})
    of_edema = fit(np.r_[np.ones(19), np.zeros(19)], np.r_[np.linspace(0.3, 0.9, 19), np.linspace(0.1, 0.6, 19)])
    few = fit(np.r_[np.ones(3), np.zeros(3)], np.r_[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    found = answers(table, "anchor", {"edema": of_edema, "nodule": few}, {"edema": Platt(10.0, -5.5)}, ["edema"])
    assert found is not None and found["level"] == LEVEL
    edema = found["findings"]["edema"]
    # two of twenty may be left out: from the second lowest of the positives, up to the second highest of the negatives
    assert edema["present"] == pytest.approx(0.3 + 0.6 / 18) and edema["absent"] == pytest.approx(0.6 - 0.5 / 18)
    # .9 yes, .4 both, .1 no, .2 no, .8 yes (wrong)
    assert (edema["coverage_present"], edema["coverage_absent"]) == (1.0, pytest.approx(2 / 3))
    assert (edema["answered"], edema["error"], edema["unusual"]) == (pytest.approx(0.8), pytest.approx(0.25), 0.0)
    nodule = found["findings"]["nodule"]
    assert nodule["present"] is None and nodule["absent"] is None
    assert (nodule["answered"], nodule["error"], nodule["coverage_present"]) == (0.0, None, 1.0)
    # a half at a score of .55; surest first: .1 no, .2 no, .9 yes, .8 yes (wrong), .4 no (wrong)
    risk = {row["coverage"]: row["risk"] for row in found["curve"]}
    assert tuple(risk) == COVERAGES
    assert [risk[share] for share in (0.2, 0.4, 0.6, 0.8, 1.0)] == pytest.approx([0, 0, 0, 0.25, 0.4])
    assert answers(table, "anchor", {}, {}, ["edema"]) is None
    for wrong in ([0.1], [0.1, "x"]):
        with pytest.raises((ValueError, TypeError)):
            Sets.read(wrong)
