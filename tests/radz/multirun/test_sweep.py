"""Local sweeps: the file that W&B reads too, the search, its resume, and faults of the user."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from small_run import SMALL

from data_modules.errors import InputError
from data_modules.lock import locked
from data_modules.workers import WorkerDied
from radz.cli.command_line import main
from radz.config.files import digest, experiment_roots, load_experiment
from radz.multirun.sweep.file import read_sweep
from radz.multirun.sweep.search import Search, _tried

SHIPPED = sorted(path.stem for path in (experiment_roots()[0] / "sweeps").glob("*.yaml"))
CONTENT = {
    "command": ["radz", "train", "demo", "${args_no_hyphens}"],
    "method": "random",
    "metric": {"name": "val/auroc_macro", "goal": "maximize"},
    "parameters": {"dfat.temperature": {"min": 0.01, "max": 0.2}, "dfat.loss": {"values": ["cross", "global"]}},
}
# Stands for `python -m radz`: reads its keys and writes the metrics of a run whose best value is its temperature.
TRAINER = """\
import pathlib, sys, time
keys = dict(word.split("=", 1) for word in sys.argv[5:])
folder = pathlib.Path(keys["run_dir"])
folder.mkdir(parents=True, exist_ok=True)
value = float(keys["dfat.temperature"])
assert keys["dfat.loss"] != "global_local", "a run that fails"
unknown = {0.07: 4, 0.09: 2}.get(value, 0)  # validations that cannot tell the metric
rows = "".join(f"{step},{float('nan') if step < unknown else value * (step + 1) / 4}\\n" for step in range(4))
(folder / "metrics.csv").write_text("step,val/auroc_macro\\n" + rows)
with open(folder / "calls", "a") as file:
    file.write("x")
