"""Whole commands on two gloo processes: every study is scored once, and scores equal those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch.multiprocessing as mp
from lightning.pytorch.utilities import rank_zero_only
from processes import free_port
from small_run import SMALL

from radz.cli import main

CPU = ["trainer.accelerator=cpu", "scoring.pixel_baseline=false"]
SPLITS = {"val": 12, "test": 16}


def radz(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m radz`, as a user starts it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")}
    done = subprocess.run(
        [sys.executable, "-m", "radz", *arguments], cwd=cwd, env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=420,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def rank_of_two(rank: int, port: int, arguments: list[str]) -> None:
    """The command in one of two processes, as torchrun starts it; a fork, so that nothing is imported again."""
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    os.environ.update(places, TORCHELASTIC_RUN_ID="none", RANK=str(rank), LOCAL_RANK=str(rank))
    rank_zero_only.rank = rank  # which the import of Lightning reads of RANK
    assert main(arguments) == 0


def predictions(folder: Path, split: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"predictions/phantom_{split}.csv")


@pytest.mark.slow
def test_two_processes_train_one_run_and_score_each_study_once(tmp_path: Path, cache_dir: Path) -> None:
    run = tmp_path / "run"
    # 13 and 17 studies: neither fills both ranks evenly.
    odd = "data.corpora.0.phantom.studies={train: 24, val: 13, test: 17}"
    places = [odd, "data.batch_size=4", f"run_dir={run}", f"cache_dir={cache_dir}", "trainer.devices=2"]
    done = radz("train", "demo", *SMALL, *CPU, *places, cwd=tmp_path)
    assert done.stdout.strip().splitlines()[-1] == str(run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["world_size"] == 2 and metrics["results"]["phantom/test"]["coverage"]["studies"] == 17
    for split, count in {"val": 13, "test": 17}.items():
        studies = predictions(run, split).study_id.tolist()
        assert studies == [f"{split}-{i:06d}" for i in range(count)]
    assert pd.read_csv(run / "metrics.csv").step.tolist() == [0, 1, 2]
    assert (run / "report.html").is_file() and (run / "checkpoints/best.ckpt").is_file()


def test_eval_on_two_processes_equals_that_of_training_on_one(
    tmp_path: Path, trained_run: Path, cache_dir: Path
) -> None:
    places = [f"run={trained_run}", f"run_dir={tmp_path / 'two'}", f"cache_dir={cache_dir}", "trainer.devices=2"]
    arguments = ["eval", "demo", *SMALL, *CPU, *places]
    mp.start_processes(rank_of_two, (free_port(), arguments), nprocs=2, start_method="fork")
    for split, count in SPLITS.items():
        two, trained = predictions(tmp_path / "two", split), predictions(trained_run, split)
        assert two.study_id.tolist() == [f"{split}-{i:06d}" for i in range(count)]
        one, numbers = trained[two.columns], [name for name in two.columns if "/" in name]
        assert numbers and one[["study_id", "patient"]].equals(two[["study_id", "patient"]])
        assert one[numbers].isna().equals(two[numbers].isna())
        assert np.nanmax(np.abs(one[numbers].to_numpy() - two[numbers].to_numpy())) < 1e-6
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["world_size"] == 2 and metrics["results"]["phantom/test"]["coverage"]["studies"] == 16
