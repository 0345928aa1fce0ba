"""What a run leaves behind, and what happens when its command is repeated, stopped or pointed at a foreign folder."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from csv_rows import rows_of
from safetensors.torch import load_file
from small_run import SMALL

from data_modules import privacy
from data_modules.errors import InputError
from radz.config.files import digest, load_experiment, run_folder
from radz.runs.train import report, train
from radz.training.run_folder import load_run
from radz.training.trainer import MONITOR

SCORERS = ("prompt", "description", "anchor", "fused")
FILES = [
    "config.yaml", "environment.json", "anchors/anchors.json", "anchors/anchors.safetensors", "checkpoints/last.ckpt",
    "checkpoints/best.ckpt", "metrics.csv", "metrics.json", "predictions/phantom_val.csv",
    "predictions/phantom_test.csv", "private/ids.csv", "report.html",
]  # fmt: skip
LORA = ["backbone.train=lora", "backbone.lora_rank=4", "backbone.train_tower=false", "dfat.learning_rate=0.01"]
IDENTIFIER = re.compile(rb"(train|val|test)-\d{6}")
"""Study, patient and image identifiers of the phantom hold this."""


@pytest.fixture
def metrics(trained_run: Path) -> dict[str, Any]:
    return json.loads((trained_run / "metrics.json").read_text())


def test_every_file_of_the_contract_is_there(trained_run: Path) -> None:
    assert [name for name in FILES if not (trained_run / name).is_file()] == []
    page = (trained_run / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)  # self-contained
    assert not list(trained_run.rglob("*.part"))


def test_config_repeats_the_run(trained_run: Path) -> None:
    again = load_run(trained_run)
    assert again.backbone.lora_rank == 4 and again.data.corpora[0].phantom.studies.train == 24
    assert digest(load_experiment(str(trained_run / "config.yaml"))) == digest(again)


def test_predictions_follow_the_contract(
    trained_run: Path, phantom_folder: Path, cache_dir: Path, metrics: dict[str, Any]
) -> None:
    salt = privacy.salt(cache_dir)
    for split, count in (("val", 12), ("test", 16)):
        frame = pd.read_csv(trained_run / f"predictions/phantom_{split}.csv", dtype={"study_id": str})
        assert list(frame.columns[:3]) == ["study_id", "image_id", "patient"]
        assert len(frame) == count and frame.study_id.is_unique and frame.image_id.isna().all()
        findings = [name.removeprefix("label/") for name in frame.columns if name.startswith("label/")]
        wanted = [f"{of}/{name}" for name in findings for of in ("label", *SCORERS, "pixel32")]
        assert sorted(frame.columns[3:]) == sorted(wanted)
        entry = metrics["results"]["phantom/test"]["scorers"]["fused"]
        assert set(findings) == {*entry["findings"], *entry["excluded"]}
        scores = frame[[f"{scorer}/{name}" for name in findings for scorer in SCORERS]].to_numpy()
        assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1
        known = pd.read_csv(phantom_folder / "studies.csv").set_index("study")
        assert frame["label/edema"].tolist() == known.loc[frame.study_id, "edema"].tolist()
        patients = [privacy.hashed(f"phantom/{known.loc[study, 'patient']}", salt) for study in frame.study_id]
        assert frame.patient.tolist() == patients


def test_metrics_follow_the_schema(metrics: dict[str, Any]) -> None:
    assert set(metrics) == {
        "schema", "headline_scorer", "monitor", "protocol_digest", "protocol", "world_size", "test_evaluations",
        "leaked", "pixels", "anchors", "geometry", "cost", "validation", "results",
    }  # fmt: skip
    assert (metrics["schema"], metrics["headline_scorer"], metrics["monitor"]) == (1, "fused", MONITOR)
    assert (metrics["world_size"], metrics["test_evaluations"], metrics["leaked"]) == (1, 1, [])
    assert set(metrics["results"]) == {"phantom/test"}
    result = metrics["results"]["phantom/test"]
    assert {"coverage", "thresholds", "scorers"} <= set(result)
    assert result["coverage"]["studies"] == 16 and result["coverage"]["skipped"] == 0
    assert result["coverage"]["patients"] <= 16
    assert set(result["scorers"]) == {*SCORERS, "pixel32"}
    called = {f"{name}_{rule}" for name in ("f1", "accuracy", "mcc") for rule in ("oracle", "validation", "half")}
    values = {"auroc", "auprc", "sensitivity_90", "brier", "calibration_error", *called}
    for scorer in SCORERS:
        entry = result["scorers"][scorer]
        assert set(entry["macro"]) == values and set(entry["macro_by_seen"]) == {"label", "text", "none"}
        assert set(entry["macro"]["auroc"]) == {"value", "low", "high"}
        for finding in entry["findings"].values():
            assert values | {"positives", "studies", "seen"} <= set(finding)
            assert finding["seen"] in ("label", "text", "none") and 0 < finding["positives"] < finding["studies"]
        assert set(entry["excluded"]) & set(entry["findings"]) == set()
    assert set(result["thresholds"]) == {"half", "validation", "oracle"}
    assert set(result["thresholds"]["oracle"]["fused"]) == set(result["scorers"]["fused"]["findings"])
    # Of all findings of validation, those that test lacks too.
    rules = metrics["validation"]["phantom"]
    assert (rules["split"], rules["modality"], rules["support"]["mass"]) == ("phantom/val", "chest_xray", [0, 12])
    assert rules["calibrations"] == result["calibration"]["parameters"]
    assert rules["thresholds"]["fused"].items() >= result["thresholds"]["validation"]["fused"].items()
    assert set(rules["missing"]["fused"]) == set(rules["support"]) - set(rules["thresholds"]["fused"])


def test_findings_without_positives_are_listed_and_not_scored(trained_run: Path, metrics: dict[str, Any]) -> None:
    frame = pd.read_csv(trained_run / "predictions/phantom_test.csv")
    columns = [name for name in frame.columns if name.startswith("label/")]
    none = {name.removeprefix("label/") for name in columns if not (frame[name] == 1).any()}
    assert none, "the small phantom should lack some finding in its test split"
    entry = metrics["results"]["phantom/test"]["scorers"]["fused"]
    assert none == set(entry["excluded"]) and all("positive" in reason for reason in entry["excluded"].values())
    primary = [v["auroc"]["value"] for name, v in entry["findings"].items() if v["seen"] == "label"]
    assert entry["macro"]["auroc"]["value"] == pytest.approx(np.mean(primary))


def test_unseen_findings_are_told_apart(metrics: dict[str, Any], trained_run: Path) -> None:
    entry = metrics["results"]["phantom/test"]["scorers"]["fused"]
    seen = {name: value["seen"] for name, value in entry["findings"].items()}
    bank = json.loads((trained_run / "anchors/anchors.json").read_text())
    unseen = {"mass", "tuberculosis", "hiatal_hernia"}
    assert {name for name, group in seen.items() if group == "none"} == unseen & set(seen)
    assert bank["names"][0] == "no_finding" and not unseen & set(bank["names"])


def test_metrics_csv_has_one_row_per_logged_step(trained_run: Path) -> None:
    frame = pd.read_csv(trained_run / "metrics.csv")
    assert frame.step.tolist() == [0, 1, 2] and (frame.epoch == 0).all()
    wanted = ["train/loss", *(f"train/loss_{part}" for part in ("alignment", "category", "statements")), "lr"]
    wanted += ["pairs_per_second"]
    assert frame[wanted].notna().all().all() and frame[MONITOR].notna().sum() == 1
    total = 0.5 * (frame["train/loss_alignment"] + frame["train/loss_category"]) + frame["train/loss_statements"]
    assert np.allclose(frame["train/loss"], total, rtol=1e-5)


def test_environment_records_versions_and_digests(trained_run: Path) -> None:
    found = json.loads((trained_run / "environment.json").read_text())
    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    assert {"git_revision", "data_digest", "pixel_digest", "anchors_digest", "base_digest", "coverage"} <= set(found)
    bank = json.loads((trained_run / "anchors/anchors.json").read_text())
    assert (bank["digest"], bank["base_digest"]) == (found["anchors_digest"], found["base_digest"])


@pytest.mark.fault(18)
def test_identifiers_stand_only_where_they_may(trained_run: Path) -> None:
    allowed = {"predictions", "private"}  # also of an evaluation that another test has put into the folder
    files = [path for path in trained_run.rglob("*") if path.is_file()]
    others = [path for path in files if not allowed & set(path.relative_to(trained_run).parts[:-1])]
    assert len(others) >= 8
    assert [p.name for p in others if IDENTIFIER.search(p.read_bytes())] == []
    for file in (trained_run / "predictions").iterdir():
        assert b"P-" not in file.read_bytes()  # no patient, and nothing of the other split
    private = trained_run / "private" / "ids.csv"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600 and stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    rows = rows_of(private)
    assert "row" in rows[0] and len(rows) == 28 and all(row["patient"].startswith("P-") for row in rows)


def test_hashes_of_the_report_are_resolved_by_the_private_file(trained_run: Path) -> None:
    page = (trained_run / "report.html").read_text()
    known = {(row["row"], row["hash"]) for row in rows_of(trained_run / "private" / "ids.csv")}
    shown = set(re.findall(r"row (\d+), ([0-9a-f]{12})", page))
    assert shown and shown <= known


def test_checkpoints_hold_trainable_weights_and_anchors_alone(trained_run: Path) -> None:
    for name in ("best", "last"):
        content = torch.load(trained_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        state = content["state_dict"]
        assert torch.equal(state["anchors"], load_file(trained_run / "anchors/anchors.safetensors")["vectors"])
        parts = (
            "lora_",
            "trainable_tokens_",
            "multi_modal_projector",
            "encoder.heads.",
            "category_bias",
            "statement_bias",
        )
        assert [key for key in state if key != "anchors" and not any(part in key for part in parts)] == []
        assert {"optimizer_states", "lr_schedulers", "loops", "radz"} <= set(content)


def test_a_finished_run_says_so_and_stops(
    trained_run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radz.runs.train.prepare", lambda *_: pytest.fail("a finished run must not be prepared again"))
    before = {path: path.stat().st_mtime_ns for path in trained_run.rglob("*")}
    with caplog.at_level(logging.INFO, "radz"):
        assert train(load_run(trained_run)) == trained_run
    assert "is finished" in caplog.text and "overwrite=true" in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in trained_run.rglob("*")}


def test_overwrite_starts_anew(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "again")

    class Reached(Exception):
        pass

    def reached(*_: Any) -> None:
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "config.yaml", "environment.json"]
        raise Reached

    monkeypatch.setattr("radz.runs.train.prepare", reached)
    experiment = load_experiment(str(folder / "config.yaml"), [f"run_dir={folder}", "overwrite=true"])
    with pytest.raises(Reached):
        train(experiment)


def test_the_folder_of_another_experiment_is_refused(trained_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "again")
    (folder / "metrics.json").unlink()
    with pytest.raises(InputError, match="holds another experiment") as fault:
        train(load_experiment(str(folder / "config.yaml"), [f"run_dir={folder}", "dfat.loss=cross"]))
    assert "\n" not in str(fault.value)
    (folder / "config.yaml").unlink()
    with pytest.raises(InputError, match="not a run folder"):
        train(load_experiment(str(trained_run / "config.yaml"), [f"run_dir={folder}"]))


def test_the_run_folder_is_named_by_what_decides_the_result(tmp_path: Path) -> None:
    def folder(*overrides: str) -> Path:
        return run_folder(load_experiment("demo", [*SMALL, *overrides]))

    plain = folder()
    assert re.fullmatch(r"runs/demo/seed0-[0-9a-f]{8}", str(plain))
    same = ("cache_dir=/elsewhere", "trainer.devices=2", "data.corpora.0.root=/data", "overwrite=true")
    assert {folder(override) for override in same} == {plain}
    other = (
        "seed=1",
        "dfat.loss=cross",
        "data.corpora.0.phantom.seed=1",
        "trainer.max_epochs=2",
        "dkam.aspects=[shape]",
    )
    assert len({plain, *(folder(override) for override in other)}) == 6
    assert str(folder("seed=1")).startswith("runs/demo/seed1-")


@pytest.mark.figures
def test_report_is_written_anew_from_the_folder(trained_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "copy")
    (folder / "report.html").unlink()
    assert report(folder) == folder / "report.html" and "fused" in (folder / "report.html").read_text()
    (folder / "metrics.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        report(folder)


def test_a_finished_folder_is_plain_to_read(trained_run: Path) -> None:
    """config.yaml is YAML for anybody, without tags of ours."""
    assert yaml.safe_load((trained_run / "config.yaml").read_text())["name"] == "demo"


@pytest.mark.slow
def test_wandb_runs_offline_inside_the_run_folder(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = [f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}", "scoring.pixel_baseline=false"]
    run = train(load_experiment("demo", [*SMALL, *LORA, *places, "wandb.mode=offline"]))
    import wandb

    wandb.finish()
    found = list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(found) == 1 and found[0].stat().st_size > 0
    assert not IDENTIFIER.search(found[0].read_bytes())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # nothing is written elsewhere
