"""P15: size of a checkpoint, and the time to write and to read it, beside a Trainer that saves the whole model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from benchmarks import common, shapes, sides
from benchmarks.common import Result
from benchmarks.reference import Reference
from benchmarks.train import fit
from radz.training import checkpoint_io

ROUNDS = 5


class Plain(pl.LightningModule):
    """The reference in a LightningModule without any hook: Lightning saves all that it holds."""

    def __init__(self, model: Reference) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """One loss that reaches every trained weight."""
        return sum(p.square().sum() for p in self.model.parameters() if p.requires_grad)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over what trains."""
        return self.model.optimizer()


class Save(Callback):
    """Writes the checkpoint once to warm up and then ROUNDS times, after the last step."""

    def __init__(self, path: Path) -> None:
        self.path, self.times = path, []  # type: ignore[var-annotated]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure."""
        trainer.save_checkpoint(self.path)
        self.times = [common.seconds(lambda: trainer.save_checkpoint(self.path)) for _ in range(ROUNDS)]


def run() -> Iterator[Result]:
    """Of the tiny model with LoRA of rank 16 (its frozen part would be 14 GB in a 7B model)."""
    with tempfile.TemporaryDirectory() as name:
        folder = shapes.write_folder(Path(name) / "model", shapes.TINY)
        settings = sides.experiment()
        module = sides.module(sides.encoder(folder, settings), settings)
        plain = Plain(sides.reference(folder, settings.dfat).train())
        savers = [Save(Path(name) / "radz.ckpt"), Save(Path(name) / "plain.ckpt")]
        for one, saver in zip((module, plain), savers, strict=True):
            fit(one, shapes.batch(2, shapes.TINY), 1, saver)
        sizes = [[saver.path.stat().st_size / 1e6] for saver in savers]
        yield common.of_costs("P15", "size of a checkpoint against the whole model", "MB", *sizes)
        written = [[1e3 * t for t in saver.times] for saver in savers]
        yield common.of_costs("P15", "writing a checkpoint against the whole model", "ms", *written)

        def whole() -> None:
            content = torch.load(savers[1].path, map_location="cpu", weights_only=True)
            plain.load_state_dict(content["state_dict"])

        times: tuple[list[float], list[float]] = [], []
        for _ in range(ROUNDS + 1):
            times[0].append(1e3 * common.seconds(lambda: checkpoint_io.load_weights(module, savers[0].path)))
            times[1].append(1e3 * common.seconds(whole))
        yield common.of_costs("P15", "reading a checkpoint against the whole model", "ms", times[0][1:], times[1][1:])