time.sleep(SLEEP)
"""


def sweep_file(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **changes}))
    return str(path)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs take no time; `sleep` makes them wait."""
    monkeypatch.setattr("radz.multirun.sweep.search.POLL_SECONDS", 0.05)
    real = sys.executable

    def use(sleep: float = 0.0) -> None:
        script = tmp_path / "python"
        (tmp_path / "trainer.py").write_text(TRAINER.replace("SLEEP", str(sleep)))
        script.write_text(f'#!/bin/sh\nexec {real} {tmp_path / "trainer.py"} "$@"\n')
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return use


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_sweep_resolves_and_is_valid_for_wandb(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    monkeypatch.setenv("CHEXPERT", "/data/CheXpert")
    sweep = read_sweep(name)
    for value in (0, -1):
        keys = [f"{p.key}={p.values[value] if p.values else (p.low, p.high)[value]}" for p in sweep.parameters]
        load_experiment(sweep.experiment, [*sweep.overrides, *keys])
    content = load_sweep_config(str(experiment_roots()[0] / "sweeps" / f"{name}.yaml"))
    assert content is not None and content["metric"]["name"] == sweep.metric == "val/auroc_macro"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "annealing"}, "method: 'annealing' is not allowed"),
        ({"metod": "grid"}, "metod: unknown key; nearest is 'method'"),
        ({"parameters": {}}, "parameters: missing"),
        ({"parameters": {"seed": 3}}, "parameters.seed: give it value, values, or min and max"),
        ({"parameters": {"seed": {"values": []}}}, "parameters.seed.values: must be a list"),
        ({"parameters": {"seed": {"mu": 1}}}, "parameters.seed.mu: not known to a local sweep"),
        ({"parameters": {"seed": {"min": 0, "max": "1e-4"}}}, "parameters.seed: min, max and q must be finite"),
        ({"parameters": {"seed": {"min": 0.0, "max": float("inf")}}}, "parameters.seed: min, max and q must be finite"),
        ({"parameters": {"seed": {"min": 0, "max": 1, "q": "x"}}}, "parameters.seed: min, max and q must be finite"),
        ({"parameters": {"seed": {"min": 3, "max": 1}}}, "min 3 and max 1 are no range"),
        ({"parameters": {"seed": {"min": 1, "max": 3, "distribution": "beta"}}}, "distribution: 'beta' is not one of"),
        (
            {"parameters": {"seed": {"min": 0, "max": 3, "distribution": "log_uniform_values"}}},
            "are no range of positive numbers",
        ),
        ({"method": "grid"}, "parameters.dfat.temperature: a grid needs `values`"),
        ({"metric": {"name": "x", "goal": "best"}}, "metric: must name a column"),
        ({"command": ["python", "train.py", "${args}"]}, "command: must be the list"),
        ({"command": ["radz", "train", "demo", "a=${envvar:NOT_THERE}", "${args_no_hyphens}"]}, "has no NOT_THERE"),
        ({"early_terminate": {"type": "median"}}, "only hyperband is known"),
        ({"early_terminate": {"type": "hyperband", "s": 2}}, "early_terminate.s: not known"),
    ],
)
def test_a_file_that_cannot_be_searched_is_one_line(
    changes: dict, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", sweep_file(tmp_path, **changes), "count=1", f"out={tmp_path / 'out'}"]) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1 and told in shown[0]


def test_faults_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"out={tmp_path / 'out'}"
    for words, told in (
        (["nowhere", out], "sweep 'nowhere': no such file or name"),
        (["demo_byes", out], "nearest is 'demo_bayes'"),
        ([sweep_file(tmp_path), out, "count=0"], "count=0: must be a whole number from 1"),
        ([sweep_file(tmp_path), out], "count: missing"),
        ([sweep_file(tmp_path), out, "count=1", "dfat.tmperature=1"], "dfat.tmperature: unknown key"),
    ):
        assert main(["sweep", *words]) == 2
        assert told in capsys.readouterr().err
    misspelt = sweep_file(tmp_path, parameters={"dfat.los": {"value": 1}})
    assert main(["sweep", misspelt, out, "count=1"]) == 2
    assert "dfat.los: unknown key" in capsys.readouterr().err


@pytest.mark.figures
def test_a_search_with_workers_ends_in_a_table_and_a_picture(tmp_path: Path, trainer) -> None:
    trainer()
    search = Search(read_sweep(sweep_file(tmp_path)), tmp_path / "out", ["seed=3"])
    table = pd.read_csv(search.run(count=5, workers=2))
    assert len(table) == 5 and (table["state"] == "complete").all()
    # The stand-in's best value is its temperature, so the table must be sorted by it.
    assert table["val/auroc_macro"].tolist() == pytest.approx(sorted(table["dfat.temperature"], reverse=True))
    assert table["dfat.temperature"].between(0.01, 0.2).all() and set(table["dfat.loss"]) <= {"cross", "global"}
    assert (tmp_path / "out" / "parallel_coordinates.png").stat().st_size > 10_000
    with pytest.raises(InputError, match=r"holds another sweep \(it differs in seed, data.fraction, dfat.loss\)"):
        other = sweep_file(tmp_path, parameters={**CONTENT["parameters"], "dfat.loss": {"values": ["cross"]}})
        Search(read_sweep(other), tmp_path / "out", ["seed=4", "data.fraction=0.5"])


def test_a_search_goes_on_where_it_stopped(tmp_path: Path, trainer) -> None:
    trainer()
    sweep = read_sweep(sweep_file(tmp_path))
    Search(sweep, tmp_path / "out", []).run(count=2)
    cut = Search(sweep, tmp_path / "out", [])
    trial = cut.study.ask(cut.space)  # a run that was under way when the machine went down
    trial.set_user_attr("run_dir", str(cut._folder(trial.params)))
    table = pd.read_csv(Search(sweep, tmp_path / "out", []).run(count=4))
    assert len(table) == 4 and trial.params["dfat.temperature"] in table["dfat.temperature"].tolist()
    assert table["run_dir"].nunique() == 4 and table["dfat.temperature"].nunique() == 4
    assert [Path(folder, "calls").read_text() for folder in table["run_dir"]] == ["x"] * 4
    # Enough runs have ended: nothing more is started.
    assert len(pd.read_csv(Search(sweep, tmp_path / "out", []).run(count=4))) == 4


def test_a_grid_is_searched_whole_and_once(tmp_path: Path, trainer) -> None:
    trainer()
    values = {"dfat.temperature": {"values": [0.1, 0.2]}, "dfat.loss": {"values": ["cross", "global"]}}
    sweep = read_sweep(sweep_file(tmp_path, method="grid", parameters=values))
    for _ in range(2):
        table = pd.read_csv(Search(sweep, tmp_path / "out", []).run(count=None))
        points = set(zip(table["dfat.temperature"], table["dfat.loss"], strict=True))
        assert len(table) == len(points) == 4


def test_points_that_differ_in_a_place_alone_are_two_runs(tmp_path: Path, trainer) -> None:
    """No digest of an experiment holds the root of a corpus; a run that an earlier radz cut off keeps its folder."""
    trainer()
    roots = {"data.corpora.0.root": {"values": ["/one", "/other"]}, "dfat.temperature": {"value": 0.1}}
    fixed = {"dfat.loss": {"value": "cross"}}
    sweep = read_sweep(sweep_file(tmp_path, method="grid", parameters={**roots, **fixed}))
    table = pd.read_csv(Search(sweep, tmp_path / "out", []).run(count=None))
    assert table["run_dir"].nunique() == 2
    assert [Path(folder, "calls").read_text() for folder in table["run_dir"]] == ["x", "x"]
    search = Search(sweep, tmp_path / "old", [])
    point = {"data.corpora.0.root": "/one", "dfat.temperature": 0.1, "dfat.loss": "cross"}
    before = tmp_path / "old" / "runs" / digest(search._load(point))
    assert search._folder(point).parent == before.parent and search._folder(point) != before
    before.mkdir(parents=True)
    assert search._folder(point) == before


def test_weak_runs_are_ended_early(tmp_path: Path, trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(sleep=60)
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: len(trial.storage_values()) > 3)
    monkeypatch.setattr(
        optuna.trial.Trial,
        "storage_values",
        lambda trial: trial.study._storage.get_trial(trial._trial_id).intermediate_values,
        raising=False,
    )
    early = {"type": "hyperband", "min_iter": 1, "eta": 3}
    table = pd.read_csv(
        Search(read_sweep(sweep_file(tmp_path, early_terminate=early)), tmp_path / "out", []).run(count=1)
    )
    assert table["state"].tolist() == ["pruned"] and table["validations"].tolist() == [4]


def test_the_pruner_ends_the_weakest(tmp_path: Path) -> None:
    early = {"type": "hyperband", "min_iter": 1, "eta": 2}
    search = Search(read_sweep(sweep_file(tmp_path, early_terminate=early)), tmp_path / "out", [])
    ended = []
    for level in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        trial = search.study.ask(search.space)
        pruned = False
        for step in range(1, 9):
            trial.report(level, step)
            pruned = pruned or trial.should_prune()
        search.study.tell(trial, None if pruned else level, optuna.trial.TrialState.PRUNED if pruned else None)
        ended.append(pruned)
    assert not ended[0] and any(ended[2:])


def test_a_sweep_whose_runs_all_fail_stops(tmp_path: Path, trainer) -> None:
    trainer()
    sweep = read_sweep(sweep_file(tmp_path, parameters={
        "dfat.temperature": {"min": 0.01, "max": 0.2}, "dfat.loss": {"value": "global_local"},
    }))  # fmt: skip
    with pytest.raises(InputError, match="the first 3 runs all failed"):
        Search(sweep, tmp_path / "out", []).run(count=9)
    assert "a run that fails" in (tmp_path / "out" / "logs" / "0000.log").read_text()
    assert pd.read_csv(tmp_path / "out" / "sweep.csv")["state"].tolist() == ["fail"] * 3


def test_a_metric_that_validation_cannot_tell_fails_the_run(tmp_path: Path, trainer) -> None:
    """A number, where some validations have one, is what counts; without any the table has the reason."""
    trainer()
    points = {"dfat.temperature": {"values": [0.07, 0.09]}, "dfat.loss": {"value": "cross"}}
    sweep = read_sweep(sweep_file(tmp_path, parameters=points, method="grid"))
    table = pd.read_csv(Search(sweep, tmp_path / "out", []).run(count=None))
    assert table["state"].tolist() == ["complete", "fail"] and table["validations"].tolist() == [2, 0]
    assert table["val/auroc_macro"][0] == pytest.approx(0.09) and table["val/auroc_macro"].isna()[1]
    assert table["reason"].isna()[0] and table["reason"][1] == "has no number of val/auroc_macro in metrics.csv"


@pytest.mark.parametrize("count", [1, 2, 9])
def test_one_that_no_run_can_tell_ends_the_sweep(tmp_path: Path, trainer, count: int) -> None:
    trainer()
    point = {"dfat.temperature": {"value": 0.07}, "dfat.loss": {"values": ["cross", "global"]}}
    sweep = read_sweep(sweep_file(tmp_path, parameters=point))
    with pytest.raises(InputError, match=r"runs all failed \(the last: has no number of val/auroc_macro in metrics"):
        Search(sweep, tmp_path / "out", []).run(count=count)
    assert set(pd.read_csv(tmp_path / "out" / "sweep.csv")["state"]) == {"fail"}


def test_a_point_that_is_drawn_twice_is_trained_once(tmp_path: Path, trainer) -> None:
    trainer(sleep=0.5)
    point = {"dfat.temperature": {"value": 0.1}, "dfat.loss": {"value": "cross"}}
    sweep = read_sweep(sweep_file(tmp_path, parameters=point))
    for count in (3, 4):  # the second call meets the run of the first
        table = pd.read_csv(Search(sweep, tmp_path / "out", []).run(count=count, workers=2))
        assert table["state"].tolist() == ["complete"] * count and table["run_dir"].nunique() == 1
        assert table["val/auroc_macro"].tolist() == pytest.approx([0.1] * count)
        assert table["validations"].tolist() == [4] * count
        assert Path(table["run_dir"][0], "calls").read_text() == "x"


def test_a_point_that_fails_twice_does_not_end_the_search(tmp_path: Path, trainer) -> None:
    trainer()
    both = {"dfat.temperature": {"value": 0.1}, "dfat.loss": {"values": ["cross", "global_local"]}}
    search = Search(read_sweep(sweep_file(tmp_path, parameters=both)), tmp_path / "out", [])
    for loss in ("global_local",) * 3 + ("cross",):
        search.study.enqueue_trial({"dfat.temperature": 0.1, "dfat.loss": loss})
    table = pd.read_csv(search.run(count=4))
    assert sorted(table["state"]) == ["complete", "fail", "fail", "fail"]


@pytest.mark.parametrize(
    ("method", "parameters", "told"),
    [
        ("random", {"dfat.loss": {"values": ["cross", "globl"]}}, "dfat.loss: 'globl'"),
        ("random", {"data.fraction": {"min": 0.5, "max": 1.5}}, "data.fraction"),
        ("grid", {"dfat.loss": {"values": ["cross"]}, "dfat.temperature": {"values": [0.1, -1]}}, "dfat.temperature"),
        (
            "grid",
            {"seed": {"values": [*range(101)]}, "dfat.loss": {"values": ["cross", "globl"]}},
            "dfat.loss: 'globl'",
        ),
    ],
)
def test_every_value_is_looked_at_before_the_first_run(
    method: str, parameters: dict, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = load_experiment("demo", [])
    monkeypatch.setattr(
        "radz.multirun.sweep.search.load_experiment",
        lambda name, keys: (
            load_experiment(name, keys) if not keys[0].startswith("seed=") or "globl" in keys[1] else seen
        ),
    )  # the rest takes a while
    with pytest.raises(InputError, match=told):
        Search(read_sweep(sweep_file(tmp_path, method=method, parameters=parameters)), tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_a_value_that_fits_with_another_is_searched(tmp_path: Path, trainer, monkeypatch, caplog) -> None:
    trainer()
    load = Search._load

    def picky(search: Search, params: dict):  # type: ignore[no-untyped-def]
        if params["dfat.loss"] == "cross" and params["dfat.temperature"] == 0.1:
            raise InputError("dfat.loss: not with this temperature")
        return load(search, params)

    monkeypatch.setattr(Search, "_load", picky)
    values = {"dfat.temperature": {"values": [0.1, 0.2]}, "dfat.loss": {"values": ["cross", "global"]}}
    sweep, out = read_sweep(sweep_file(tmp_path, parameters=values)), tmp_path / "out"
    search = Search(sweep, out, [])
    search.study.enqueue_trial({"dfat.temperature": 0.1, "dfat.loss": "cross"})
    search.study.enqueue_trial({"dfat.temperature": 0.2, "dfat.loss": "cross"})
    with caplog.at_level("WARNING"):
        table = pd.read_csv(search.run(count=2))
    assert table["state"].tolist() == ["complete", "fail"]
    assert "run 0 failed (dfat.loss=cross dfat.temperature=0.1): dfat.loss: not with this" in caplog.text
    assert len(pd.read_csv(Search(sweep, out, []).run(count=3))) == 3  # nothing is in the way of the repeated call
    with pytest.raises(InputError, match="not with this temperature"):
        Search(read_sweep(sweep_file(tmp_path, parameters=values, method="grid")), tmp_path / "grid", [])


@pytest.mark.fault(21)
def test_a_killed_run_is_told_at_the_end_and_made_again(tmp_path: Path, trainer, monkeypatch) -> None:
    trainer()
    file, out = sweep_file(tmp_path), tmp_path / "sweep"
    text = (tmp_path / "trainer.py").read_text()
    # the first run that is started dies within it
    dying = (
        "import os\nif not pathlib.Path(FLAG).exists():\n    pathlib.Path(FLAG).touch()\n    os.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "trainer.py").write_text(text + dying.replace("FLAG", repr(str(tmp_path / "flag"))))
    with pytest.raises(
        WorkerDied, match=r"^run 0 \(process \d+\) was killed by SIGKILL .*; repeat the command"
    ) as fault:
        Search(read_sweep(file), out, []).run(3)
    assert "\n" not in str(fault.value)
    Search(read_sweep(file), out, []).run(3)
    table = pd.read_csv(out / "sweep.csv")
    assert table.state.tolist() == ["complete"] * 3 and 0 not in table.run.tolist()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    search = Search(read_sweep(sweep_file(tmp_path)), tmp_path / "out", [])
    with locked(tmp_path / "out" / ".lock"), pytest.raises(InputError, match=r"process \d+ on .* works there; wait"):
        search.run(count=1)


def test_whole_numbers_and_lists_keep_their_kind(tmp_path: Path) -> None:
    sweep = read_sweep(sweep_file(tmp_path, parameters={
        "seed": {"min": 1, "max": 4}, "dfat.warmup": {"min": 0.0, "max": 0.2, "distribution": "q_uniform", "q": 0.05},
        "dkam.aspects": {"values": [["location", "shape"]]},
    }))  # fmt: skip
    search = Search(sweep, tmp_path / "out", [])
    drawn = [search.study.ask(search.space).params for _ in range(8)]
    assert {type(params["seed"]) for params in drawn} == {int}
    assert all(round(params["dfat.warmup"] / 0.05, 6).is_integer() for params in drawn)
    aspects = f"dkam.aspects={_tried(search.space['dkam.aspects'])[0]}"
    assert load_experiment("demo", [aspects]).dkam.aspects == ["location", "shape"]


@pytest.mark.slow
def test_a_real_search_of_the_demo_in_small(tmp_path: Path, cache_dir: Path) -> None:
    search = Search(read_sweep(sweep_file(tmp_path)), tmp_path / "out", [*SMALL, f"cache_dir={cache_dir}"])
    table = pd.read_csv(search.run(count=2, workers=2))
    assert (table["state"] == "complete").all() and table["val/auroc_macro"].between(0, 1).all()
    assert all((Path(folder) / "report.html").is_file() for folder in table["run_dir"])
