"""The Lightning Trainer of a run: devices, precision, loggers, checkpoints, progress."""

from __future__ import annotations

import logging
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import ParallelStrategy

from radz.callbacks.checkpointing import BestCheckpoint, LastCheckpoint
from radz.callbacks.csv_log import CsvLog
from radz.callbacks.metrics import MONITOR
from radz.callbacks.stop import StopOnSignal
from radz.callbacks.wandb_log import DivergenceAlert, wandb_logger
from radz.checkpoints import CheckedIO
from radz.config import Experiment
from radz.sharding import strategy

log = logging.getLogger(__name__)
NOISE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own use of torch
    r"It is recommended to use `self\.log\(",  # what is logged per epoch is equal on all ranks already
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the sampler's place is in the checkpoint
    r"Found \d+ module\(s\) in eval mode at the start of training",  # frozen towers are meant to be
)
"""Warnings that say nothing about a run."""


def quiet() -> None:
    """Silence what Lightning and transformers say in every run: hardware lines, tips, bars of loading, `NOISE`.

    Their warnings stay, but for `NOISE`. For the command line; a program that imports radz decides for itself.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # At level INFO both only repeat what radz logs itself.
    for name in ("lightning.pytorch", "lightning.fabric", "lightning_fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def make_trainer(experiment: Experiment, run_dir: Path, csv: CsvLog) -> pl.Trainer:
    """Trainer of `radz train` and `radz eval`."""
    settings = experiment.trainer
    best = BestCheckpoint(run_dir / "checkpoints", MONITOR)
    last = LastCheckpoint(run_dir / "checkpoints", settings.checkpoint_every_n_steps)
    callbacks: list[Callback] = [best, last, StopOnSignal(last), DivergenceAlert()]
    if settings.progress_bar:
        callbacks.append(TQDMProgressBar(refresh_rate=settings.log_every_steps))
    precision: Any = precision_of(settings.precision, settings.accelerator)
    trainer = pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=strategy(settings),
        precision=precision,
        max_epochs=settings.max_epochs if settings.max_epochs is not None else -1,
        max_steps=settings.max_steps if settings.max_steps is not None else -1,
        check_val_every_n_epoch=settings.validate_every_epochs,
        log_every_n_steps=settings.log_every_steps,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the DataModule shards by rank without repeating a study
        enable_progress_bar=settings.progress_bar,
        enable_model_summary=False,
        callbacks=callbacks,
        plugins=[CheckedIO()],
        logger=loggers(experiment, run_dir, csv),
        default_root_dir=run_dir,
        deterministic=settings.deterministic,
        limit_train_batches=settings.overfit_batches or None,
        profiler=profiler(settings.profiler, run_dir),
    )
    if isinstance(trainer.strategy, ParallelStrategy):
        # By this attribute it reaches every strategy of several processes, by whatever name it was chosen.
        trainer.strategy._timeout = timedelta(minutes=settings.timeout_minutes)  # type: ignore[attr-defined]
    return trainer


def profiler(wanted: str, run_dir: Path) -> Profiler | None:
    """`simple` (seconds per part of a step) or `torch` (operators and a trace), into run_dir/profile."""
    kinds = {"simple": SimpleProfiler, "torch": PyTorchProfiler}
    if wanted == "none":
        return None
    (run_dir / "profile").mkdir(parents=True, exist_ok=True)
    return kinds[wanted](dirpath=run_dir / "profile", filename=wanted)


def precision_of(wanted: str, accelerator: str) -> str:
    """`auto` is bf16-mixed on GPUs that have it, else 32-true."""
    if wanted != "auto":
        return wanted
    gpu = accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if gpu else "32-true"


def loggers(experiment: Experiment, run_dir: Path, csv: CsvLog) -> list[Logger]:
    """metrics.csv always; W&B unless disabled."""
    return [csv, *([found] if (found := wandb_logger(experiment, run_dir)) else [])]
