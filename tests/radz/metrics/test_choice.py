"""One of several findings chosen, against scikit-learn; groups of findings by frequency."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from data_modules.summary import frequencies
from radz.config.scoring import ClassPrompts, ScoringConfig
from radz.metrics.choice import choice, two_scales
from radz.metrics.frequency import group
from radz.metrics.score_table import ScoreTable
from radz.metrics.split_results import results

NAMES = ("edema", "consolidation", "cardiomegaly")


def table(count: int = 60, seed: int = 0) -> tuple[ScoreTable, np.ndarray]:
    """Rows of one of NAMES each, with a fourth finding beside them; scores that know something. And the true ones."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=count)
    labels = np.zeros((count, 4), np.float32)
    labels[np.arange(count), truth] = 1
    labels[:, 3] = rng.integers(2, size=count)
    scores = rng.random((count, 4)) * 0.6 + labels * 0.2
    scores[:, 1] = 0.3 + 0.2 * scores[:, 1]  # of another level, which standardising takes away
    unknown = np.full_like(scores, np.nan)
    ids = [f"s{i}" for i in range(count)]
    patients = [f"p{i // 2}" for i in range(count)]
    found = ScoreTable(
        "toy", "test", np.arange(count), ids, [""] * count, patients, (*NAMES, "mass"), labels,
        {"prompt": scores, "anchor": unknown},
    )  # fmt: skip
    return found, truth


def test_accuracy_equals_scikit_learn() -> None:
    scored, truth = table()
    found = choice(scored, NAMES, 300, 0)
    assert found is not None and list(found["scorers"]) == ["prompt"]
    json.dumps(found, allow_nan=False)
    own = scored.scores["prompt"][:, :3].astype(float)
    one = found["scorers"]["prompt"]
    assert one["accuracy"]["value"] == pytest.approx(accuracy_score(truth, own.argmax(axis=1)))
    assert one["balanced"] == pytest.approx(balanced_accuracy_score(truth, own.argmax(axis=1)))
    level = StandardScaler().fit_transform(own)
    assert one["accuracy_standardised"]["value"] == pytest.approx(accuracy_score(truth, level.argmax(axis=1)))
    assert one["accuracy_standardised"]["value"] != one["accuracy"]["value"]
    assert one["accuracy"]["low"] < one["accuracy"]["value"] < one["accuracy"]["high"]
    assert found["chance"] == pytest.approx(np.bincount(truth).max() / len(truth))
    assert sum(found["support"].values()) == found["rows"] == 60 and found["left_out"] == 0


def test_rows_of_none_of_several_or_of_unknown_are_left_out() -> None:
    scored, truth = table()
    scored.labels[0, :3] = 1
    scored.labels[1, :3] = 0
    scored.labels[2, 0] = np.nan
    found = choice(scored, NAMES, 100, 0)
    assert found is not None and (found["rows"], found["left_out"]) == (57, 3)
    own = scored.scores["prompt"][3:, :3]
    one = found["scorers"]["prompt"]
    assert one["accuracy"]["value"] == pytest.approx((own.argmax(axis=1) == truth[3:]).mean())
    # Of a row that is left out the label is read, of all rows the scores: labels do not choose what is standardised.
    scored.scores["prompt"][:3, 0] = [9, 7, 8]
    found = choice(scored, NAMES, 100, 0)
    level = StandardScaler().fit(scored.scores["prompt"][:, :3]).transform(own)
    assert found is not None
    assert found["scorers"]["prompt"]["accuracy_standardised"]["value"] == pytest.approx(
        accuracy_score(truth[3:], level.argmax(axis=1))
    )


def test_even_scores_guess() -> None:
    scored, _ = table()
    scored.scores["prompt"][:, :3] = 0.5
    found = choice(scored, NAMES, 100, 0)
    assert found is not None and found["scorers"]["prompt"]["accuracy"]["value"] == pytest.approx(1 / 3)


