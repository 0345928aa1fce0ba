"""Several machines and FSDP2: the same numbers as two processes on one machine, and checkpoints that all can read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from processes import free_port
from small_run import SMALL
from test_ddp_run import CPU, predictions, radz

CLUSTER = Path(__file__).resolve().parents[3] / "experiments/cluster"
ODD = [
    "data.corpora.0.phantom.studies={train: 24, val: 13, test: 17}", "data.batch_size=4",
    "data.eval_batch_size=8",  # 9 test studies on one rank and 8 on the other: two batches and one
]  # fmt: skip


def differ(one: Path, other: Path) -> float:
    """Largest difference of two runs' test scores; their studies must be the same."""
    first, second = predictions(one, "test"), predictions(other, "test")
    assert first.study_id.tolist() == second.study_id.tolist() and len(first) == 17
    numbers = [name for name in first.columns if "/" in name]
    assert first[numbers].isna().equals(second[numbers].isna())
    return float(np.nanmax(np.abs(first[numbers].to_numpy() - second[numbers].to_numpy())))


def losses(run: Path) -> list[float]:
    return pd.read_csv(run / "metrics.csv")["train/loss"].dropna().tolist()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The run to compare with: DDP on one machine."""
    run = tmp_path_factory.mktemp("ddp") / "run"
    places = [f"run_dir={run}", f"cache_dir={cache_dir}", "trainer.devices=2"]
    radz("train", "demo", *SMALL, *CPU, *ODD, *places, cwd=run.parent)
    return run


@pytest.mark.slow
def test_two_nodes_train_the_run_of_two_processes(tmp_path: Path, two_processes: Path) -> None:
    """Two torchrun agents on loopback, as the script for clusters starts them, each with a cache of its own."""
    port = free_port()
    run, agents = tmp_path / "run", []
    for node in (0, 1):
        places = [f"run_dir={run}", f"cache_dir={tmp_path / f'node{node}'}"]
        nodes = {"NNODES": "2", "NODE_RANK": str(node), "MASTER_PORT": str(port), "DEVICES": "1"}
        agents.append(
            subprocess.Popen(
                ["bash", str(CLUSTER / "torchrun.sh"), "demo", *SMALL, *CPU, *ODD, *places],
                cwd=tmp_path,
                env={**os.environ, **nodes, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [agent.communicate(timeout=500) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], told[0][1][-2000:] + told[1][1][-2000:]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["world_size"] == 2
    assert differ(run, two_processes) < 1e-6
    assert losses(run) == pytest.approx(losses(two_processes), rel=1e-6) and len(losses(run)) == 3
    for node in (0, 1):
        assert list((tmp_path / f"node{node}").glob("pixels/*/pixels.u8"))
    assert json.loads((two_processes / "metrics.json").read_text())["results"].keys() == metrics["results"].keys()


@pytest.mark.slow
def test_fsdp_trains_the_run_of_ddp_and_one_process_reads_it(
    tmp_path: Path, two_processes: Path, cache_dir: Path
) -> None:
    run, places = tmp_path / "run", [f"cache_dir={cache_dir}"]
    fsdp = ["trainer.devices=2", "trainer.strategy=fsdp", f"run_dir={run}"]
    radz("train", "demo", *SMALL, *CPU, *ODD, *places, *fsdp, cwd=tmp_path)
    assert losses(run) == pytest.approx(losses(two_processes), rel=1e-4)
    assert differ(run, two_processes) < 1e-3
    stored = [torch.load(one / "checkpoints/best.ckpt", weights_only=True) for one in (run, two_processes)]
    assert stored[0]["state_dict"].keys() == stored[1]["state_dict"].keys()
    for name, weight in stored[0]["state_dict"].items():
        assert type(weight) is torch.Tensor and weight.shape == stored[1]["state_dict"][name].shape, name
    alone = [f"run={run}", f"run_dir={tmp_path / 'alone'}", "trainer.devices=1"]
    radz("eval", "demo", *SMALL, *CPU, *ODD, *places, *alone, cwd=tmp_path)
    assert differ(tmp_path / "alone", run) < 1e-5


@pytest.mark.slow
def test_an_fsdp_run_resumes(tmp_path: Path, cache_dir: Path) -> None:
    """Stopped after its first epoch and repeated, it ends where the uninterrupted one ends."""
    command = [
        "train", "demo", *SMALL, *CPU, *ODD, f"cache_dir={cache_dir}", "trainer.devices=2", "trainer.strategy=fsdp",
        "trainer.max_epochs=4", "dfat.text_source=labels",  # sentences that repeat: ranks have other numbers of texts
    ]  # fmt: skip
    radz(*command, f"run_dir={tmp_path / 'whole'}", cwd=tmp_path)
    run = tmp_path / "stopped"
    started = subprocess.Popen(
        [sys.executable, "-m", "radz", *command, f"run_dir={run}"], cwd=tmp_path, start_new_session=True,
        stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    until = time.monotonic() + 300
    while not (run / "checkpoints/last.ckpt").is_file() and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert not (run / "metrics.json").is_file()
    done = radz(*command, f"run_dir={run}", cwd=tmp_path)
    assert "resuming" in done.stderr
    assert losses(run) == pytest.approx(losses(tmp_path / "whole"), rel=1e-4) and len(losses(run)) == 12
    assert differ(run, tmp_path / "whole") < 1e-3
