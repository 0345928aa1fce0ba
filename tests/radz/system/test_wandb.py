"""Weights & Biases: what is sent, what never is, and sweeps through W&B's own agent code."""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from small_run import SMALL
from wandb.wandb_agent import Agent

from radz.config.files import experiment_roots, load_experiment
from radz.config.schema import Experiment
from radz.report.wandb_results import log_evidence, log_results
from radz.runs.wandb_run import logger_of, run_loggers, shared_config, wandb_logger
from radz.training.callbacks.csv_logger import CsvLog
from radz.training.callbacks.finite import DivergenceAlert
from radz.training.trainer import make_trainer

SENTINEL = "Jane^Sentinel"


def experiment_of(run: Path, *keys: str) -> Experiment:
    root = f"data.corpora.0.root=/data/{SENTINEL}"
    return load_experiment(str(run / "config.yaml"), ["wandb.mode=offline", root, f"cache_dir=/{SENTINEL}", *keys])


@pytest.fixture
def finished(trained_run: Path, tmp_path: Path):
    """A copy of the trained run; what is logged to W&B lies below its wandb folder."""
    folder = shutil.copytree(trained_run, tmp_path / "run")
    yield folder
    wandb.teardown()


def sent(run_dir: Path) -> dict[str, Any]:
    return {
        path.name.split("_")[0].split(".")[0]: json.loads(path.read_text()) for path in run_dir.rglob("*.table.json")
    }


