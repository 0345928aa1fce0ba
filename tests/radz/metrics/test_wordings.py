"""Spread over wordings and negation: by hand, and with a table that has nothing to measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radz.metrics.score_table import ScoreTable
from radz.metrics.wordings import in_prompt_sets, in_wordings

NAN = np.nan
LABELS = np.array([[1, 0, 1], [0, 1, 1], [1, NAN, 1], [0, 0, 1]], dtype=np.float32)
FINDINGS = ("edema", "nodule", "mass")


def table(labels: np.ndarray = LABELS, **wordings: np.ndarray) -> ScoreTable:
    count = len(labels)
    names = [str(i) for i in range(count)]
    zero = np.zeros((count, 3), dtype=np.float32)
    return ScoreTable(
        "c", "test", np.arange(count), names, names, names, FINDINGS, labels, {"prompt": zero}, dict(wordings)
    )


def test_by_hand() -> None:
    said = np.array([[0.9, 0.2, 0], [0.1, 0.8, 0], [0.3, 9.0, 0], [0.2, 0.7, 0]], dtype=np.float32)
    denied = np.array([[0.1, 0.6, 0], [0.7, 0.1, 0], [0.5, 9.0, 0], [0.1, 0.2, 0]], dtype=np.float32)
    deaf = np.tile(np.array([[0.5], [0.4], [0.3], [0.2]], dtype=np.float32), (1, 3))
    found = in_wordings(table(a=np.hstack([said, denied]), b=np.hstack([deaf, deaf])), FINDINGS, 200, 0)
    assert found is not None and found["findings"] == ["edema", "nodule"]  # every study has a mass
    # edema: differences .8, -.6, -.2, .1; nodule of studies 0, 1, 3: -.4, .7, .5
    first = (roc_auc_score([1, 0, 1, 0], [0.8, -0.6, -0.2, 0.1]) + roc_auc_score([0, 1, 0], [-0.4, 0.7, 0.5])) / 2
    assert found["auroc"]["by_wording"] == pytest.approx({"a": first, "b": 0.5})
    assert (found["auroc"]["least"], found["auroc"]["most"]) == pytest.approx((0.5, first))
    assert found["auroc"]["median"] == pytest.approx((0.5 + first) / 2)
    negation = found["negation"]
    assert negation["present"] == pytest.approx((0.75 + 0) / 2)  # half of edemas, the nodule; of the deaf none
    assert negation["absent"] == pytest.approx((0.5 + 0) / 2)  # half of either
    assert negation["balanced"] == pytest.approx((0.375 + 0.25) / 2)
    # ranks of a: edema 4 1 3 2 against 1.5 4 3 1.5; nodule 1 3 2 against 3 1 2, the opposite order
    of_edema = np.corrcoef([4, 1, 3, 2], [1.5, 4, 3, 1.5])[0, 1]
    assert negation["contradiction"] == pytest.approx(((of_edema - 1) / 2 + 1) / 2)


def test_nothing_to_measure() -> None:
    both = np.zeros((4, 6), dtype=np.float32)
    assert in_wordings(table(), FINDINGS, 200, 0) is None
    assert in_wordings(table(a=both), ["mass"], 200, 0) is None
    healthy = table(a=both)
    healthy.findings = ("no_finding", "nodule", "mass")
    assert in_wordings(healthy, ["no_finding"], 200, 0) is None


def test_equal_similarities_have_no_correlation_and_tell_nothing() -> None:
    found = in_wordings(table(a=np.ones((4, 6), dtype=np.float32)), FINDINGS, 200, 0)
    assert found is not None
    assert found["negation"] == {"present": 0.0, "absent": 0.0, "balanced": 0.0, "contradiction": 0.0}


def test_rows_that_are_taken_take_their_agreement_along() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(table(a=values).take([2, 0]).wordings["a"], values[[2, 0]])


def test_intervals_hold_their_values_and_are_those_of_patients() -> None:
    """Two hundred studies of as many patients; the same studies, each twice of one patient, are no more evidence."""
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 3)) < 0.4).astype(np.float32)
    said = labels + generator.normal(size=labels.shape).astype(np.float32)
    denied = -0.5 * labels + generator.normal(size=labels.shape).astype(np.float32)
    good, deaf = np.hstack([said, denied]), np.hstack([denied, denied + 1e-3 * said])
    names = [str(i) for i in range(200)]
    once = ScoreTable(
        "c", "test", np.arange(200), names, names, names, FINDINGS, labels, {}, {"good": good, "deaf": deaf}
    )
    found = in_wordings(once, FINDINGS, 1000, 0)
    twice = in_wordings(once.take(np.repeat(np.arange(200), 2)), FINDINGS, 1000, 0)
    assert found is not None and twice is not None
    for name, value in {**found["auroc"]["by_wording"], **found["negation"]}.items():
        if name == "contradiction":
            continue
        own, other = found["intervals"][name], twice["intervals"][name]
        assert own["value"] == pytest.approx(value) and own["low"] < value < own["high"]
        assert own["high"] - own["low"] < 0.2
        assert (own["low"], own["high"]) == pytest.approx((other["low"], other["high"]), abs=0.01)
    assert "spread" not in found["intervals"], "its ends are chosen: twelve equal wordings lie apart too"
    alone = in_wordings(replace(once, wordings={"good": good}), FINDINGS, 1000, 0)
    assert alone is not None
    share, count = alone["negation"]["present"], labels.sum()
    half = 1.96 * (share * (1 - share) / count) ** 0.5  # of so many independent pairs
    assert alone["intervals"]["present"]["high"] - share == pytest.approx(half, rel=0.15)


def test_prompt_sets_by_hand() -> None:
    """Macro AUROC over the two findings with both labels; no_finding is no finding."""
    good = np.array([[0.9, 0.2, 0], [0.1, 0.8, 0], [0.3, 9.0, 0], [0.2, 0.7, 0]], dtype=np.float32)
    poor = np.array([[0.1, 0.2, 0], [0.7, 0.1, 0], [0.5, 9.0, 0], [0.4, 0.2, 0]], dtype=np.float32)
    scored = replace(table(), prompt_sets={"good": good, "poor": poor})
    found = in_prompt_sets(scored, FINDINGS)
    assert found is not None and found["findings"] == ["edema", "nodule"]
    for name, values in scored.prompt_sets.items():
        areas = [roc_auc_score(LABELS[:, 0], values[:, 0]), roc_auc_score(LABELS[[0, 1, 3], 1], values[[0, 1, 3], 1])]
        assert found["auroc"][name]["value"] == pytest.approx(np.mean(areas))
        assert found["auroc"][name]["low"] <= found["auroc"][name]["value"] <= found["auroc"][name]["high"]
    gain = found["auroc"]["good"]["value"] - found["auroc"]["poor"]["value"]
    assert found["spread"] == {"value": pytest.approx(gain), "low": None, "high": None} and gain > 0.5
    assert in_prompt_sets(scored.take([2, 0]), FINDINGS) is None
    np.testing.assert_array_equal(scored.take([2, 0]).prompt_sets["good"], good[[2, 0]])
    assert in_prompt_sets(table(), FINDINGS) is None and in_prompt_sets(scored, ["mass"]) is None
    assert in_prompt_sets(replace(scored, findings=("no_finding", "nodule", "mass")), ["no_finding"]) is None
