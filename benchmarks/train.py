"""P1 to P3: pairs per second and memory of a training step, beside the reference.

radz is measured inside its Trainer, from the start of a batch to its end; after each of its steps, the reference takes
one on the same batch. Memory is that of tensors in a second step, beyond model and optimiser, in a process of its own.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from benchmarks import common, shapes, sides
from benchmarks.common import Result
from benchmarks.reference import train_step

PAIRS, STEPS, LARGER, CHUNK = 16, 6, 8, 8
"""Pairs of a batch; steps, of which the first warms up; times that gradient caching enlarges the batch; its chunks."""
RADZ: dict[str, dict[str, Any]] = {"radz": {}, "radz-checkpointing": {"gradient_checkpointing": True}}
CACHING: dict[str, Any] = {"gradient_checkpointing": True}
"""What keeps a chunk small goes with gradient caching."""
REFERENCE = {"reference": False, "reference-checkpointing": True}


class Clock(Callback):
    """Times the Trainer's steps, and after each of them the steps of others on the same batch."""

    def __init__(self, others: dict[str, Callable[[], object]]) -> None:
        self.others = others
        self.times: dict[str, list[float]] = {name: [] for name in ("radz", *others)}

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop it, and give the others their turn."""
        self.times["radz"].append(time.perf_counter() - self.start)
        for name, step in self.others.items():
            self.times[name].append(common.seconds(step))

    def rounds(self, name: str) -> list[float]:
        """Seconds of each step but the first."""
        return self.times[name][1:]


def fit(module: pl.LightningModule, batch: Any, steps: int, *callbacks: Callback) -> None:
    """Train `steps` steps on one batch, on the CPU."""
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_steps=steps, logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks), use_distributed_sampler=False,
    )  # fmt: skip
    # One item a batch; a list of batches as data set leaves the batch as it is.
    trainer.fit(module, DataLoader([batch] * steps, batch_size=None))


def speed() -> Iterator[Result]:
    """P1."""
    with tempfile.TemporaryDirectory() as name:
        folder = shapes.write_folder(Path(name), shapes.TINY)
        batch = shapes.batch(PAIRS, shapes.TINY)
        words = [len(text.split()) for text in batch.reports]
        lengths = f"reports of {min(words)} to {max(words)} words, mean {statistics.mean(words):.0f}"
        for variant, against in (("radz", list(REFERENCE)), ("radz-checkpointing", ["reference-checkpointing"])):
            clock = _alternate(folder, batch, variant, against)
            for other in against:
                what = f"training step of {PAIRS} pairs, {_words(variant)}, {_words(other)}, {lengths}"
                yield common.of_times("P1", what, "pairs/s", PAIRS, clock.rounds("radz"), clock.rounds(other))


def _alternate(folder: Path, batch: Any, variant: str, against: list[str]) -> Clock:
    settings = sides.experiment()
    encoder = sides.encoder(folder, settings, **RADZ[variant])
    module = sides.module(encoder, settings)
    inputs = sides.Inputs.of(batch, module).plain()
    steps: dict[str, Callable[[], object]] = {}
    for other in against:
        plain = sides.reference(folder, settings.dfat, checkpointing=REFERENCE[other]).train()
        steps[other] = _step(plain, inputs)
    clock = Clock(steps)
    fit(module, batch, STEPS, clock)
    return clock


def _step(plain: Any, inputs: tuple[Any, ...]) -> Callable[[], object]:
    optimizer = plain.optimizer()
    return lambda: train_step(plain, optimizer, *inputs)


def _words(variant: str) -> str:
    side, _, how = variant.partition("-")
    return f"{side} {'with' if how else 'without'} checkpointing"


def memory() -> Iterator[Result]:
    """P2."""
    with tempfile.TemporaryDirectory() as name:
        shapes.write_folder(Path(name), shapes.TINY)
        peaks = {one: _peak(name, one, PAIRS) for one in (*RADZ, *REFERENCE)}
    pairs = [("radz", other) for other in REFERENCE] + [("radz-checkpointing", "reference-checkpointing")]
    for ours, theirs in pairs:
        what = f"memory of a training step of {PAIRS} pairs, {_words(ours)}, {_words(theirs)}"
        yield common.of_costs("P2", what, "MB", [peaks[ours]], [peaks[theirs]])


def larger() -> Iterator[Result]:
    """P3: with caching and checkpointing, a batch LARGER times as big beside the reference with checkpointing."""
    with tempfile.TemporaryDirectory() as name:
        shapes.write_folder(Path(name), shapes.TINY)
        ours = _peak(name, "radz-caching", LARGER * PAIRS)
        theirs = _peak(name, "reference-checkpointing", PAIRS)
    ways = f"in chunks of {CHUNK} with checkpointing, reference with checkpointing at {PAIRS}"
    what = f"memory of {LARGER * PAIRS} pairs {ways}"
    yield common.of_costs("P3", what, "MB", [ours], [theirs])


def _peak(folder: str, variant: str, pairs: int) -> float:
    threads = str(torch.get_num_threads())
    return common.in_fresh_process("benchmarks.train", folder, variant, str(pairs), threads)


class Watch(Callback):
    """Memory of the tensors of the second step."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Watch from here."""
        if batch_idx == 1:
            self.allocations = common.Allocations()
            self.allocations.start()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """To here."""
        if batch_idx == 1:
            self.peak = self.allocations.stop()


def measure(folder: Path, variant: str, pairs: int) -> float:
    """MB that a step needs beyond model and optimiser, which the step before has made."""
    caching = variant == "radz-caching"
    settings = sides.experiment(*([f"dfat.gradient_cache={CHUNK}"] if caching else []))
    batch = shapes.batch(pairs, shapes.TINY)
    module = sides.module(sides.encoder(folder, settings, **(CACHING if caching else RADZ.get(variant, {}))), settings)
    if variant not in REFERENCE:
        watch = Watch()
        fit(module, batch, 2, watch)
        return watch.peak / 1e6
    inputs = sides.Inputs.of(batch, module).plain()
    step = _step(sides.reference(folder, settings.dfat, checkpointing=REFERENCE[variant]).train(), inputs)
    step()
    allocations = common.Allocations()
    allocations.start()
    step()
    return allocations.stop() / 1e6


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    sys.stdout.write(f"{measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))}\n")
