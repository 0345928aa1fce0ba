"""radz score: the numbers of scikit-learn and of a run; its folder, without torch."""

from __future__ import annotations

import csv
import json
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from given_tables import EXACT, FINDINGS, Given, make, score, scored
from hypothesis import given as drawn
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, f1_score, roc_auc_score

from data_modules.errors import InputError
from radz.cli.command_line import main
from radz.metrics.calibration import fit
from radz.metrics.score_table import ScoreTable
from radz.runs.other_scores.unit_interval import UNIT, check_one_scale, to_unit_interval


@pytest.fixture
def tables(tmp_path: Path) -> Given:
    return make(tmp_path)


def test_of_the_table_of_predict_the_scores_are_read(tables: Given, capsys: pytest.CaptureFixture[str]) -> None:
    plain = scored(tables)
    (header, *rows) = tables.score_rows()
    more = [f"{name}/{derived}" for name in FINDINGS for derived in ("probability", "call")]
    tables.write("scores.csv", [[*header, *more], *([*row, *["0.5", "1"] * len(FINDINGS)] for row in rows)])
    assert scored(tables, out="again")["scorers"] == plain["scorers"]
    assert "not read: edema/probability, edema/call" in capsys.readouterr().err


def test_a_table_by_hand_gives_the_numbers_of_scikit_learn(tables: Given) -> None:
    result = scored(tables)
    own = result["scorers"]["scores"]
    areas = []
    for column, name in enumerate(FINDINGS):
        truth, raw = tables.labels[:, column], tables.scores[:, column]
        areas.append(roc_auc_score(truth, raw))
        numbers = {
            "auroc": areas[-1],
            "auprc": average_precision_score(truth, raw),
            "f1_half": f1_score(truth, raw >= 0),
        }
        found = {metric: cell["value"] for metric, cell in own["findings"][name].items() if metric in numbers}
        assert found == pytest.approx(numbers, abs=EXACT)
        assert own["findings"][name]["f1_validation"]["value"] is None
    assert own["macro"]["auroc"]["value"] == pytest.approx(np.mean(areas), abs=EXACT)
    assert own["macro"]["auroc"]["low"] < np.mean(areas) < own["macro"]["auroc"]["high"]
    assert result["coverage"] == {"studies": 80, "patients": 40, "skipped": 0, "reasons": {}}
    assert set(own["unavailable"]["f1_validation"].values()) == {"no validation split was scored"}
    assert result["inference"]["most_rows_of_a_patient"] == 2 and result["thresholds_from"] is None
    assert set(result["subgroups"]["sex"]) == {"M", "F"}


