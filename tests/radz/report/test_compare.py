"""radz compare: side by side on shared studies, paired tests, and refusals of one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from csv_rows import rows_of
from sklearn.metrics import f1_score, roc_auc_score

from data_modules.errors import InputError
from radz.cli.command_line import main
from radz.metrics.delong import delong
from radz.metrics.score_table import ScoreTable, prediction_file
from radz.metrics.split_results import calibrations_from, results, thresholds_from
from radz.metrics.wordings import in_wordings
from radz.report.compare import compare

FINDINGS = ("edema", "mass", "hernia")
SEEN_AS = {"edema": "label", "mass": "label", "hernia": "none"}


def score_table(noise: float, split: str = "test", seed: int = 0) -> ScoreTable:
    rng = np.random.default_rng(seed)
    labels = (rng.random((90, 3)) < 0.4).astype(np.float32)
    labels[:, 2] = 0
    scores = (1 / (1 + np.exp(-labels - noise * rng.normal(size=(90, 3))))).astype(np.float32)
    ids, patients = [f"s{i}" for i in range(90)], [f"{i // 2:012x}" for i in range(90)]
    return ScoreTable("ours", split, np.arange(90), ids, [""] * 90, patients, FINDINGS, labels, {"fused": scores})


def write_run(folder: Path, table: ScoreTable) -> Path:
    table.write_csv(prediction_file(folder, table.key))
    validation = score_table(1.0, "val", 7)
    entry = results(
        table, SEEN_AS, FINDINGS[:2], thresholds_from(validation), 60, 3, headline="fused",
        calibrations=calibrations_from(validation),
    )  # fmt: skip
    metrics = {"schema": 1, "headline_scorer": "fused", "protocol_digest": "9c31", "test_evaluations": 1, "leaked": []}
    (folder / "metrics.json").write_text(json.dumps({**metrics, "results": {table.key: entry}}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    good = score_table(0.6)
    # The second run has scored fewer studies, in another order.
    other = score_table(1.5).take(np.r_[80:10:-1])
    return write_run(tmp_path / "a" / "seed0", good), write_run(tmp_path / "b" / "seed0", other)


def test_side_by_side_on_shared_studies(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = runs[0].parent / "out"
    assert main(["compare", *map(str, runs), f"out={out}"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "comparison.html")
    lines = {(line["run"], line["finding"], line["metric"]): line for line in rows_of(out / "comparison.csv")}
    order = np.r_[80:10:-1]
    first, second = score_table(0.6).take(np.sort(order)), score_table(1.5).take(np.sort(order))
    for column, name in enumerate(FINDINGS[:2]):
        truth = first.labels[:, column]
        areas = {}
        for letter, table in (("A", first), ("B", second)):
            areas[letter] = roc_auc_score(truth, table.scores["fused"][:, column])
            assert float(lines[letter, name, "auroc"]["value"]) == pytest.approx(areas[letter], abs=1e-10)
        line = lines["B", name, "auroc"]
        assert float(line["difference"]) == pytest.approx(areas["B"] - areas["A"], abs=1e-10)
        assert float(line["difference_low"]) < float(line["difference"]) < float(line["difference_high"])
        pair = [table.scores["fused"][:, column] for table in (first, second)]
        p = delong(truth, pair, first.patient).p_value()
        assert not 0.5 < p / delong(truth, pair).p_value() < 2, "rows of a patient taken as independent"
        assert float(line["p_delong"]) == pytest.approx(p, abs=1e-12) and float(line["p_holm"]) >= p
        assert lines["A", name, "auroc"]["p_delong"] == ""
    assert float(lines["B", "macro", "auroc"]["difference"]) < 0 and lines["A", "macro", "brier"]["value"]
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert "Rows scored by every run: 70" in page and "A has scored 90, the others of which are left out" in page
    assert "of 36 patients, up to 2 of one: every interval and p takes the rows of a patient together" in page
    assert "DeLong, variance by patient (Obuchowski 1997), two-sided" in page and "Each run is one training" in page
    assert "no positive among 70 known labels" in page
    assert "<link" not in page and "://" not in page and "0000000000" not in page
    names = {f"{kind}_ours_test" for kind in ("auroc", "differences")}
    assert {path.stem for path in (out / "figures").iterdir()} == names


def test_what_other_words_do_stands_beside(runs: tuple[Path, Path]) -> None:
    """Of a run of today with its intervals, of an older one without; of one that has none, nothing."""
    third = write_run(runs[0].parents[1] / "c" / "seed0", score_table(1.0))
    said = np.random.default_rng(0).random((90, 6)).astype(np.float32)
    for folder, table in ((runs[0], score_table(0.6)), (runs[1], score_table(1.5))):
        table.wordings = {"showing": said, "question": np.hstack([table.scores["fused"], said[:, 3:]])}
        metrics = json.loads((folder / "metrics.json").read_text())
        found = in_wordings(table, FINDINGS[:2], 100, 0)
        assert found is not None
        if folder == runs[1]:
            found.pop("intervals")
        metrics["results"][table.key]["wordings"] = found
        if folder == runs[0]:
            area = {"value": 0.7, "low": 0.6, "high": 0.8}
            metrics["results"][table.key]["prompt_sets"] = {"auroc": {"chexzero": area}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    page = compare([*runs, third])
    lines = [line for line in rows_of(page.with_name("comparison.csv")) if line["metric"].startswith("wordings_")]
    assert {line["run"] for line in lines} == {"A", "B"} and "In other words" in page.read_text(encoding="utf-8")
    value = {(line["run"], line["metric"].removeprefix("wordings_")): float(line["value"]) for line in lines}
    for run in "AB":
        assert value[run, "spread"] == pytest.approx(value[run, "most"] - value[run, "least"])
        assert 0 < value[run, "present"] < 1
    assert {line["metric"] for line in lines if line["low"]} == {
        "wordings_present", "wordings_absent", "wordings_balanced", "wordings_prompts_chexzero"
    }  # fmt: skip
    assert all(line["run"] == "A" for line in lines if line["low"]) and value["A", "prompts_chexzero"] == 0.7
    assert "published prompts, chexzero" in page.read_text(encoding="utf-8")


def test_a_mean_is_over_what_every_run_has(runs: tuple[Path, Path]) -> None:
    """A run whose validation had no threshold for one finding: its F1 would be that of the other alone."""
    metrics = json.loads((runs[1] / "metrics.json").read_text())
    (result,) = metrics["results"].values()
    del result["thresholds"]["validation"]["fused"]["edema"]
    (runs[1] / "metrics.json").write_text(json.dumps(metrics))
    page = compare(list(runs))
    lines = {(line["run"], line["metric"]): line for line in rows_of(page.with_name("comparison.csv"))
             if line["finding"] == "macro"}  # fmt: skip
    assert {(metric, line["findings"]) for (_, metric), line in lines.items() if line["findings"] != "2"} == {
        ("f1_validation", "1"), ("accuracy_validation", "1"), ("mcc_validation", "1")
    }  # fmt: skip
    order = np.sort(np.r_[80:10:-1])
    table, rule = score_table(0.6).take(order), thresholds_from(score_table(1.0, "val", 7))["fused"]["mass"]
    own = f1_score(table.labels[:, 1], table.scores["fused"][:, 1] >= rule)
    assert float(lines["A", "f1_validation"]["value"]) == pytest.approx(own)
    assert page.read_text(encoding="utf-8").count("<small>over 1 of 2</small>") == 3


def test_a_run_does_not_differ_from_its_copy(runs: tuple[Path, Path], tmp_path: Path) -> None:
    twin = write_run(tmp_path / "c", score_table(0.6))
    path = compare([runs[0], twin])
    assert path == runs[0] / "compare" / "comparison.html"
    lines = [line for line in rows_of(path.with_name("comparison.csv")) if line["run"] == "B" and line["difference"]]
    assert len(lines) == 3
    for line in lines:
        assert float(line["difference"]) == 0
        assert not any(line[name] for name in ("difference_low", "difference_high", "p_delong", "p_holm"))
    assert ">nan" not in path.read_text() and "None" not in path.read_text()


def test_studies_of_one_image_are_paired_by_their_study(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Another program knows other names of the images."""
    named = replace(score_table(1.5), image_id=[f"i{n}" for n in range(90)]).take(np.r_[80:10:-1])
    one, other = (compare([runs[0], run], tmp_path / name) for run, name in (
        (runs[1], "x"), (write_run(tmp_path / "named", named), "y"),
    ))  # fmt: skip
    lines = [rows_of(path.with_name("comparison.csv")) for path in (one, other)]
    assert [{**line, "folder": ""} for line in lines[0]] == [{**line, "folder": ""} for line in lines[1]]
    twice = write_run(tmp_path / "twice", replace(named, study_id=["s20", *named.study_id[1:]]))
    with pytest.raises(InputError, match="no study in common"):
        compare([runs[0], twice])


