"""A trained run on data it has never met: only a test split, and other findings."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from small_run import BARE, FEW, SMALL

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.metrics.headline import best_on_validation
from radz.metrics.score_table import ScoreTable
from radz.metrics.split_results import thresholds_from
from radz.runs import score
from radz.runs.evaluate import evaluate_run
from radz.runs.train import train

NAMES = ("edema", "mass", "lung_lesion", "fracture")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Twelve images, all in the test split. edema and mass have both labels, fracture has none at all."""
    root = tmp_path / "foreign"
    (root / "images").mkdir(parents=True)
    shade = np.random.default_rng(0)
    rows, splits = ["file,patient,edema,mass,lung_lesion,fracture"], ["file,split"]
    for i in range(12):
        Image.fromarray(shade.integers(0, 255, (70, 60), dtype=np.uint8)).save(root / f"images/{i}.png")
        rows.append(f"{i}.png,p{i},{i % 2},{int(i < 3)},{int(i == 5)},")
        splits.append(f"{i}.png,test")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    (root / "split.csv").write_text("\n".join(splits) + "\n")
    coding = {0: "absent", 1: "present", "blank": "unmentioned"}
    corpus = {
        "reader": "table", "root": str(root), "csv": "table.csv", "image_folder": "images",
        "columns": {"image": "file", "patient": "patient"}, "split_csv": {"file": "split.csv", "key": "file"},
        "labels": {name: {"column": name, "numeric": coding} for name in NAMES},
    }  # fmt: skip
    content = {
        "base": "base",  # of the package: nothing of that name lies beside this file
        "data": {"image_size": 96, "resize": "squash", "batch_size": 4, "corpora": [corpus]},
        "backbone": {"tiny": {"image_size": 96}},
        "trainer": {"progress_bar": False},
        "scoring": {"replicates": 100, "cases": 2},
        "wandb": {"mode": "disabled"},
    }
    file = tmp_path / "foreign.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def evaluated(file: Path, run: Path, cache: Path, *overrides: str) -> dict[str, Any]:
    out = evaluate_run(load_experiment(str(file), [f"run={run}", f"cache_dir={cache}", *overrides]))
    assert out == run / "eval" / "foreign" and (out / "report.html").is_file()
    assert not (out / "checkpoints").exists()
    return json.loads((out / "metrics.json").read_text())


def test_a_corpus_of_a_test_split_alone(
    foreign: Path, trained_run: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "radz"):
        metrics = evaluated(foreign, trained_run, cache_dir)
    # Pixels are made as the run was trained on, and that is said.
    scored = load_experiment(str(trained_run / "eval/foreign/config.yaml")).data
    assert (scored.image_size, scored.resize) == (64, "pad")
    assert "data.image_size: 64, as in training, not 96" in caplog.text
    assert metrics["leaked"] is None
    result = metrics["results"]["foreign/test"]
    assert set(result["scorers"]) == {"prompt", "description", "anchor", "fused"}
    assert "no pixel32: these data have no training split" in caplog.text
    entry = result["scorers"]["fused"]
    # What the run has seen counts, not what these data hold: it learned edema and never met a mass.
    assert {name: value["seen"] for name, value in entry["findings"].items()} == {
        "edema": "label", "mass": "none", "lung_lesion": "none"
    }  # fmt: skip
    assert result["primary"] == ["edema"] and entry["excluded"] == {"fracture": "no known label"}
    # Its validation split gives the thresholds of what was scored alike there.
    known = thresholds_from(ScoreTable.read_csv(trained_run / "predictions/phantom_val.csv"))["anchor"]
    assert result["thresholds_from"] == "phantom/val of the trained run"
    assert result["thresholds"]["validation"]["anchor"] == {"edema": pytest.approx(known["edema"])}
    assert "mass" in result["scorers"]["anchor"]["unavailable"]["f1_validation"]


