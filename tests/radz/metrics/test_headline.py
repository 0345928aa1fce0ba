"""`scoring.headline: validation`: chosen once, on validation; used by all that read the run."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_run import SMALL

from data_modules.errors import InputError
from radz import Radz
from radz.config.files import load_experiment
from radz.methods.trained import headline_of
from radz.metrics.headline import best_on_validation, chosen, monitored
from radz.metrics.score_table import ScoreTable
from radz.models.anchor_bank import AnchorBank
from radz.models.geometry import geometry
from radz.runs.train import train

LABELS = np.array([[1, 1], [0, 0], [1, np.nan], [0, 0], [1, 0], [0, 1]], np.float32)


def table(**scores: list[list[float]]) -> ScoreTable:
    rows = [str(n) for n in range(6)]
    values = {name: np.array(columns, np.float32).T for name, columns in scores.items()}
    return ScoreTable("phantom", "val", np.arange(6), rows, [""] * 6, rows, ("nodule", "edema"), LABELS, values)


def test_the_best_on_validation_is_chosen(caplog: pytest.LogCaptureFixture) -> None:
    good, fair, none = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3], [0.9, 0.1, 0.2, 0.3, 0.7, 0.4], [float("nan")] * 6
    edema = [0.9, 0.1, 0.5, 0.2, 0.3, 0.8]
    tables = [table(prompt=[fair, edema], anchor=[good, edema], description=[good, none])]
    with caplog.at_level(logging.INFO):
        assert best_on_validation(tables, ["nodule", "edema"]) == "anchor"
    assert "anchor, chosen by macro AUROC on validation (prompt 0.889, anchor 1.000)" in caplog.text
    flipped = [table(prompt=[fair, edema], anchor=[[1 - x for x in good], edema])]
    assert best_on_validation(flipped, ["nodule", "edema"]) == "prompt"
    assert best_on_validation(flipped, []) == "prompt" and "has no finding of scoring.primary with both" in caplog.text


def test_corpora_are_not_ranked_as_one() -> None:
    """One scorer finds the disease in either of two corpora, the other knows in which it is frequent."""
    rare, frequent = ([1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0])
    tables = [
        replace(one, labels=np.array([labels, labels]).T)
        for one, labels in (
            (table(prompt=[[0.3, 0.3, 0.3, 0.3, 0.3, 0.3]] * 2, anchor=[[0.9, 0.8, 0.8, 0.8, 0.8, 0.8]] * 2), rare),
            (table(prompt=[[0.9, 0.9, 0.9, 0.9, 0.9, 0.9]] * 2, anchor=[[0.2, 0.2, 0.2, 0.2, 0.2, 0.1]] * 2), frequent),
        )
    ]
    assert best_on_validation(tables, ["nodule"]) == "anchor"


def test_the_monitor_is_prompt_until_then(tmp_path: Path) -> None:
    assert monitored("validation") == "prompt" and monitored("anchor") == "anchor"
    assert chosen("validation", tmp_path) == "prompt"
    (tmp_path / "metrics.json").write_text(json.dumps({"headline_scorer": "fused"}))
    assert chosen("validation", tmp_path) == "fused" and chosen("anchor", tmp_path) == "anchor"
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="names no headline scorer; repeat its train"):
        chosen("validation", tmp_path)


def test_anchors_of_a_run_are_described_in_its_results(trained_run: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    bank = AnchorBank.load(trained_run / "anchors")
    assert metrics["anchors"] == geometry(bank.vectors) and -1 <= metrics["anchors"]["mean_cosine"] <= 1
    assert 1 <= metrics["anchors"]["effective_rank"] <= len(bank.names)


@pytest.mark.slow
def test_a_run_chooses_once_and_is_read_so(tmp_path: Path, cache_dir: Path) -> None:
    settings = [*SMALL, "scoring.headline=validation", f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}"]
    run = train(load_experiment("demo", settings))
    metrics = json.loads((run / "metrics.json").read_text())
    val = ScoreTable.read_csv(run / "predictions/phantom_val.csv")
    del val.scores["pixel32"]
    seen = json.loads((run / "environment.json").read_text())["seen"]["label"]
    assert metrics["headline_scorer"] == best_on_validation([val], seen)
    assert headline_of(run) == Radz.from_pretrained(run).experiment.scoring.headline == metrics["headline_scorer"]
