"""Progress of a run: Lightning's bars where someone sees them drawn, else one over all steps and one over each pass."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.progress_bar import ProgressBar

from data_modules.progress import Bar


class OfOneRun(ProgressBar):
    """Without the loggers' version: a run has its name on the line above, and Lightning cuts four letters of it."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What is logged for the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class DrawnProgress(OfOneRun, TQDMProgressBar):
    """Lightning's bars."""


class LogProgress(OfOneRun):
    """Takes the place of Lightning's bars, which write a line for each drawing, where nobody sees them drawn."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = Bar(disable=True)

    def disable(self) -> None:
        """Lightning's word to all processes but the first: nothing is open there, see `_open`."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar of the run, where it resumes."""
        whole = int(trainer.estimated_stepping_batches)
        self._open(trainer, "training", whole if whole > 0 else None, trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One more update, with the numbers that Lightning shows beside its bar."""
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in self.get_metrics(trainer, pl_module).items()}
        self._bar.set_postfix({"epoch": trainer.current_epoch, **shown}, refresh=False)
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close it."""
        self._bar.close()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar of a pass."""
        self._open(trainer, "scoring", int(sum(trainer.num_test_batches)), 0)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """One more batch."""
        self._bar.update()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close it."""
        self._bar.close()

    def _open(self, trainer: pl.Trainer, what: str, total: int | None, done: int) -> None:
        self._bar = Bar(
            desc=what, total=total, initial=done, unit="batch", smoothing=0, disable=not trainer.is_global_zero
        )
