"""Fault 22: of two commands on one folder the second is refused, whatever the verb; the processes of one are not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.utilities import rank_zero_only
from small_run import SMALL

from data_modules.errors import InputError
from data_modules.files import LOCK
from data_modules.lock import locked
from radz.cli.ablate import ablate
from radz.cli.command_line import main
from radz.cli.paper import paper
from radz.config.files import load_experiment
from radz.runs.train import open_folder
from radz.training.run_folder import working_in


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> None:
    assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert f": process {os.getpid()} on " in said[-1] and " works there; wait for it, or stop it" in said[-1]


@pytest.fixture
def verbs(trained_run: Path, tmp_path: Path, cache_dir: Path) -> dict[str, tuple[Path, list[str]]]:
    """verb -> the lock that it needs, and a command."""
    run = shutil.copytree(trained_run, tmp_path / "run")
    unfinished, places = tmp_path / "unfinished", [*SMALL, f"cache_dir={cache_dir}"]
    return {
        "train": (unfinished / LOCK, ["train", "demo", *places, f"run_dir={unfinished}"]),
        "overwrite": (run / LOCK, ["train", str(run / "config.yaml"), f"run_dir={run}", "overwrite=true"]),
        "anchors": (unfinished / LOCK, ["anchors", "demo", *places, f"run_dir={unfinished}"]),
        "eval": (run / "eval/demo" / LOCK, ["eval", "demo", *places, f"run={run}"]),
        "report": (run / LOCK, ["report", str(run)]),
        "evidence": (run / LOCK, ["evidence", str(run), "only=features"]),
        "rerun": (tmp_path / "again" / LOCK, ["rerun", str(run), f"run_dir={tmp_path / 'again'}"]),
        "compare": (tmp_path / "out" / LOCK, ["compare", str(run), str(trained_run), f"out={tmp_path / 'out'}"]),
        "export": (tmp_path / ".export.lock", ["export", str(run), f"out={tmp_path / 'export'}"]),
        "check": (unfinished / "audit" / LOCK, ["data", "check", "demo", *places, f"run_dir={unfinished}"]),
    }


@pytest.mark.fault(22)
@pytest.mark.parametrize(
    "verb", ["train", "overwrite", "anchors", "eval", "report", "evidence", "rerun", "compare", "export", "check"]
)
def test_every_verb_that_writes_into_a_folder_is_alone_there(
    verb: str, verbs: dict[str, tuple[Path, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    lock, command = verbs[verb]
    there = sorted(lock.parent.rglob("*")) if lock.parent.is_dir() else []
    with locked(lock):
        refused(capsys, *command)
        assert [path for path in sorted(lock.parent.rglob("*")) if path != lock] == there, "nothing was touched"


@pytest.mark.fault(22)
def test_suites_are_alone_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls: dict[str, Callable[[], Any]] = {
        "runs/ablations/core": lambda: ablate("core", []),
        "runs/paper/quick": lambda: paper("quick", []),
    }
    for folder, call in calls.items():
        with locked(Path(folder) / LOCK), pytest.raises(InputError, match=f"{folder}: process .* works there"):
            call()


def test_only_the_first_process_of_a_run_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    with working_in(run, "run_dir"):
        assert json.loads((run / LOCK).read_text())["pid"] == os.getpid()
        monkeypatch.setattr(rank_zero_only, "rank", 1)
        with working_in(run, "run_dir"):
            pass
        assert (run / LOCK).is_file()
        monkeypatch.undo()
    assert not list(run.iterdir())
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    with working_in(tmp_path / "none", "run_dir"):
        assert not (tmp_path / "none").exists()


def test_a_lock_belongs_to_its_run_folder(tmp_path: Path, trained_run: Path) -> None:
    """A new folder with nothing but the lock is empty; `overwrite` deletes what is there and not the lock."""
    experiment = load_experiment("demo", [*SMALL, f"run_dir={tmp_path / 'new'}"])
    with working_in(tmp_path / "new", "run_dir"):
        open_folder(experiment, tmp_path / "new")
    folder = shutil.copytree(trained_run, tmp_path / "old")
    experiment = load_experiment(str(folder / "config.yaml"), [f"run_dir={folder}", "overwrite=true"])
    with working_in(folder, "run_dir"):
        open_folder(experiment, folder)
        assert sorted(path.name for path in folder.iterdir()) == [LOCK, "config.yaml", "environment.json"]
    with pytest.raises(InputError, match=r"run_dir: .*not a folder to write to"):  # noqa: SIM117
        with working_in(folder / "config.yaml", "run_dir"):
            pass