def test_scikit_learn_with_a_validation_table(tmp_path: Path) -> None:
    """Probabilities in double precision, written by pandas with its row numbers."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(300, 4)), rng.random(300) < 0.4
    x[y] += 0.8
    model = LogisticRegression().fit(x[:100], y[:100])
    frame = pd.DataFrame({"Image Index": [f"{n:05d}.png" for n in range(300)], "Patient ID": np.arange(300) // 3})
    frame["Effusion"] = model.predict_proba(x)[:, 1]
    frame.drop(columns="Patient ID")[100:200].to_csv(tmp_path / "val.csv")
    frame.drop(columns="Patient ID")[200:].to_csv(tmp_path / "test.csv")
    frame["Effusion"] = y.astype(int)
    frame[100:].to_csv(tmp_path / "labels.csv")
    keys = [f"labels={tmp_path / 'labels.csv'}", f"val={tmp_path / 'val.csv'}", "scorer=logreg", "corpus=ours"]
    metrics = score(tmp_path / "out", tmp_path / "test.csv", *keys)
    result = metrics["results"]["ours/test"]
    cell = result["scorers"]["logreg"]["findings"]["pleural_effusion"]
    p = model.predict_proba(x)[:, 1].astype(np.float32).astype(float)
    val, test = slice(100, 200), slice(200, 300)
    assert cell["auroc"]["value"] == pytest.approx(roc_auc_score(y[test], p[test]), abs=EXACT)
    best = max((f1_score(y[val], p[val] >= one), one) for one in p[val])
    threshold = result["thresholds"]["validation"]["logreg"]["pleural_effusion"]
    assert f1_score(y[val], p[val] >= threshold) == pytest.approx(best[0], abs=EXACT)
    assert cell["f1_validation"]["value"] == pytest.approx(f1_score(y[test], p[test] >= threshold), abs=EXACT)
    platt = fit(y[val].astype(float), p[val])
    assert cell["brier"]["value"] == pytest.approx(brier_score_loss(y[test], platt(p[test])), abs=EXACT)
    assert result["thresholds_from"] == "ours/val" and (tmp_path / "out/predictions/ours_val.csv").is_file()
    notes = "\n".join(metrics["given"]["notes"])
    assert "logit" not in notes and "validation were given" not in notes
    assert "1 patient(s) stand in test and in validation" in notes


def test_a_run_gives_its_own_numbers(trained_run: Path, tmp_path: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    ((key, of_run),) = metrics["results"].items()
    headline, files = metrics["headline_scorer"], trained_run / "predictions"
    test, val = (files / f"{key.split('/')[0]}_{split}.csv" for split in ("test", "val"))
    keys = [f"val={val}", f"scorer={headline}", f"primary={','.join(of_run['primary'])}"]
    again = score(tmp_path / "out", test, *keys)
    assert again["headline_scorer"] == headline and again["leaked"] is None
    result = again["results"][key]
    for part in ("primary", "inference", "bootstrap", "calibration", "thresholds", "differences", "thresholds_from"):
        assert result[part] == of_run[part], part
    assert list(result["scorers"]) == list(of_run["scorers"])
    for scorer, own in result["scorers"].items():
        theirs = of_run["scorers"][scorer]
        for part in ("macro", "micro", "excluded", "unavailable"):
            assert own[part] == theirs[part], part
        assert list(own["findings"]) == list(theirs["findings"])
        for name, cell in own["findings"].items():
            assert cell == {**theirs["findings"][name], "seen": "unknown"}
    for file in (test, val):
        assert (tmp_path / "out/predictions" / file.name).read_bytes() == file.read_bytes()


def test_logits_that_float32_would_tie_keep_their_ranks(tables: Given) -> None:
    tables.scores *= 40
    tables.scores[:, 1] = 30 + tables.scores[:, 1] * 1e-9
    tables.write("scores.csv", tables.score_rows())
    own = scored(tables)["scorers"]["scores"]["findings"]
    for column, name in enumerate(FINDINGS):
        area = roc_auc_score(tables.labels[:, column], tables.scores[:, column])
        assert own[name]["auroc"]["value"] == pytest.approx(area, abs=EXACT)
    tied = expit(tables.scores[:, 1]).astype(np.float32)
    assert len(np.unique(tied)) == 1, "the case is one that a plain logistic function would lose"


def test_percent_are_probabilities_times_a_hundred(tmp_path: Path) -> None:
    """Every number, Brier score and calibration error included; of logits that all happen to be positive the ranks."""
    tables, val = make(tmp_path, 80), make(tmp_path, 60, seed=1, first=500)
    found = {}
    for name, change in (
        ("unit", expit), ("percent", lambda raw: 100 * expit(raw)), ("logits", lambda raw: raw),
        ("positive", lambda raw: raw + 5),
    ):  # fmt: skip
        for of, file in ((tables, "scores.csv"), (val, "val.csv")):
            rows = zip(of.study, change(of.scores).tolist(), strict=True)
            of.write(file, [["study_id", *FINDINGS], *([study, *own] for study, own in rows)])
        val.write("val_labels.csv", val.label_rows())
        tables.write("labels.csv", tables.label_rows())
        keys = [f"{key}={tmp_path / key}.csv" for key in ("labels", "val", "val_labels")]
        found[name] = score(tmp_path / f"out_{name}", tmp_path / "scores.csv", *keys)
    own = {name: next(iter(of["results"].values()))["scorers"]["scores"]["macro"] for name, of in found.items()}
    for metric, entry in own["unit"].items():
        assert own["percent"][metric]["value"] == pytest.approx(entry["value"], abs=1e-6), metric
    for metric in ("auroc", "auprc", "f1_oracle"):
        assert own["positive"][metric]["value"] == pytest.approx(own["logits"][metric]["value"], abs=EXACT)
    notes = {name: " ".join(of["given"]["notes"]) for name, of in found.items()}
    assert "outside [0, 1]" not in notes["unit"] and "are taken as percent and divided by 100" in notes["percent"]
    assert "are taken as logits" in notes["logits"] and "Brier score and calibration error" in notes["logits"]


def test_files_of_two_scales_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables, val = make(tmp_path, 80), make(tmp_path, 60, seed=1, first=500)
    for of, file, most in ((tables, "scores.csv", 100), (val, "val.csv", 1)):
        rows = zip(of.study, (most * expit(of.scores)).tolist(), strict=True)
        of.write(file, [["study_id", *FINDINGS], *([study, *own] for study, own in rows)])
    val.write("val_labels.csv", val.label_rows())
    tables.write("labels.csv", tables.label_rows())
    keys = [f"{key}={tmp_path / key}.csv" for key in ("labels", "val", "val_labels")]
    assert main(["score", f"{tmp_path / 'scores.csv'}", f"out={tmp_path / 'out'}", *keys]) == 2
    assert (
        "val.csv: scores of scores go from 0.0497802 to 0.991164 in validation and from 2.7" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("test", "val", "same"),
    [
        ([3, 98], [0.03, 0.98], False), ([0.03, 0.98], [3, 98], False), ([-4, 5], [0.1, 0.9], True),
            ([-4, 5], [i / 40 for i in range(40)], False), ([-0.09, 0.39], [i / 100 for i in range(40)], True),
            ([-9, 12], [0.3, 12], True), ([0.3, 12], [-9, 12], True),
        ([3, 98], [-4, 5], False), ([3, 98], [1, 9], True), ([-4, 5], [1, 9], True), ([3, 98], [np.nan], True),
        ([0.1, 1.000001], [0.2, 0.3], True), ([3, 98], [0, 77], True),
    ],
)  # fmt: skip
def test_what_may_be_one_scale(test: list[float], val: list[float], same: bool) -> None:
    """Positive numbers up to 10 may be percent, or logits."""
    with nullcontext() if same else pytest.raises(InputError, match="not one scale"):
        check_one_scale([np.array(test)], [np.array(val, dtype=float)], "val.csv: scores of m")


@drawn(st.lists(st.one_of(st.floats(-1e9, 1e9), st.just(float("nan"))), min_size=1, max_size=60))
def test_every_scale_keeps_its_order(values: list[float]) -> None:
    raw = np.array(values)
    (mapped,), scale = to_unit_interval([raw])
    known = ~np.isnan(raw)
    assert np.array_equal(np.isnan(mapped), ~known) and ((mapped[known] >= 0) & (mapped[known] <= 1)).all()
    one, other = raw[known], mapped[known].astype(float)
    assert np.array_equal(np.sign(one[:, None] - one), np.sign(other[:, None] - other))
    assert (scale != UNIT) == bool(((one < -1e-5) | (one > 1 + 1e-5)).any())
    single = np.unique(np.abs(mapped[known]))
    assert np.array_equal(to_unit_interval([single.astype(float)])[0][0], single), "float32 of [0, 1] stay as they are"


def test_compare_pairs_a_table_with_a_run(trained_run: Path, tmp_path: Path) -> None:
    """Scores of other software on some studies of a run, in another order, under other names."""
    (file,) = (trained_run / "predictions").glob("*_test.csv")
    own = ScoreTable.read_csv(file)
    frame = pd.DataFrame({"study": own.study_id, "Effusion": own.column("prompt", "pleural_effusion")[1].astype(float)})
    frame[::-1][:14].to_csv(tmp_path / "other.csv", index=False)
    keys = [f"labels={file}", f"corpus={own.corpus}", "unmatched=skip", "scorer=prompt"]
    metrics = score(tmp_path / "other", tmp_path / "other.csv", *keys)
    result = metrics["results"][own.key]
    assert result["coverage"]["reasons"] == {"labels without scores": 2}
    listed = list(csv.DictReader((tmp_path / "other/left_out.csv").open()))
    assert [(line["row"], line["reason"]) for line in listed] == [(n, "labels without scores") for n in ("2", "3")]
    out = tmp_path / "compared"
    assert main(["compare", str(trained_run), str(tmp_path / "other"), "scorer=prompt", f"out={out}"]) == 0
    lines = [line for line in csv.DictReader((out / "comparison.csv").open()) if line["finding"] == "pleural_effusion"]
    assert len({line["value"] for line in lines}) == 1 and float(lines[1]["difference"]) == 0.0
    assert "of which" in (out / "comparison.html").read_text()
    assert main(["report", str(tmp_path / "other")]) == 0


@pytest.mark.figures
def test_identifiers_stand_where_privacy_allows(tables: Given) -> None:
    scored(tables)
    out = tables.folder / "out"
    for path in [one for one in out.rglob("*") if one.is_file() and one.suffix != ".png"]:
        text, place = path.read_text(encoding="utf-8"), path.relative_to(out).parts[0]
        assert "PATIENT" not in text or place == "private", path
        assert "STUDY0" not in text or place in ("private", "predictions"), path
    ids = out / "private/ids.csv"
    assert stat.S_IMODE(ids.stat().st_mode) == 0o600 and "PATIENT0000" in ids.read_text()
    assert {one.name for one in out.iterdir()} == {
        "environment.json", "figures", "label_mapping.csv", "metrics.json", "predictions", "private", "report.html",
    }  # fmt: skip


def test_no_torch_is_loaded(tables: Given) -> None:
    folder = tables.folder
    code = (
        "import sys; from radz.cli import main; assert main(sys.argv[1:]) == 0; "
        "sys.exit(','.join({'torch', 'lightning', 'transformers'} & set(sys.modules)) or 0)"
    )
    given = ["score", str(folder / "scores.csv"), f"labels={folder / 'labels.csv'}", f"cache_dir={folder / 'cache'}"]
    one, two = (str(folder / name) for name in ("one", "two"))
    for words in (*([*given, "replicates=100", f"out={out}"] for out in (one, two)), ["compare", one, two]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr


def test_a_protocol_of_a_choice_has_its_accuracy(tables: Given) -> None:
    """Of studies with one of two findings, the one with the higher score, as scikit-learn counts it."""
    protocol = tables.folder / "choice.yaml"
    two = "[edema, pleural_effusion]"
    protocol.write_text(f"base: protocols/nih14\nscoring: {{findings: {two}, choice: {two}}}\n")
    found = scored(tables, f"protocol={protocol}")["choice"]
    one = tables.labels[:, :2].sum(axis=1) == 1
    truth, answer = (values[one][:, :2].argmax(axis=1) for values in (tables.labels, tables.scores))
    assert found["scorers"]["scores"]["accuracy"]["value"] == pytest.approx(accuracy_score(truth, answer))
    assert (found["rows"], found["left_out"]) == (one.sum(), (~one).sum()) and found["left_out"] > 0
    assert "choice" not in scored(tables, out="none")
    assert "One of 2 findings chosen" in (tables.folder / "out/report.html").read_text(encoding="utf-8")


def test_a_table_of_scikit_learn_beside_a_run(trained_run: Path, tmp_path: Path) -> None:
    """Studies stand under another header there, which the prediction file of the run has not."""
    file = trained_run / "predictions/phantom_test.csv"
    own = ScoreTable.read_csv(file)
    frame = pd.DataFrame({"image": own.study_id, "edema": own.column("prompt", "edema")[1].astype(float)})
    frame.to_csv(tmp_path / "scores.csv", index=False)
    metrics = score(tmp_path / "out", tmp_path / "scores.csv", "study=image", f"labels={file}", "corpus=phantom")
    run = json.loads((trained_run / "metrics.json").read_text())["results"]["phantom/test"]["scorers"]["prompt"]
    (result,) = metrics["results"].values()
    found, theirs = (of["findings"]["edema"]["auroc"]["value"] for of in (result["scorers"]["scores"], run))
    assert found == pytest.approx(theirs, abs=1e-9)
