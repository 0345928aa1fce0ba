"""The score table: its file, and the numbers of metrics.json computed from it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    matthews_corrcoef,
    roc_auc_score,
)

from data_modules.errors import InputError
from radz.metrics.calibration import Platt
from radz.metrics.delong import delong
from radz.metrics.estimates import METRICS, Estimates, entry
from radz.metrics.score_table import ScoreTable, prediction_file
from radz.metrics.split_results import SEEN, calibrations_from, results, thresholds_from

FINDINGS = ("edema", "pleural_effusion", "mass", "hernia")
SEEN_AS = {"edema": "label", "pleural_effusion": "label", "mass": "none", "hernia": "none"}


def score_table(n: int = 80, seed: int = 0, split: str = "test") -> ScoreTable:
    """Two images per study and patient; hernia has no positive, 'anchor' does not know mass."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 4)) < 0.3).astype(np.float32)
    labels[rng.random((n, 4)) < 0.1] = np.nan
    labels[:, 3] = 0
    prompt = (1 / (1 + np.exp(-rng.normal(size=(n, 4)) - np.nan_to_num(labels)))).astype(np.float32)
    anchor = np.round(prompt, 1)
    anchor[:, 2] = np.nan
    patients = [f"{i // 2:012x}" for i in range(n)]
    studies = [f"0{i // 2:03d}" for i in range(n)]
    images = [f'im,"{i}"' for i in range(n)]
    scores = {"prompt": prompt, "anchor": anchor}
    return ScoreTable("our_cxr", split, np.arange(n) + 100, studies, images, patients, FINDINGS, labels, scores)


def test_file_comes_back_bit_for_bit(tmp_path: Path) -> None:
    table = score_table()
    path = prediction_file(tmp_path, table.key)
    table.write_csv(path)
    back = ScoreTable.read_csv(path)
    assert (back.corpus, back.split, back.findings) == ("our_cxr", "test", FINDINGS)
    assert (back.study_id, back.image_id, back.patient) == (table.study_id, table.image_id, table.patient)
    assert np.array_equal(back.labels, table.labels, equal_nan=True)
    for scorer in table.scores:
        assert np.array_equal(back.scores[scorer], table.scores[scorer], equal_nan=True)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_file_has_the_columns_of_the_contract(tmp_path: Path) -> None:
    table = score_table(4)
    table.write_csv(tmp_path / "a_test.csv")
    frame = pandas.read_csv(tmp_path / "a_test.csv", dtype=str, keep_default_na=False)
    assert list(frame)[:6] == ["study_id", "image_id", "patient", "label/edema", "prompt/edema", "anchor/edema"]
    assert frame["study_id"][0] == "0000"
    assert set(frame["label/hernia"]) == {"0"} and set(frame["anchor/mass"]) == {""}


