"""Signals: finish the step, save, end with one line; under SLURM's warning signal also ask for the job to go on."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Callback

from data_modules.errors import InputError
from data_modules.workers import died_of
from radz.distributed import total, world
from radz.stopping import requeue
from radz.training.callbacks.checkpointing import LAST, PREVIOUS, LastCheckpoint


class Stopped(Exception):
    """A signal ended the run; the repeated command goes on."""

    def __init__(self, checkpoints: Path, more: str = "") -> None:
        checkpoint = next((checkpoints / name for name in (LAST, PREVIOUS) if (checkpoints / name).is_file()), None)
        if checkpoint is None:
            super().__init__(f"stopped before the first checkpoint; repeat the command to start again{more}")
        else:
            super().__init__(f"stopped; repeat the command to resume from {checkpoint}{more}")


class StopOnSignal(Callback):
    """SIGTERM and SIGINT stop all processes between two steps; a second SIGINT stops at once.

    They only note the signal, and the processes agree on it before each step. With one process it is also looked for
    between the batches of a validation, which the resumed run repeats. Before and after the fit the handlers of the
    command stand.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last, self._stop, self._requeue = last, False, False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python sets handlers from the main thread alone
        # A handler may run in the middle of a step or of a write, so it sets a flag and no more.
        handlers = {signal.SIGTERM: self._noted, signal.SIGINT: self._interrupted}
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            handlers[environment.requeue_signal or signal.SIGUSR1] = self._warned
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The same; what a loader that had the signal too makes of it is no fault."""
        if self._before and died_of(exception, signal.SIGTERM):
            time.sleep(0.5)  # ours may be on its way
        self.teardown(trainer, pl_module, "fit")
        if self._stop and not isinstance(exception, Stopped | InputError):
            raise Stopped(self.last.folder) from None

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
        # A process that stopped on its own signal would leave the others waiting in the next collective for ever.
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
