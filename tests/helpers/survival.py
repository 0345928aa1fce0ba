"""Runs that are killed and go on, for the tests of faults 1 to 10."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from small_run import FEW, SMALL

from radz.config.files import load_experiment
from radz.methods.dfat import DFAT
from radz.runs.train import train

STEPS = 6
"""per epoch, of two"""
DROPOUT = [
    "backbone.train=lora", "backbone.lora_rank=4", "backbone.lora_dropout=0.2", "backbone.train_tower=false",
    "dfat.learning_rate=0.01", "data.batch_size=4", "trainer.max_epochs=2", "scoring.pixel_baseline=false",
    "scoring.wordings=", FEW,
]  # fmt: skip


def run(folder: Path, cache: Path, *overrides: str) -> Path:
    """Train the small demo with dropout into a folder, or go on there."""
    places = [f"run_dir={folder}", f"cache_dir={cache}"]
    return train(load_experiment("demo", [*SMALL, *DROPOUT, *places, *overrides]))


def killed(step: int, folder: Path, cache: Path, *overrides: str) -> None:
    """Train in a process of its own that is killed within step `step`."""
    child = os.fork()
    if not child:
        try:
            plain = DFAT.training_step

            def dying(self: DFAT, batch: Any, batch_idx: int) -> Any:
                if self.global_step == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(self, batch, batch_idx)

            DFAT.training_step = dying
            run(folder, cache, *overrides)
        finally:
            os._exit(7)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status


def global_step(folder: Path, name: str = "last") -> int:
    """Updates that a checkpoint holds."""
    return int(torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)["global_step"])


def assert_same(whole: Path, other: Path) -> None:
    """Weights, optimizer, all logged numbers and all scores are equal, bit for bit."""
    for name in ("best", "last"):
        one, two = (torch.load(f / f"checkpoints/{name}.ckpt", weights_only=True) for f in (whole, other))
        assert one["global_step"] == two["global_step"], name
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "random"):
            left, right = flat(one[key]), flat(two[key])
            assert left.keys() == right.keys()
            assert [k for k in left if not equal(left[k], right[k])] == [], (name, key)
    first, second = (pd.read_csv(f / "metrics.csv").drop(columns="pairs_per_second") for f in (whole, other))
    pd.testing.assert_frame_equal(first, second)
    for split in ("val", "test"):
        name = f"predictions/phantom_{split}.csv"
        assert (whole / name).read_bytes() == (other / name).read_bytes()


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested containers as one dict."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: item for name, inner in value.items() for key, item in flat(inner, f"{prefix}/{name}").items()}


def equal(one: Any, other: Any) -> bool:
    """Equality of tensors and plain values."""
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