def test_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "our_cxr_test.csv"
    score_table(4).write_csv(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        score_table(8).write_csv(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study_id,image_id\n", "no column 'patient'"),
        ("study_id,image_id,patient,label/a,p/a\n1,2,3,1\n", "line 2: 4 cells, expected 5"),
        ("study_id,image_id,patient,label/a,p/a\n1,2,3,1,x\n", "line 2, column 'p/a': 'x' is not a number"),
        ("study_id,image_id,patient,label/a,label/b,p/a\n", "no column 'p/b'"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a_test.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        ScoreTable.read_csv(path)
    with pytest.raises(InputError, match="cannot be read"):
        ScoreTable.read_csv(tmp_path / "missing.csv")


def test_rows_are_taken_in_the_order_given() -> None:
    table = score_table(10)
    order = np.r_[0:10:2, 1:10:2]
    taken = table.take(order)
    assert taken.study_id == [table.study_id[i] for i in order] and taken.patient == [table.patient[i] for i in order]
    back = taken.take(np.argsort(taken.rows))
    assert back.image_id == table.image_id and np.array_equal(back.rows, table.rows)
    assert np.array_equal(back.scores["prompt"], table.scores["prompt"])


def test_bad_scores_name_scorer_and_finding() -> None:
    table = score_table(10)
    broken = table.scores["prompt"].copy()
    broken[3, 1] = 1.2
    with pytest.raises(InputError, match=r"'prompt', finding 'pleural_effusion'.*1\.2, must lie in \[0, 1\]"):
        replace(table, scores={"prompt": broken})
    with pytest.raises(InputError, match="cannot be called 'label'"):
        replace(table, scores={"label": table.scores["prompt"]})
    with pytest.raises(InputError, match="expected"):
        replace(table, labels=table.labels[:, :2])


def test_results_equal_scikit_learn_and_follow_the_schema() -> None:
    table, validation = score_table(), score_table(seed=1, split="val")
    rules = thresholds_from(validation)
    got = results(table, SEEN_AS, ["edema", "pleural_effusion"], rules, 200, 5, {"skipped": 3})
    json.dumps(got, allow_nan=False)
    assert got["coverage"] == {"studies": 40, "patients": 40, "skipped": 3}
    prompt = got["scorers"]["prompt"]
    assert list(prompt["findings"]) == ["edema", "pleural_effusion", "mass"]
    assert prompt["excluded"] == {"hernia": f"no positive among {len(table)} known labels"}
    assert set(got["scorers"]["anchor"]["excluded"]) == {"mass", "hernia"}
    for column, finding in enumerate(FINDINGS[:3]):
        known = np.isfinite(table.labels[:, column])
        y, s = table.labels[known, column], table.scores["prompt"][known, column]
        cell = prompt["findings"][finding]
        assert cell["auroc"]["value"] == pytest.approx(roc_auc_score(y, s), abs=1e-10)
        assert cell["auprc"]["value"] == pytest.approx(average_precision_score(y, s), abs=1e-10)
        assert cell["f1_half"]["value"] == pytest.approx(f1_score(y, s >= 0.5), abs=1e-10)
        rule = got["thresholds"]["validation"]["prompt"][finding]
        assert rule == rules["prompt"][finding]
        assert cell["f1_validation"]["value"] == pytest.approx(f1_score(y, s >= rule), abs=1e-10)
        oracle = got["thresholds"]["oracle"]["prompt"][finding]
        assert cell["f1_oracle"]["value"] == pytest.approx(f1_score(y, s >= oracle), abs=1e-10)
        assert all(cell[m]["low"] <= cell[m]["value"] <= cell[m]["high"] for m in METRICS[:2])
        assert (cell["positives"], cell["rows"], cell["seen"]) == (int(y.sum()), len(y), SEEN_AS[finding])
        assert cell["studies"] == cell["patients"] == len({table.patient[i] for i in np.flatnonzero(known)})
    two = [prompt["findings"][f]["auroc"]["value"] for f in FINDINGS[:2]]
    assert prompt["macro"]["auroc"]["value"] == pytest.approx(np.mean(two))
    assert set(prompt["macro_by_seen"]) == set(SEEN)
    mass = prompt["findings"]["mass"]
    assert prompt["macro_by_seen"]["none"]["auroc"] == pytest.approx(mass["auroc"])
    assert prompt["macro_by_seen"]["text"]["auroc"] == {"value": None, "low": None, "high": None}


def test_results_repeat_and_oracle_is_recomputed_in_each_replicate() -> None:
    table = score_table()
    first = results(table, SEEN_AS, ["edema"], None, 100, 5)
    assert first == results(table, SEEN_AS, ["edema"], None, 100, 5)
    assert first != results(table, SEEN_AS, ["edema"], None, 100, 6)
    fixed = {"prompt": first["thresholds"]["oracle"]["prompt"]}
    with_rule = results(table, SEEN_AS, ["edema"], fixed, 100, 5)["scorers"]["prompt"]["findings"]["edema"]
    assert with_rule["f1_validation"]["value"] == with_rule["f1_oracle"]["value"]
    # A threshold tuned anew in each replicate can only do better than the fixed one.
    assert with_rule["f1_oracle"]["low"] > with_rule["f1_validation"]["low"]


def test_differences_are_paired() -> None:
    table = score_table()
    better = np.clip(table.scores["prompt"] + 0.2 * (table.labels == 1), 0, 1)
    table = replace(table, scores={**table.scores, "better": better.astype(np.float32), "twin": better})
    got = results(table, SEEN_AS, FINDINGS[:3], None, 200, headline="better")
    assert set(got["differences"]) == {"prompt", "anchor", "twin"}
    gain = got["differences"]["prompt"]["auroc"]
    macro = [got["scorers"][s]["macro"]["auroc"] for s in ("better", "prompt")]
    assert gain["value"] == pytest.approx(macro[0]["value"] - macro[1]["value"])
    # Paired: far narrower than the two intervals taken apart, and without spread against itself.
    assert gain["high"] - gain["low"] < 0.8 * (macro[1]["high"] - macro[1]["low"])
    assert got["differences"]["twin"]["auroc"] == {"value": 0.0, "low": None, "high": None}
    with pytest.raises(InputError, match="headline scorer 'promt' is not scored; nearest is 'prompt'"):
        results(table, SEEN_AS, [], None, 10, headline="promt")


def test_without_validation_the_rule_is_listed_as_unavailable() -> None:
    table = score_table()
    prompt = results(table, SEEN_AS, ["edema"], None, 20)["scorers"]["prompt"]
    assert prompt["findings"]["edema"]["f1_validation"] == {"value": None, "low": None, "high": None}
    assert prompt["unavailable"]["f1_validation"]["edema"] == "no validation split was scored"
    rules = {"prompt": {"edema": 0.4}}
    prompt = results(table, SEEN_AS, ["edema"], rules, 20)["scorers"]["prompt"]
    assert prompt["unavailable"]["f1_validation"] == dict.fromkeys(FINDINGS[1:3], "no threshold from validation")


def test_empty_and_constant_tables() -> None:
    table = score_table()
    none = results(table.take([]), SEEN_AS, ["edema"], None, 10)
    assert none["scorers"]["prompt"]["excluded"]["edema"] == "no known label"
    assert none["scorers"]["prompt"]["macro"]["auroc"]["value"] is None
    nothing = np.zeros((80, 0), dtype=np.float32)
    no_findings = replace(table, findings=(), labels=nothing, scores={"prompt": nothing})
    assert results(no_findings, {}, [], None, 10)["scorers"]["prompt"]["findings"] == {}
    flat = replace(table, scores={"prompt": np.full((80, 4), 0.4)})
    constant = results(flat, SEEN_AS, ["edema"], None, 50)["scorers"]["prompt"]
    known = int(np.isfinite(table.labels[:, 0]).sum())
    assert constant["excluded"]["edema"] == f"all {known} scores are equal" and not constant["findings"]
    assert constant["macro"]["auroc"]["value"] is None


def test_one_nan_score_leaves_its_finding_out_with_the_reason() -> None:
    table = score_table()
    broken = table.scores["prompt"].copy()
    broken[3, 1] = np.nan
    broken_table = replace(table, scores={"prompt": broken})
    got = results(broken_table, SEEN_AS, FINDINGS[:2], None, 20)["scorers"]["prompt"]
    assert got["excluded"]["pleural_effusion"] == "1 of 80 scores are NaN, first in row 5"
    assert got["macro"]["auroc"] == pytest.approx(got["findings"]["edema"]["auroc"])
    assert set(thresholds_from(broken_table)["prompt"]) == set(calibrations_from(broken_table)["prompt"])
    assert "pleural_effusion" not in thresholds_from(broken_table)["prompt"]


def test_repeated_studies_count_once_and_are_said(caplog: pytest.LogCaptureFixture) -> None:
    table = score_table()
    twice = table.take([*range(len(table)), 7, 3])
    with caplog.at_level("WARNING"):
        got = results(twice, SEEN_AS, ["edema"], None, 20)
    once = results(table, SEEN_AS, ["edema"], None, 20)
    assert got["coverage"].pop("duplicates") == 2 and got == once
    assert "2 row(s) repeat a study and are left out, first row 81" in caplog.text


def test_further_metrics_equal_scikit_learn() -> None:
    table, validation = score_table(), score_table(seed=1, split="val")
    fits = calibrations_from(validation)
    rules = thresholds_from(validation)
    got = results(table, SEEN_AS, FINDINGS[:2], rules, 100, headline="prompt", calibrations=fits)
    prompt = got["scorers"]["prompt"]
    called, truth, chance = [], [], []
    for column, finding in enumerate(FINDINGS[:2]):
        known = np.isfinite(table.labels[:, column])
        y, s = table.labels[known, column], table.scores["prompt"][known, column]
        p = fits["prompt"][finding](s)
        cell, rule = prompt["findings"][finding], rules["prompt"][finding]
        assert cell["accuracy_validation"]["value"] == pytest.approx(accuracy_score(y, s >= rule), abs=1e-10)
        assert cell["mcc_validation"]["value"] == pytest.approx(matthews_corrcoef(y, s >= rule), abs=1e-10)
        assert cell["brier"]["value"] == pytest.approx(brier_score_loss(y, p), abs=1e-10)
        # Resampling adds to a mean of absolute gaps: percentiles would not even hold the value.
        assert 0 < cell["calibration_error"]["value"] < 1 and cell["calibration_error"]["low"] is None
        assert cell["delong"]["low"] < cell["auroc"]["value"] < cell["delong"]["high"]
        called, truth, chance = [*called, s >= rule], [*truth, y], [*chance, p]
        assert got["calibration"]["parameters"]["prompt"][finding] == [
            fits["prompt"][finding].slope, fits["prompt"][finding].intercept
        ]  # fmt: skip
    y, yes, p = (np.concatenate(parts) for parts in (truth, called, chance))
    micro = prompt["micro"]
    assert micro["f1_validation"]["value"] == pytest.approx(f1_score(y, yes), abs=1e-10)
    assert micro["mcc_validation"]["value"] == pytest.approx(matthews_corrcoef(y, yes), abs=1e-10)
    assert micro["brier"]["value"] == pytest.approx(brier_score_loss(y, p), abs=1e-10)
    both = np.isfinite(table.labels[:, :2])
    expected = roc_auc_score(table.labels[:, :2][both], table.scores["prompt"][:, :2][both])
    assert micro["auroc"]["value"] == pytest.approx(expected, abs=1e-10)
    assert micro["auroc"]["low"] < micro["auroc"]["value"] < micro["auroc"]["high"]
    against = got["differences"]["anchor"]["findings"]["edema"]
    assert 0 < against["p"] <= against["p_holm"] <= 1
    assert set(results(table, SEEN_AS, [], None, 20)["scorers"]["prompt"]["unavailable"]["brier"].values()) == {
        "no validation split was scored"
    }


def test_names_are_checked() -> None:
    table = score_table()
    with pytest.raises(InputError, match=r"primary class 'oedema' is not scored; nearest is 'edema'"):
        results(table, SEEN_AS, ["oedema"], None, 10)
    with pytest.raises(InputError, match="finding 'mass' has seen 'None'"):
        results(table, {k: v for k, v in SEEN_AS.items() if k != "mass"}, [], None, 10)
    with pytest.raises(InputError, match="row 1: no patient"):
        results(replace(table, patient=[""] * 80), SEEN_AS, [], None, 10)


def test_few_patients_are_marked_and_one_has_no_interval() -> None:
    """Mass in two images of one patient: a value, its reason, no p; and rows that share patients are told."""
    table = score_table()
    labels = table.labels.copy()
    labels[:, 2], labels[10:12, 2] = 0, 1
    better = np.clip(table.scores["prompt"] + 0.1 * np.nan_to_num(table.labels), 0, 1)
    table = replace(table, labels=labels, scores={"prompt": table.scores["prompt"], "better": better})
    got = results(table, SEEN_AS, FINDINGS[:3], None, 50, headline="better")
    edema, mass = (got["scorers"]["prompt"]["findings"][name] for name in ("edema", "mass"))
    assert mass["no_interval"] == "one patient with a positive; an interval needs two"
    assert mass["auroc"] == {"value": mass["auroc"]["value"], "low": None, "high": None}
    assert mass["few"] == "1 patient with a positive, fewer than 30" and mass["delong"] == {"low": None, "high": None}
    assert edema["no_interval"] is None and edema["few"].endswith("patients with a positive, fewer than 30")
    gap = got["differences"]["prompt"]
    assert gap["findings"]["mass"]["p"] is gap["findings"]["mass"]["p_holm"] is None
    assert gap["findings"]["mass"]["auroc"]["low"] is None and gap["findings"]["edema"]["p"] is not None
    assert gap["auroc"]["low"] < gap["auroc"]["value"] < gap["auroc"]["high"]
    macro = got["scorers"]["prompt"]["macro"]["auroc"]
    assert macro["low"] < macro["value"] < macro["high"]
    told = got["inference"]
    assert (told["rows"], told["patients"], told["most_rows_of_a_patient"]) == (80, 40, 2)
    assert told["p"] == "DeLong, variance by patient (Obuchowski 1997)"
    alone = results(replace(table, patient=[str(i) for i in range(80)]), SEEN_AS, ["edema"], None, 20)["inference"]
    assert alone["p"] == "DeLong" and alone["most_rows_of_a_patient"] == 1 and "training" in alone["leaves_out"]


@pytest.mark.parametrize("alone", ["one patient", "one positive"])
def test_where_a_finding_has_no_interval_none_of_its_metrics_has_one(alone: str) -> None:
    """Of 40 rows, all of one patient, or of patients of whom one has it; micro over the finding alone likewise."""
    table, fit = score_table(), calibrations_from(score_table(seed=1, split="val"))
    labels = (table.labels[:, :1] if alone == "one patient" else np.eye(80, 1)).astype(np.float32)
    patient = ["p"] * 80 if alone == "one patient" else [str(i) for i in range(80)]
    own = replace(
        table, findings=("edema",), labels=labels, patient=patient, scores={"prompt": table.scores["prompt"][:, :1]}
    )
    prompt = results(own, {"edema": "label"}, ["edema"], {"prompt": {"edema": 0.5}}, 50, calibrations=fit)["scorers"][
        "prompt"
    ]
    assert prompt["findings"]["edema"]["no_interval"].startswith("one patient with a positive")
    for of in (prompt["findings"]["edema"], prompt["macro"], prompt["micro"]):
        for metric in METRICS:
            assert of[metric]["value"] is not None and of[metric]["low"] is of[metric]["high"] is None, metric


def test_scorers_that_part_all_positives_have_an_interval_of_their_difference_and_no_p() -> None:
    table = score_table()
    labels = (np.arange(80) < 3).astype(np.float32)[:, None]
    scores = {"prompt": labels * 0.5 + table.scores["prompt"][:, :1] * 0.5, "anchor": 0.9 * labels}
    own = replace(table, findings=("edema",), labels=labels, scores=scores, patient=[str(i) for i in range(80)])
    found = results(own, {"edema": "label"}, ["edema"], None, 50, headline="prompt")["differences"]["anchor"]
    test = found["findings"]["edema"]
    assert test["auroc"]["value"] == 0 and test["auroc"]["low"] < -0.3 and test["auroc"]["high"] > 0.3
    assert test["p"] is test["p_holm"] is None and found["auroc"] == test["auroc"]


def test_resamples_that_are_all_alike_make_no_interval() -> None:
    """A share of 1 in every resample, summed in another order, is no proof that all other patients have it too."""
    assert entry(1.0, np.array([1.0, 1 - 1e-16, np.nan, 1.0])) == {"value": 1.0, "low": None, "high": None}
    assert entry(0.5, np.array([0.4, 0.6]))["low"] == pytest.approx(0.405)


def test_p_of_a_table_is_by_patient() -> None:
    table = score_table()
    noisy = np.clip(table.scores["prompt"] + np.random.default_rng(3).normal(0, 0.1, (80, 4)), 0, 1)
    table = replace(table, scores={"prompt": table.scores["prompt"], "noisy": noisy.astype(np.float32)})
    got = results(table, SEEN_AS, ["edema"], None, 20, headline="prompt")["differences"]["noisy"]["findings"]["edema"]
    columns = [table.scores[name][:, 0] for name in ("prompt", "noisy")]
    assert got["p"] == pytest.approx(delong(table.labels[:, 0], columns, table.patient).p_value(), abs=1e-12)
    assert abs(got["p"] - delong(table.labels[:, 0], columns).p_value()) > 1e-3


def test_differences_are_of_the_primary_findings_with_p_corrected_by_hand() -> None:
    found = results(score_table(), SEEN_AS, ["edema", "pleural_effusion"], None, 100, headline="prompt")
    both = found["differences"]["anchor"]["findings"]
    assert list(both) == ["edema", "pleural_effusion"]
    one = results(score_table(), SEEN_AS, ["edema"], None, 100, headline="prompt")["differences"]["anchor"]
    assert list(one["findings"]) == ["edema"] and one["auroc"] == both["edema"]["auroc"]
    small, large = sorted((one["p"], one["p_holm"]) for one in both.values())
    assert 0 < small[0] < large[0] < 1
    assert small[1] == pytest.approx(min(1, 2 * small[0])) and large[1] == pytest.approx(max(small[1], large[0]))


def test_a_resample_without_a_class_has_no_brier_score_either() -> None:
    """Of 12 patients one has the finding, so that a third of the resamples lack it."""
    labels = np.array([[1.0]] + [[0.0]] * 11, dtype=np.float32)
    ids = [str(i) for i in range(12)]
    scores = {"prompt": np.linspace(0.9, 0.1, 12, dtype=np.float32)[:, None]}
    table = ScoreTable("ours", "test", np.arange(12), ids, ids, ids, ("edema",), labels, scores)
    measured = Estimates(table, {}, {"prompt": {"edema": Platt(1.0, 0.0)}}, 200, 0).samples["prompt", 0]
    gone = np.isnan(measured["auroc"])
    assert 40 < gone.sum() < 100
    assert (np.isnan(measured["brier"]) == gone).all()
