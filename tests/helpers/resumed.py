"""A small run as it is, and the same run stopped in between and resumed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from small_run import BARE

from radz.config.files import load_experiment
from radz.methods.dfat import DFAT
from radz.runs.train import Stopped, train


def whole_and_resumed(place: Path, cache_dir: Path, patch: pytest.MonkeyPatch, at: int, *keys: str) -> list[Path]:
    """Folders of two runs of the demo with these keys, the second stopped by a signal in step `at`."""
    step, stop = DFAT.training_step, {"at": -1}

    def stopping(self: DFAT, batch: Any, batch_idx: int) -> Any:
        if self.global_step == stop["at"]:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    patch.setattr(DFAT, "training_step", stopping)

    def run(name: str) -> Path:
        return train(load_experiment("demo", [*BARE, *keys, f"run_dir={place / name}", f"cache_dir={cache_dir}"]))

    whole, stop["at"] = run("whole"), at
    with pytest.raises(Stopped, match="repeat the command to resume"):
        run("resumed")
    stop["at"] = -1
    return [whole, run("resumed")]