def test_without_an_answer_for_every_finding_there_is_no_choice(caplog: pytest.LogCaptureFixture) -> None:
    scored, truth = table()
    assert choice(scored.take(np.flatnonzero(truth != 1)), NAMES, 100, 0) is None
    assert "toy/test: scoring.choice is not measured: no row has consolidation alone" in caplog.text
    assert choice(scored, (*NAMES, "hernia"), 100, 0) is None
    assert "no row has edema or consolidation or cardiomegaly or hernia alone" in caplog.text


def test_findings_with_and_without_a_denial_do_not_compete(caplog: pytest.LogCaptureFixture) -> None:
    """The mean of cosines to what asserts edema beside differences to denials: numbers over findings have no answer."""
    scored, _ = table()
    scored.scores = {"prompt": scored.scores["prompt"], "anchor": scored.scores["prompt"]}
    own = ScoringConfig(negative_prompts=["no {finding}"], class_prompts={"edema": ClassPrompts(["Signs of edema."])})
    assert own.denied(scored.findings) == ["consolidation", "cardiomegaly", "mass"]
    assert ScoringConfig(class_prompts={"edema": ClassPrompts(["a"], ["b"])}).denied(scored.findings) == ["edema"]
    denied = {"prompt": own.denied(scored.findings)}
    reason = "consolidation is scored less its denial, edema is not"
    assert two_scales(denied, "prompt", NAMES).startswith(reason)
    assert two_scales(denied, "prompt", NAMES[1:]) is two_scales(denied, "anchor", NAMES) is None
    found = choice(scored, NAMES, 100, 0, denied)
    assert list(found["scorers"]) == ["anchor"] and found["not_compared"]["prompt"].startswith(reason)
    assert f"toy/test: scoring.choice of prompt is not measured: {reason}" in caplog.text
    seen = dict.fromkeys(scored.findings, "label")
    prompt, anchor = (
        results(scored, seen, NAMES, {"prompt": dict.fromkeys(NAMES, 0.4)}, 100, denied=denied)["scorers"][name]
        for name in ("prompt", "anchor")
    )
    for metric in ("auroc", "auprc", "sensitivity_90"):
        assert prompt["micro"][metric] == {"value": None, "low": None, "high": None}
        assert anchor["micro"][metric]["value"] is not None
    # Calls at each finding's own threshold add up all the same.
    assert prompt["micro"]["f1_validation"]["value"] is not None
    assert prompt["not_pooled"].startswith(reason) and "not_pooled" not in anchor


def test_groups_by_frequency() -> None:
    labels = np.array([[1, 0, 0, np.nan], [1, 1, 0, np.nan], [0, 0, 0, 1], [0, np.nan, 0, np.nan]], np.float32)
    assert frequencies(labels).tolist() == [0.5, 0.25, 0.0, 0.25]
    assert frequencies(labels[:0]).tolist() == [0.0] * 4
    found = [group(share, [0.1, 0.01]) for share in (0.5, 0.1, 0.05, 0.01, 0.0099, 0.0)]
    assert found == ["head", "medium", "medium", "medium", "tail", "unseen"]


def test_average_precision_of_a_group_is_the_mean_over_its_primary_findings() -> None:
    scored, _ = table()
    seen = dict.fromkeys(scored.findings, "none")
    groups = {"edema": "head", "consolidation": "tail", "cardiomegaly": "head", "mass": "tail"}
    entry = results(scored, seen, NAMES, None, 100, frequency=groups)["scorers"]["prompt"]
    own = {
        name: average_precision_score(scored.labels[:, n], scored.scores["prompt"][:, n])
        for n, name in enumerate(scored.findings)
    }
    by_group = {name: of["auprc"]["value"] for name, of in entry["macro_by_frequency"].items()}
    assert by_group == {
        "head": pytest.approx((own["edema"] + own["cardiomegaly"]) / 2), "medium": None,
        "tail": pytest.approx(own["consolidation"]), "unseen": None,
    }  # fmt: skip
    assert entry["macro"]["auprc"]["value"] == pytest.approx(np.mean([own[name] for name in NAMES]))
    assert "macro_by_frequency" not in results(scored, seen, NAMES, None, 100)["scorers"]["prompt"]
