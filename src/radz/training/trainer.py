"""The Lightning Trainer of a run: devices, precision, loggers, checkpoints, progress."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.profilers import Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_module

from radz.config.trainer import TrainerConfig
from radz.distributed import has_bf16, own_device
from radz.metrics.monitor import MONITOR
from radz.stopping import without_signals
from radz.training.callbacks.checkpointing import BestCheckpoint, LastCheckpoint
from radz.training.callbacks.finite import DivergenceAlert
from radz.training.callbacks.progress import DrawnProgress, LogProgress
from radz.training.callbacks.signals import StopOnSignal
from radz.training.checkpoint_io import CheckedIO
from radz.training.fsdp import strategy
from radz.training.ranks import watch_launched

log = logging.getLogger(__name__)
NOISE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own use of torch
    r"It is recommended to use `self\.log\(",  # what is logged per epoch is equal on all ranks already
    r"Checkpoint directory .* exists and is not empty",  # that of the run which goes on
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the sampler's place is in the checkpoint
    r"Found \d+ module\(s\) in eval mode at the start of training",  # frozen towers are meant to be
)
"""Warnings that say nothing about a run."""

ADVERTS = ("litlogger", "litmodels")
"""Products that Lightning praises whenever a Trainer is made, also to a program that imports radz."""


def _is_no_advert(record: logging.LogRecord) -> bool:
    return not any(product in record.getMessage() for product in ADVERTS)


rank_zero_module.log.addFilter(_is_no_advert)


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


def make_trainer(settings: TrainerConfig, run_dir: Path, loggers: Sequence[Logger]) -> pl.Trainer:
    """Trainer of `radz train` and `radz eval`."""
    best = BestCheckpoint(run_dir / "checkpoints", MONITOR)
    last = LastCheckpoint(run_dir / "checkpoints", settings.checkpoint_every_n_steps)
    callbacks: list[Callback] = [best, last, StopOnSignal(last), DivergenceAlert()]
    if settings.progress_bar:
        drawn = sys.stdout.isatty()  # where Lightning draws
        callbacks.append(DrawnProgress(refresh_rate=settings.log_every_steps) if drawn else LogProgress())
    # TF32 keeps 10 bits of a float32: heads, cosines and losses are computed outside autocast for more than that.
    torch.set_float32_matmul_precision("highest")
    precision: Any = precision_of(settings.precision, settings.accelerator)
    # The fused attention of CPUs takes three to four times as long backward in bf16 as plain matrix products do.
    torch.backends.cuda.enable_flash_sdp(precision != "bf16-mixed" or has_bf16(settings.accelerator))
    watch_launched()
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
        logger=list(loggers),
        default_root_dir=run_dir,
        deterministic=settings.deterministic,
        limit_train_batches=settings.overfit_batches or None,
        profiler=profiler(settings.profiler, run_dir),
    )
    if isinstance(trainer.strategy, ParallelStrategy):
        # By this attribute it reaches every strategy of several processes, by whatever name it was chosen.
        trainer.strategy._timeout = timedelta(minutes=settings.timeout_minutes)  # type: ignore[attr-defined]
    # With max_steps Lightning takes a run that was saved at the end of an epoch for one within it, and skips a batch.
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    _validate_the_end(trainer)
    return without_signals(trainer)


def _validate_the_end(trainer: pl.Trainer) -> None:
    """Validate also behind the last step of a fit, wherever `max_steps` or an epoch that is not due puts it.

    What was trained since the last validation could not become best.ckpt otherwise, and be trained for nothing.
    """
    loop = trainer.fit_loop.epoch_loop
    due = loop._should_check_val_fx

    def due_or_over(fetcher: Any) -> bool:
        last_epoch = loop.batch_progress.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        over = last_epoch or trainer.global_step == trainer.max_steps
        return due(fetcher) or (over and trainer.enable_validation)

    loop._should_check_val_fx = due_or_over  # type: ignore[method-assign, assignment]


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
    return "bf16-mixed" if has_bf16(accelerator) else "32-true"


def lone_trainer(accelerator: str) -> Any:
    """A Trainer for `predict` in this process alone, on its own device, whatever launcher started it."""
    return pl.Trainer(
        accelerator=accelerator, devices=own_device(accelerator), plugins=[LightningEnvironment()], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