def test_refusals_are_one_line(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = map(str, runs)

    def fails(*words: str) -> str:
        assert main(["compare", *words]) == 2
        shown = capsys.readouterr().err.splitlines()
        assert len(shown) == 1
        return shown[0]

    assert "1 run folder(s); name 2" in fails(a)
    assert "is named twice" in fails(a, a)
    assert fails(a, str(tmp_path / "nowhere")).endswith("nowhere: no such folder")
    assert "has no such scorer; nearest is 'fused'" in fails(a, b, "scorer=fusd")
    assert "outt=x: unknown here" in fails(a, b, "outt=x")
    table = score_table(1.0)
    flipped = table.labels.copy()
    flipped[4, 1] = 1 - flipped[4, 1]
    relabelled = write_run(tmp_path / "labels", replace(table, labels=flipped))
    assert "1 shared studies have other labels" in fails(a, str(relabelled))
    assert "first mass in row 5" in fails(a, str(relabelled))
    strangers = write_run(tmp_path / "strangers", replace(table, study_id=[f"t{i}" for i in range(90)]))
    assert "no study in common" in fails(a, str(strangers))
    elsewhere = write_run(tmp_path / "elsewhere", replace(table, corpus="theirs"))
    assert "no test split in common (A: ours/test; B: theirs/test)" in fails(a, str(elsewhere))
    twice = write_run(tmp_path / "twice", table)
    table.take([*range(len(table)), 3]).write_csv(prediction_file(twice, table.key))
    assert "rows 4 and 91 are the same study" in fails(a, str(twice))
    with pytest.raises(InputError, match="no scores of 'fused'"):
        path = runs[1] / "predictions" / "ours_test.csv"
        path.write_text(path.read_text().replace("fused/", "other/"))
        compare(runs)