@pytest.mark.parametrize(("empty", "said"), [("train", "training split to fit it on"), ("val", "validation split to")])
def test_data_without_a_split_that_fits_or_chooses_have_no_pixel_baseline(
    empty: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {split: np.arange(4 * (split != empty)) for split in ("train", "val", "test")}
    values = np.zeros((4, 1), np.float32)
    data: Any = SimpleNamespace(
        table=SimpleNamespace(rows=rows.get, image_offsets=np.arange(5), corpus=np.zeros(4, int)),
        cache=SimpleNamespace(picture=lambda image: np.zeros((32, 32), np.uint8)), findings=("edema",),
        loss_labels=lambda rows: values[rows], metric_labels=lambda rows: values[rows],
    )  # fmt: skip
    table: Any = SimpleNamespace(rows=rows["test"], findings=("edema",), scores={})
    with caplog.at_level(logging.INFO, "radz"):
        score.add_pixel_baseline(data, {"test": [table]})
    assert not table.scores and f"no pixel32: these data have no {said}" in caplog.text


@pytest.mark.slow
def test_rules_of_validation_are_for_scores_of_one_make(
    foreign: Path, trained_run: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The demo asks by five sentences and their denials, the experiment at hand by one."""
    run = shutil.copytree(trained_run, foreign.parent / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["validation"]["phantom"]["thresholds"]["pixel32"] = {"edema": 0.5}
    (run / "metrics.json").write_text(json.dumps(metrics))

    def scored(*overrides: str) -> dict[str, Any]:
        found = evaluated(foreign, run, cache_dir, "scoring.wordings=", "scoring.pixel_baseline=false", *overrides)
        return found["results"]["foreign/test"]

    with caplog.at_level(logging.WARNING, "radz"):
        result = scored()
    assert "no thresholds, fits and conformal sets of fused, prompt" in caplog.text
    fixed, reason = result["thresholds"]["validation"], "with other scoring.prompts"
    assert set(fixed) == {"prompt", "description", "anchor", "fused"} and not fixed["prompt"] and not fixed["fused"]
    assert fixed["anchor"] and fixed["description"] and result["conformal"] is None
    for scorer in ("prompt", "fused"):
        entry = result["scorers"][scorer]
        assert entry["macro"]["brier"]["value"] is None and reason in entry["unavailable"]["brier"]["edema"]
        assert reason in entry["unavailable"]["f1_validation"]["edema"]
        assert "val split" in entry["unavailable"]["f1_validation"]["edema"]
    parameters = result["calibration"]["parameters"]
    assert {scorer for scorer, of in parameters.items() if of} == {"anchor", "description"}
    assert reason in (run / "eval/foreign/report.html").read_text()

    own = load_experiment(str(trained_run / "config.yaml")).scoring
    asked = [
        f"scoring.prompts={json.dumps(own.prompts)}",
        f"scoring.negative_prompts={json.dumps(own.negative_prompts)}",
    ]
    result = scored(*asked, "scoring.headline=prompt")
    assert result["thresholds"]["validation"]["prompt"] and result["conformal"]["findings"]["edema"]
    for key, lost in (("prompt_features=global", {"prompt", "description"}), ("fused=authors", {"fused"}),
                      ("aggregate=mean", set(fixed)), ("unit=image", set(fixed))):  # fmt: skip
        found = scored(*asked, f"scoring.{key}")["thresholds"]["validation"]
        assert {scorer for scorer, of in found.items() if not of} == lost, key
    edema = {"edema": {"positive": ["Signs of edema."]}}
    found = scored(*asked, f"scoring.class_prompts={json.dumps(edema)}")["scorers"]["prompt"]["unavailable"]
    assert "scoring.class_prompts" in found["f1_validation"]["edema"]


@pytest.mark.slow
def test_a_network_is_scored_on_other_findings(foreign: Path, tmp_path: Path, cache_dir: Path) -> None:
    places = [f"run_dir={tmp_path / 'cnn'}", f"cache_dir={cache_dir}", "scoring.pixel_baseline=false", "cnn.width=4"]
    run = train(load_experiment("demo_cnn", [*SMALL, *places]))
    trained = json.loads((run / "metrics.json").read_text())
    assert trained["leaked"] == [] and "seen" in json.loads((run / "environment.json").read_text())
    entry = evaluated(foreign, run, cache_dir)["results"]["foreign/test"]["scorers"]["cnn"]
    assert set(entry["findings"]) == {"edema", "mass"}
    assert entry["excluded"]["lung_lesion"] == "scorer not available for this finding"
    with pytest.raises(InputError, match="method cnn, which cannot be asked"):
        evaluated(foreign, run, cache_dir, "method=vqa")
    scores = pd.read_csv(run / "eval/foreign/predictions/foreign_test.csv")
    assert scores["cnn/lung_lesion"].isna().all() and scores["cnn/edema"].notna().all()


def test_data_without_any_usable_label_are_refused(foreign: Path, trained_run: Path, cache_dir: Path) -> None:
    table = foreign.parent / "foreign/table.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(",".join([*line.split(",")[:2], "1", "", "", ""]) for line in lines[1:])]))
    with pytest.raises(InputError, match=r"nothing can be scored .*edema: no negative among 12") as fault:
        evaluated(foreign, trained_run, cache_dir)
    assert "\n" not in str(fault.value)


def test_an_evaluation_never_lands_in_a_trained_run(foreign: Path, trained_run: Path, cache_dir: Path) -> None:
    for place in (trained_run, foreign.parent):
        with pytest.raises(InputError, match="run_dir: "):
            evaluate_run(
                load_experiment(str(foreign), [f"run={trained_run}", f"cache_dir={cache_dir}", f"run_dir={place}"])
            )


def test_a_run_that_does_not_say_what_it_saw_is_refused(
    foreign: Path, trained_run: Path, tmp_path: Path, cache_dir: Path
) -> None:
    run = tmp_path / "old"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_bytes((trained_run / "config.yaml").read_bytes())
    with pytest.raises(InputError, match=r"best\.ckpt: no such checkpoint"):
        evaluated(foreign, run, cache_dir)
    (run / "checkpoints/best.ckpt").write_bytes(b"")
    with pytest.raises(InputError, match="does not say what the run has seen"):
        evaluated(foreign, run, cache_dir)


def test_published_prompts_are_scored_by_name_and_all_at_once(
    foreign: Path, trained_run: Path, cache_dir: Path
) -> None:
    """The set that the run's own prompts are has the AUROC of scorer `prompt`; the others are other sentences."""
    metrics = evaluated(foreign, trained_run, cache_dir, "scoring.prompts=ct_clip", "scoring.primary=all")
    page = (trained_run / "eval/foreign/report.html").read_text(encoding="utf-8")
    result, protocol = metrics["results"]["foreign/test"], metrics["protocol"]
    sets = result["prompt_sets"]
    assert sorted(sets["findings"]) == ["edema", "lung_lesion", "mass"] and set(sets["auroc"]) == set(
        protocol["prompt_sets"]
    )
    values = {name: one["value"] for name, one in sets["auroc"].items()}
    assert values["ct_clip"] == pytest.approx(result["scorers"]["prompt"]["macro"]["auroc"]["value"], abs=1e-9)
    assert len(set(values.values())) == 3
    assert sets["spread"]["value"] == pytest.approx(max(values.values()) - min(values.values()))
    assert protocol["prompt_set"] == "ct_clip" and protocol["scoring"]["prompts"] == ["{Finding} is present."]
    assert protocol["prompt_sets"]["chexzero"]["negative"] == ["no {Finding}"]
    assert "Published prompts" in page and "own prompts are those of ct_clip" in page and "arXiv 2403.17834" in page


def test_a_denial_of_one_finding_alone_leaves_no_number_over_findings(
    foreign: Path, trained_run: Path, cache_dir: Path
) -> None:
    own = "scoring.class_prompts={edema: {positive: [Signs of edema.], negative: [No edema.]}}"
    metrics = evaluated(foreign, trained_run, cache_dir, "scoring.wordings=", "scoring.primary=all", own)
    result = metrics["results"]["foreign/test"]
    told = {name: of.get("not_pooled", "") for name, of in result["scorers"].items()}
    reason = "edema is scored less its denial, "
    assert {name for name, why in told.items() if why.startswith(reason)} == {"prompt", "fused"} < set(told)
    assert result["scorers"]["prompt"]["micro"]["auroc"]["value"] is None
    assert result["scorers"]["prompt"]["macro"]["auroc"]["value"] is not None
    checked = result["sanity"]
    assert checked["scorer"] == "fused" and checked["pooled"] is checked["pooled_text_prior"] is None
    page = (trained_run / "eval/foreign/report.html").read_text(encoding="utf-8")
    assert f"Scores are not pooled: {reason}" in page and f"Not ranked: {reason}" in page


def test_nothing_else_is_asked_where_wordings_are_off(foreign: Path, trained_run: Path, cache_dir: Path) -> None:
    metrics = evaluated(foreign, trained_run, cache_dir, "scoring.wordings=")
    result = metrics["results"]["foreign/test"]
    assert "prompt_sets" not in result and "wordings" not in result
    assert "prompt_set" not in metrics["protocol"] and "prompt_sets" not in metrics["protocol"]


@pytest.mark.slow
def test_results_that_are_replaced_leave_nothing_behind(
    foreign: Path, trained_run: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Evidence of other data beside new numbers would be taken for theirs; that of the same data stays."""
    bare = ["scoring.wordings=", "scoring.pixel_baseline=false", "scoring.cases=0"]
    run = Path(shutil.copytree(trained_run, foreign.parent / "run", ignore=shutil.ignore_patterns("eval")))
    out = run / "eval/foreign"
    evaluated(foreign, run, cache_dir, *bare)
    for name in ("evidence/features.json", "compare/report.html", "predictions/old_test.csv"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("{}")
    with caplog.at_level(logging.WARNING, "radz"):
        assert evaluated(foreign, run, cache_dir, *bare)["test_evaluations"] == 2
    assert (out / "evidence/features.json").is_file() and "are replaced" not in caplog.text
    table = foreign.parent / "foreign/table.csv"
    table.write_text(table.read_text().replace("5.png,p5,1", "5.png,p5,0"))
    with caplog.at_level(logging.WARNING, "radz"):
        assert evaluated(foreign, run, cache_dir, *bare)["test_evaluations"] == 3
    assert "eval/foreign: results of other settings or data are replaced, with compare, evidence" in caplog.text
    assert not (out / "evidence").exists() and not (out / "compare").exists()
    assert [path.name for path in (out / "predictions").iterdir()] == ["foreign_test.csv"]


def test_validation_chooses_the_headline_of_an_evaluation_or_cannot(
    foreign: Path, trained_run: Path, cache_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"scoring\.headline=validation: .* no val split; name a scorer") as fault:
        evaluated(foreign, trained_run, cache_dir, "scoring.headline=validation")
    assert "\n" not in str(fault.value)
    keys = [*BARE, FEW, f"run={trained_run}", f"cache_dir={cache_dir}", f"run_dir={tmp_path / 'out'}"]
    out = evaluate_run(load_experiment("demo", [*keys, "scoring.headline=validation"]))
    val = [ScoreTable.read_csv(out / "predictions/phantom_val.csv")]
    seen = json.loads((trained_run / "environment.json").read_text())["seen"]["label"]
    best = best_on_validation(val, [name for name in val[0].findings if name in seen])
    assert json.loads((out / "metrics.json").read_text())["headline_scorer"] == best


def test_scorer_local_is_asked_of_the_run_that_is_scored(foreign: Path, trained_run: Path, cache_dir: Path) -> None:
    """Not of the experiment, whose section dfat says nothing of a trained run."""
    run = Path(shutil.copytree(trained_run, foreign.parent / "run"))
    with pytest.raises(InputError, match=r"scoring\.headline: local needs dfat\.local_weight above 0 in training"):
        evaluated(foreign, run, cache_dir, "scoring.headline=local")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("local_weight: 0.0", "local_weight: 1.0"))
    with pytest.raises(InputError, match="checkpoint: its trainable parts differ"):  # it was none in training
        evaluated(foreign, run, cache_dir, "scoring.headline=local")
    with pytest.raises(InputError, match="local needs dfat"):
        load_experiment("demo", ["scoring.headline=local"])
