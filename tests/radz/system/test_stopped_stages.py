"""Faults 3 and 21 in every stage of one run: it is stopped or loses a worker in each, goes on, and ends the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from processes import forked
from small_run import SMALL

import data_modules.datamodule
import radz.evidence.compute
import radz.methods.dkam
import radz.runs.evaluate
import radz.runs.metrics_file
import radz.runs.score
import radz.runs.task
from radz.cli.command_line import main
from radz.methods.dfat import DFAT

TERM, INT, CHILD = signal.SIGTERM, signal.SIGINT, 0
STAGES: list[tuple[Any, str, int]] = [
    (data_modules.datamodule.StudyDataModule, "setup", TERM),
    (data_modules.datamodule, "open_or_build", INT),
    (radz.methods.dkam, "build_bank", TERM),
    (DFAT, "training_step", CHILD),
    (DFAT, "training_step", TERM),
    (DFAT, "validation_step", CHILD),
    (DFAT, "validation_step", INT),
    (DFAT, "test_step", CHILD),
    (DFAT, "test_step", TERM),
    (radz.runs.metrics_file, "write_results", INT),
    (radz.runs.evaluate, "write_report", TERM),
]


def loaders() -> list[int]:
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def hook(owner: Any, name: str, number: int) -> None:
    plain: Callable[..., Any] = getattr(owner, name)
    done = []

    def struck(*arguments: Any, **more: Any) -> Any:
        if not done:
            done.append(1)
            os.kill(os.getpid() if number else loaders()[0], number or signal.SIGKILL)
            time.sleep(0 if number else 0.5)
        return plain(*arguments, **more)

    setattr(owner, name, struck)


def command(words: list[str], told: Path, *struck: Any) -> tuple[int, str]:
    """Exit code and stderr of a command in a process of its own, which is struck at a stage."""

    def work() -> int:
        if struck:
            hook(*struck)
        return main(words)

    return forked(work, told)


@pytest.mark.slow
@pytest.mark.fault(3)
@pytest.mark.fault(21)
def test_a_run_that_is_stopped_in_every_stage_ends_the_same(tmp_path: Path) -> None:
    words = [
        "train",
        "demo",
        *SMALL,
        "data.workers=1",
        "scoring.pixel_baseline=false",
        f"cache_dir={tmp_path / 'cache'}",
    ]
    folder, whole = tmp_path / "run", tmp_path / "whole"
    for stage in STAGES:
        code, told = command([*words, f"run_dir={folder}"], tmp_path / "told", *stage)
        lines = [line for line in told.splitlines() if line.startswith("radz: ")]
        wanted = (3, "radz: stopped") if stage[2] else (2, "radz: a worker that loads studies (process ")
        assert code == wanted[0] and len(lines) == 1 and lines[0].startswith(wanted[1]), (stage, told[-2000:])
        assert "Traceback" not in told and "repeat the command" in lines[0], (stage, told[-2000:])
        assert not list(tmp_path.rglob("*.part")), stage
    for place in (folder, whole):
        assert command([*words, f"run_dir={place}"], tmp_path / "told")[0] == 0
    for split in ("val", "test"):
        name = f"predictions/phantom_{split}.csv"
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    first, second = (pd.read_csv(place / "metrics.csv").drop(columns="pairs_per_second") for place in (folder, whole))
    pd.testing.assert_frame_equal(first, second)
    evidence = ["evidence", str(folder), "only=robustness", "studies=8"]
    code, told = command(evidence, tmp_path / "told", radz.evidence.compute, "write_item", TERM)
    assert (code, told.splitlines()[-1]) == (3, "radz: stopped; repeat the command"), told[-2000:]
    assert command(evidence, tmp_path / "told")[0] == 0