@pytest.mark.fault(18)
def test_results_are_sent_as_tables_and_nothing_names_a_place(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = experiment_of(finished)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logger = wandb_logger(experiment, finished)
    metrics = json.loads((finished / "metrics.json").read_text())
    run = logger.experiment
    end, summary = run.finish, {}
    run.finish = lambda: summary.update(dict(run.summary)) or end()
    log_results([logger], experiment.wandb, "0123abcd", finished, metrics, [])
    key = next(iter(metrics["results"]))
    expected = metrics["results"][key]["scorers"]["anchor"]["macro"]["auroc"]["value"]
    assert summary[f"{key}/anchor/auroc_macro"] == expected
    assert run.config["dfat"]["temperature"] == experiment.dfat.temperature and run.group == "demo"
    # Nothing is left for the next run of this process.
    assert wandb.run is None and "WANDB_MODE" not in os.environ
    found = sent(finished)
    assert {"findings", "roc", "pr"} <= set(found) and "cases" not in found
    assert any(row[0].startswith(key) for row in found["roc"]["data"])
    for file in (finished / "wandb").rglob("*"):
        if file.is_file():
            assert SENTINEL.encode() not in file.read_bytes(), file


def test_pictures_and_weights_are_sent_only_when_asked(finished: Path) -> None:
    import numpy as np

    from radz.report.run_report import Case

    experiment = experiment_of(finished, "wandb.images=true", "wandb.artifacts=true")
    logger = wandb_logger(experiment, finished)
    names = []
    run = logger.experiment
    real = run.log_artifact
    run.log_artifact = lambda artifact, **settings: names.append((artifact.name, settings)) or real(artifact)
    metrics = json.loads((finished / "metrics.json").read_text())
    case = Case("edema", "best", 0.9, 1.0, np.zeros((8, 8), np.uint8))
    log_results([logger], experiment.wandb, "0123abcd", finished, metrics, [case])
    assert sent(finished)["cases"]["data"][0][:4] == ["edema", "best", 0.9, 1]
    # W&B keeps every table as an artifact of its own, named after the run.
    own = {name.split("-")[0]: settings for name, settings in names if not name.startswith("run-")}
    assert list(own) == ["adapter", "anchors"] and all(settings["aliases"][0] == "best" for settings in own.values())


def test_a_resumed_folder_continues_its_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    experiment = load_experiment("demo", ["wandb.mode=offline"])
    first, again = (wandb_logger(experiment, tmp_path / "run") for _ in range(2))
    other = wandb_logger(experiment, tmp_path / "other")
    assert first.version == again.version != other.version
    monkeypatch.setenv("WANDB_RUN_ID", "given-by-the-agent")
    assert wandb_logger(experiment, tmp_path / "run").version == "given-by-the-agent"
    assert wandb_logger(load_experiment("demo", ["wandb.mode=disabled"]), tmp_path) is None


def test_no_place_is_in_the_shared_config(trained_run: Path) -> None:
    keys = [
        "backbone.path", "run_dir", "run", "cache_dir", "clip.path", "supervised.run", "dfat.rewrite.file",
        "dkam.descriptions", "data.corpora.0.root", "data.corpora.0.csv", "data.corpora.0.image_folder",
    ]  # fmt: skip
    places = [f"{key}=/{SENTINEL}/{number}.yaml" for number, key in enumerate(keys)]
    extra = ["supervised.encoder=run", f"dkam.sources=[/{SENTINEL}/more.yaml]"]
    experiment = experiment_of(trained_run, *places, *extra)
    assert str(experiment).count(SENTINEL) == len(keys) + 1 and SENTINEL not in str(shared_config(experiment))
    assert shared_config(experiment)["dkam"]["sources"] == ["more.yaml"]


def test_divergence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load_experiment("demo", ["wandb.mode=offline"])
    csv = CsvLog(tmp_path / "metrics.csv")
    trainer = make_trainer(experiment.trainer, tmp_path, run_loggers(experiment, tmp_path, csv))
    assert any(isinstance(callback, DivergenceAlert) for callback in trainer.callbacks)
    told: list[tuple[str, ...]] = []

    class Run:
        def alert(self, *words: str, level: str) -> None:
            told.append((*words, level))

        def finish(self, exit_code: int) -> None:
            assert exit_code == 1

    monkeypatch.setattr(WandbLogger, "experiment", Run())
    alert = next(callback for callback in trainer.callbacks if isinstance(callback, DivergenceAlert))
    alert.on_exception(trainer, None, KeyboardInterrupt())
    alert.on_exception(trainer, None, RuntimeError(f"row of {SENTINEL}"))
    assert told == [("Training stopped", "RuntimeError at step 0", "ERROR")]


class Server:
    """Stands for W&B's sweep server: hands out runs, then a stop, then the end; keeps what the agent reports."""

    def __init__(self, config: str, runs: list[dict[str, Any]], stop: bool = False) -> None:
        self.config, self.runs, self.stop = config, list(runs), stop
        self.heartbeats: list[dict[str, bool]] = []

    def sweep(self, api: Any, sweep_id: str, specs: str) -> dict[str, Any]:
        return {"config": self.config}

    def register(self, api: Any, host: str, sweep_id: str) -> dict[str, Any]:
        return {"id": "agent-1"}

    def heartbeat(self, api: Any, agent: str, metrics: dict[str, Any], status: dict[str, bool]) -> list[dict[str, Any]]:
        self.heartbeats.append(dict(status))
        if status and self.stop:
            return [{"type": "stop", "run_id": next(iter(status))}]
        if status:
            return []
        if self.runs:
            number = len(self.runs)
            args = {key: {"value": value} for key, value in self.runs.pop(0).items()}
            return [{"type": "run", "run_id": f"run-{number}", "program": "radz", "args": args}]
        return [{"type": "exit"}]


def run_agent(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from wandb.apis.public import sweeps

    monkeypatch.setattr(sweeps, "_sweep_with_runs", server.sweep)
    monkeypatch.setattr(sweeps, "_register_agent", server.register)
    monkeypatch.setattr(sweeps, "_agent_heartbeat", server.heartbeat)
    monkeypatch.setattr(wandb, "Api", lambda: None)
    monkeypatch.setattr(Agent, "POLL_INTERVAL", 0.1)
    for name, value in {"WANDB_DIR": str(tmp_path), "WANDB_SWEEP_ID": "sweep-1", "WANDB_RUN_ID": ""}.items():
        monkeypatch.setenv(name, value)
    Agent(None, queue.Queue(), sweep_id="sweep-1").run()


def test_the_agent_launches_the_command_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact words that W&B's agent makes of a shipped sweep file."""
    program = tmp_path / "bin" / "radz"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nfor word in "$@"; do echo "$word" >> {tmp_path}/words; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    config = (experiment_roots()[0] / "sweeps" / "demo_bayes.yaml").read_text()
    run_agent(Server(config, [{"dfat.temperature": 0.05, "dfat.loss": "cross"}]), monkeypatch, tmp_path)
    assert (tmp_path / "words").read_text().split("\n")[:-1] == [
        "train", "demo", "trainer.progress_bar=false", "dfat.temperature=0.05", "dfat.loss=cross",
    ]  # fmt: skip


@pytest.fixture
def radz_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "radz"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m radz "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def small_sweep(tmp_path: Path, cache_dir: Path, *more: str) -> str:
    command = ["radz", "train", "demo", *SMALL, "wandb.mode=offline", f"cache_dir={cache_dir}", *more]
    return yaml.safe_dump({"method": "random", "command": [*command, "${args_no_hyphens}"]})


@pytest.mark.slow
def test_a_run_of_the_agent_trains_and_reports_the_metric(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, radz_on_path: None
) -> None:
    config = small_sweep(tmp_path, cache_dir, f"run_dir={tmp_path / 'run'}")
    run_agent(Server(config, [{"dfat.temperature": 0.05, "dfat.loss": "cross"}]), monkeypatch, tmp_path)
    assert load_experiment(str(tmp_path / "run" / "config.yaml")).dfat.loss == "cross"
    record = next((tmp_path / "run" / "wandb").rglob("run-run-1.wandb")).read_bytes()
    assert b"val/auroc_macro" in record


@pytest.mark.slow
def test_a_run_stops_on_the_agents_word_and_can_go_on(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, radz_on_path: None
) -> None:
    config = small_sweep(tmp_path, cache_dir, "trainer.max_epochs=500", f"run_dir={tmp_path / 'run'}")
    server = Server(config, [{"dfat.temperature": 0.05}])
    real = server.heartbeat

    def late(api: Any, agent: str, metrics: dict[str, Any], status: dict[str, bool]) -> list[dict[str, Any]]:
        server.stop = (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
        return real(api, agent, metrics, status)

    monkeypatch.setattr(server, "heartbeat", late)
    run_agent(server, monkeypatch, tmp_path)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert not (tmp_path / "run" / "metrics.json").is_file()
    config_of_run = load_experiment(str(tmp_path / "run" / "config.yaml"))
    assert config_of_run.trainer.max_epochs == 500


@pytest.mark.parametrize("images", [False, True])
def test_evidence_goes_to_the_run_it_is_of_and_pictures_only_where_allowed(finished: Path, images: bool) -> None:
    table = {"header": ["finding", "pointing game"], "rows": [["mass", [0.5, 0.4, 0.6]], ["edema", 0.25]]}
    item = {"name": "heatmaps", "table": table, "pictures": [{"name": "localisation", "caption": "x"}]}
    (finished / "evidence").mkdir(exist_ok=True)  # another slow test may have looked at this run
    Image.new("L", (8, 8)).save(finished / "evidence/localisation.png")
    experiment = experiment_of(finished)
    assert logger_of(experiment, finished) is None and not (finished / "wandb").exists()  # never logged to W&B
    (finished / "wandb").mkdir()
    (finished / "wandb/run_id").write_text("0123456789ab\n")
    logger = logger_of(experiment, finished)
    assert logger is not None
    log_evidence(logger, finished, [item], images)
    (content,) = [json.loads(path.read_text()) for path in finished.rglob("*.table.json")]
    assert content["columns"] == table["header"] and content["data"] == [["mass", 0.5], ["edema", 0.25]]
    assert bool(list((finished / "wandb").rglob("*.png"))) == images
    assert [path.name for path in (finished / "wandb").glob("offline-run-*-0123456789ab")]
