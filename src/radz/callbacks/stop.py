"""Signals: finish the step, save, end with one line; under SLURM's warning signal also ask for the job to go on."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Callback

from radz.callbacks.checkpointing import LAST, PREVIOUS, LastCheckpoint
from radz.distributed import total, world

log = logging.getLogger(__name__)
JOB = re.compile(r"[0-9]+(_[0-9]+)?")


class Stopped(Exception):
    """A signal ended the run; the repeated command goes on."""

    def __init__(self, checkpoints: Path, more: str = "") -> None:
        there = next((checkpoints / name for name in (LAST, PREVIOUS) if (checkpoints / name).is_file()), None)
        if there is None:
            super().__init__(f"stopped before the first checkpoint; repeat the command to start again{more}")
        else:
            super().__init__(f"stopped; repeat the command to resume from {there}{more}")


class StopOnSignal(Callback):
    """SIGTERM and SIGINT stop all processes between two steps; a second SIGINT stops at once.

    Lightning's own handlers save or broadcast wherever the signal arrives, also in the middle of a step or of a
    collective. These only note the signal, and the processes agree on it before each step. With one process it is also
    looked for between the batches of a validation, which the resumed run repeats.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last, self._stop, self._requeue = last, False, False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals; Lightning gives them back when the fit ends."""
        if threading.current_thread() is not threading.main_thread():
            return
        signal.signal(signal.SIGTERM, self._noted)
        signal.signal(signal.SIGINT, self._interrupted)
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            signal.signal(environment.requeue_signal or signal.SIGUSR1, self._warned)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop before a step, when any process was told to."""
        if self._agreed(pl_module.device):
            self.last.save_between_steps(trainer, batch_idx)
            self._leave(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop; last.ckpt stands before the last step of the epoch."""
        if self._stop and world()[1] == 1:
            self._leave(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before anything is scored."""
        if self._agreed(pl_module.device):
            self._leave(trainer)

    def _agreed(self, device: torch.device) -> bool:
        flags = torch.tensor([self._stop, self._requeue], dtype=torch.int32, device=device)
        self._stop, self._requeue = (bool(flag) for flag in total(flags).tolist())
        return self._stop

    def _leave(self, trainer: pl.Trainer) -> None:
        more = requeue() if self._requeue and trainer.is_global_zero else ""
        raise Stopped(self.last.folder, more)

    def _noted(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True

    def _warned(self, number: int, frame: FrameType | None) -> None:
        self._stop = self._requeue = True


def requeue() -> str:
    """Ask SLURM to start the job again; returns what became of it, to be told after a comma."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    if not JOB.fullmatch(job):
        return f", not requeued: {job[:40]!r} is not the id of a SLURM job"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f", not requeued: scontrol failed ({type(error).__name__})"
    if done.returncode:
        return f", not requeued: scontrol ended with {done.returncode} ({' '.join(done.stderr.split())[:120]})"
    return f", SLURM job {job} is requeued"
