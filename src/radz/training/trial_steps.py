"""A few real steps that leave nothing behind: `trainer.fast_dev_run`, and what `--dry-run` measures."""

from __future__ import annotations

import logging
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode

from radz.config.trainer import TrainerConfig
from radz.training.trainer import precision_of

log = logging.getLogger(__name__)
STEPS = 3
"""A first one that warms up, one whose operations are counted, one that is timed."""


@dataclass
class Measured:
    """What one training step costs."""

    flops_per_pair: float
    """multiplications and additions of matrix products, convolutions and attention, forward and backward"""
    seconds: float
    memory_gb: float
    """largest GPU allocation, or resident size of the process, in 1e9 bytes"""


def one_batch(settings: TrainerConfig, module: Any, data: Any) -> None:
    """Train, validate and test on one batch each; no number, checkpoint or log is kept."""
    trainer = _trainer(settings, data, fast_dev_run=True)
    if module.trains:
        trainer.fit(module, datamodule=data)
    else:
        module.fit_once(trainer, data)
    trainer.test(module, datamodule=data, verbose=False)
    log.info("fast_dev_run: one batch of training, validation and test went through; nothing is kept")


def measure(settings: TrainerConfig, module: Any, data: Any) -> Measured:
    """Cost of a training step on this machine, from `STEPS` real ones. The weights of `module` change."""
    meter = _Meter(data.config.batch_size)
    limits = {"max_steps": STEPS, "max_epochs": -1, "limit_val_batches": 0, "callbacks": [meter]}
    _trainer(settings, data, **limits).fit(module, datamodule=data)
    return meter.measured()


def steps_per_epoch(settings: TrainerConfig, data: Any) -> int:
    """Of the run itself, on all its processes."""
    steps = len(data.table.rows("train")) // (data.config.batch_size * settings.processes)
    return min(steps, settings.overfit_batches or steps)


def steps_of_run(settings: TrainerConfig, data: Any) -> int:
    """All that the run itself takes."""
    return settings.max_steps or steps_per_epoch(settings, data) * (settings.max_epochs or 1)


class _Trial(pl.Trainer):
    """A few steps of a run, planned as the first ones of all that it takes: warm-ups are checked against these."""

    planned: int

    @property
    def estimated_stepping_batches(self) -> int:
        return self.planned


def _trainer(settings: TrainerConfig, data: Any, **more: Any) -> pl.Trainer:
    precision: Any = precision_of(settings.precision, settings.accelerator)
    trainer = _Trial(
        accelerator=settings.accelerator, devices=1, precision=precision, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, deterministic=settings.deterministic, **more,
    )  # fmt: skip
    trainer.planned = steps_of_run(settings, data)
    return trainer


class _Meter(Callback):
    """Counts the operations of the second step and times the third."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self.counter = FlopCounterMode(display=False)
        self.steps = 0
        self.begun = self.seconds = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        if self.steps == 1:
            self.counter.__enter__()
        self.begun = _now()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds = _now() - self.begun
        if self.steps == 1:
            self.counter.__exit__(None, None, None)
        self.steps += 1

    def measured(self) -> Measured:
        unit = 1 if sys.platform == "darwin" else 1024
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        if torch.cuda.is_available():
            memory = torch.cuda.max_memory_allocated()
        return Measured(self.counter.get_total_flops() / self.pairs, self.seconds, memory / 1e9)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
