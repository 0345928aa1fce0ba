"""A loss or gradient that is not finite stops every process before the weights change."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from data_modules.errors import InputError
from radz.distributed import gather_objects, total
from radz.training.callbacks.signals import Stopped

SHOWN = 8
"""Most studies of a batch that the message names."""


def stop_unless_finite(norm: Tensor, loss: Tensor, rows: Tensor, data: Any, step: int) -> None:
    """Raise on every process when the loss or the norm of the gradient is NaN or infinite on any of them.

    Args:
        norm, loss: scalars of this process.
        rows: int64 [B], table rows of its batch.
        data: the DataModule; its `named` gives what may stand in a log for a study. None: rows are not named.
        step: number of the update that is not made.

    Raises:
        InputError: names the step, the process whose loss is not finite and the studies of its batch, by salted hash.
    """
    fine = torch.isfinite(norm.detach().float()) & torch.isfinite(loss.detach().float())
    if not int(total((~fine).int())):
        return
    names = data.named(rows.tolist()) if data is not None else []
    own = {"loss": float(loss), "norm": float(norm), "studies": names}
    everyone = gather_objects(own)
    # Gradients are averaged over the processes, so that one bad loss shows in all of them.
    guilty = [i for i, one in enumerate(everyone) if not math.isfinite(one["loss"])] or list(range(len(everyone)))
    first = everyone[guilty[0]]
    shown = ", ".join(first["studies"][:SHOWN])
    others = f" and {len(first['studies']) - SHOWN} more" if len(first["studies"]) > SHOWN else ""
    raise InputError(
        f"training: loss {first['loss']:g} and gradient {first['norm']:g} at step {step}, process {guilty[0]} of "
        f"{len(everyone)}; no weight was changed. Batch: {shown}{others}. Look at these studies, lower the learning "
        "rate, or repeat the command to resume from the last checkpoint"
    )


class DivergenceAlert(Callback):
    """Tells W&B when training stops on a number that is not finite, or on any other fault."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Send the kind of fault; the text of an error stays on the machine, since it may name a row."""
        if isinstance(exception, KeyboardInterrupt | SystemExit | Stopped):
            return
        for one in trainer.loggers:
            if isinstance(one, WandbLogger) and trainer.is_global_zero:
                kind = "input or divergence" if isinstance(exception, InputError) else type(exception).__name__
                one.experiment.alert("Training stopped", f"{kind} at step {trainer.global_step}", level="ERROR")
                one.experiment.finish(exit_code=1)
