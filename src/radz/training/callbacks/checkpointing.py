"""best.ckpt, and last.ckpt with previous.ckpt: all that a run needs to go on, bit for bit, from between two steps."""

from __future__ import annotations

import logging
import os
import random
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from data_modules.errors import InputError
from data_modules.files import replacing
from radz.distributed import gather_objects, is_main_process, world
from radz.training.checkpoint_io import DamagedCheckpoint, read_checkpoint

log = logging.getLogger(__name__)
RANKS_APART = 1_000_003
"""between the seeds of two ranks; torch's generator on the CPU takes 32 bits of a seed"""
LAST, PREVIOUS, DAMAGED = "last.ckpt", "previous.ckpt", "damaged.ckpt"


class BestCheckpoint(ModelCheckpoint):
    """best.ckpt, the epoch with the highest monitor."""

    def __init__(self, folder: Path, monitor: str) -> None:
        super().__init__(
            folder, "best", monitor, mode="max", auto_insert_metric_name=False, save_on_train_epoch_end=False,
            enable_version_counter=False,
        )  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the best score also in a run folder that was moved; Lightning would forget it."""
        best = self.format_checkpoint_name({}) if state_dict["best_model_path"] else ""
        moved = {"best_model_path": best, "kth_best_model_path": best, "dirpath": self.dirpath}
        scores = list(state_dict["best_k_models"].values())
        super().load_state_dict({**state_dict, **moved, "best_k_models": {best: scores[0]} if scores else {}})


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt after each epoch, before the last step of an epoch or of the run and every so many steps.

    The one before stays as previous.ckpt. Before the last step: a stop while its weights are validated then costs that
    step and no more. Lightning restores weights, optimizer, schedule and counts; here are the random states of all
    processes. The order of studies is a function of seed and epoch, and the DataModule leaves out what was seen.

    Args:
        folder: of the checkpoints.
        every_n_steps: None for once an epoch.
    """

    def __init__(self, folder: Path, every_n_steps: int | None) -> None:
        self.folder, self.every = folder, every_n_steps
        self._saved = 0
        self._between = False
        self._random: list[dict[str, Any]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save between two steps, when it is time."""
        due = self.every is not None and trainer.global_step % self.every == 0
        last = trainer.global_step + 1 == trainer.max_steps or batch_idx + 1 == trainer.num_training_batches
        if due or last:
            self.save_between_steps(trainer, batch_idx)

    def save_between_steps(self, trainer: pl.Trainer, batch_idx: int) -> None:
        """Save before step `batch_idx` of the epoch; before the first, the last epoch has done so."""
        if batch_idx == 0 or batch_idx % trainer.accumulate_grad_batches:
            return
        self._between = True
        try:
            self._save(trainer)
        finally:
            self._between = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after the epoch's validation. The counts differ from those of a save before its last step."""
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if self._saved == trainer.global_step:
            return  # previous.ckpt would become a copy of last.ckpt
        if trainer.is_global_zero:
            keep_previous(self.folder)
        # Every rank calls it: each hands in its random states, and a sharded model its part of the weights.
        trainer.save_checkpoint(self.folder / LAST)
        self._saved = trainer.global_step

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states of all processes; undo the count of the batch that was fetched but not trained on."""
        checkpoint["random"] = gather_objects(random_states())
        if self._between:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            for part in (progress["total"], progress["current"]):
                part["ready"] = part["completed"]
            progress["is_last_batch"] = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the random states; InputError when the number of processes is another."""
        self._random, self._saved = checkpoint.get("random", []), checkpoint["global_step"]
        if len(self._random) != world()[1]:
            raise InputError(
                f"trainer.devices: the run was stopped with {len(self._random)} process(es) and cannot go on exactly "
                f"with {world()[1]}; resume with as many, or choose another run_dir"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the random states, whatever has drawn before the first step, such as anchors that were not on disk yet.

        At the start each rank has another, or all would drop the same features.
        """
        rank = world()[0]
        if self._random:
            set_random_states(self._random[rank])
        else:
            torch.manual_seed(torch.initial_seed() + rank * RANKS_APART)


def keep_previous(folder: Path) -> None:
    """last.ckpt also as previous.ckpt; there is a whole checkpoint at every moment."""
    last = folder / LAST
    if not last.is_file():
        return
    with replacing(folder / PREVIOUS) as draft:
        try:
            os.link(last, draft)
        except OSError:  # a file system without hard links
            shutil.copyfile(last, draft)


def usable_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The checkpoint to resume from and its step; None when there is none.

    A damaged last.ckpt is put aside as damaged.ckpt, and previous.ckpt is taken instead.

    Raises:
        InputError: checkpoints are there, and all of them are damaged.
    """
    faults = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            step = int(read_checkpoint(path)["global_step"])
        except DamagedCheckpoint as fault:
            faults.append(fault)
            continue
        if faults:
            # Put aside, not deleted: it shows what the disk did, and the next save must not make it previous.ckpt.
            log.warning("%s; %s is taken instead, the damaged file is now %s", faults[0], path, folder / DAMAGED)
            if is_main_process():
                (folder / LAST).replace(folder / DAMAGED)
        return path, step
    if faults:
        raise faults[0]
    return None


def random_states() -> dict[str, Any]:
    """Python's, numpy's and torch's random states of this process, as plain values and tensors."""
    # Not Lightning's collect_rng_states: it holds numpy arrays, which a checkpoint read with weights_only may not.
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.random.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_states(states: dict[str, Any]) -> None:
    """The inverse of `random_states`."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.random.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
