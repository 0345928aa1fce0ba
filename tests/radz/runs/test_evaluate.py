"""A trained run on data it has never met: only a test split, and other findings."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from small_run import SMALL

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.metrics.score_table import ScoreTable
from radz.metrics.split_results import thresholds_from
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
    # Its validation split gives the thresholds.
    known = thresholds_from(ScoreTable.read_csv(trained_run / "predictions/phantom_val.csv"))["fused"]
    assert result["thresholds_from"] == "phantom/val of the trained run"
    assert result["thresholds"]["validation"]["fused"] == {"edema": pytest.approx(known["edema"])}
    assert "mass" in entry["unavailable"]["f1_validation"]


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


def test_nothing_else_is_asked_where_wordings_are_off(foreign: Path, trained_run: Path, cache_dir: Path) -> None:
    metrics = evaluated(foreign, trained_run, cache_dir, "scoring.wordings=")
    result = metrics["results"]["foreign/test"]
    assert "prompt_sets" not in result and "wordings" not in result
    assert "prompt_set" not in metrics["protocol"] and "prompt_sets" not in metrics["protocol"]
