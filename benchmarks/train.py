"""P1 to P3 and P16 to P18: pairs per second and memory of a training step, beside the references.

radz is measured inside its Trainer, from the start of a batch to its end; after each of its steps, every reference
takes one on the same batch. Memory is that of tensors in a second step, beyond model and optimiser, in a process of its
own.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from benchmarks import common, sentence, shapes, sides
from benchmarks.common import Result
from benchmarks.reference import train_step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """What is measured at: a key of `shapes.SHAPES`, pairs of a batch, and steps, of which the first warms up."""

    shape: str
    pairs: int
    steps: int


TINY, SMOLLM2 = Case("tiny", 16, 6), Case("smollm2", 8, 4)
LARGER, CHUNK, FEW = 8, 8, 4
"""Times that gradient caching enlarges the batch of P3; pairs of a chunk there, and beside sentence-transformers."""
RADZ: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "radz": ("radz without checkpointing", {}, []),
    "radz-checkpointing": ("radz with checkpointing", {"gradient_checkpointing": True}, []),
    "radz-caching": ("radz", {"gradient_checkpointing": True}, [f"dfat.gradient_cache={CHUNK}"]),
    "radz-chunks": (f"radz in chunks of {FEW}", {}, [f"dfat.gradient_cache={FEW}"]),
}
"""Words, settings of the backbone and overrides of radz's ways; what keeps a chunk small goes with gradient caching."""
REFERENCE = {"reference": False, "reference-checkpointing": True}
WORDS = {
    **{name: words for name, (words, _, _) in RADZ.items()},
    "reference": "reference without checkpointing",
    "reference-checkpointing": "reference with checkpointing",
    "sentence": f"sentence-transformers with {sentence.LOSSES['sentence']}",
    "sentence-cached": f"sentence-transformers with {sentence.LOSSES['sentence-cached']} in chunks of {FEW}",
}
Contests = Mapping[str, Sequence[str]]
"""way of radz -> what it is measured beside"""
PLAIN: Contests = {"radz": list(REFERENCE), "radz-checkpointing": ["reference-checkpointing"]}
SENTENCE: Contests = {"radz": ["sentence", "sentence-cached"], "radz-chunks": ["sentence-cached"]}


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


def fit(module: pl.LightningModule, batch: Any, steps: int, *callbacks: Callback, **settings: Any) -> None:
    """Train `steps` steps on one batch, on the CPU unless `settings` of the Trainer say otherwise."""
    trainer = pl.Trainer(
        **{"accelerator": "cpu", **settings}, devices=1, max_steps=steps, logger=False, enable_checkpointing=False,
        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
        use_distributed_sampler=False,
    )  # fmt: skip
    # One item a batch; a list of batches as data set leaves the batch as it is.
    trainer.fit(module, DataLoader([batch] * steps, batch_size=None))


def speed(name: str = "P1", case: Case = TINY, contests: Contests = PLAIN) -> Iterator[Result]:
    """Pairs per second of the ways in `contests`."""
    shape = shapes.SHAPES[case.shape]
    with tempfile.TemporaryDirectory() as place:
        folder, batch = shapes.write_folder(Path(place), shape), shapes.batch(case.pairs, shape)
        words = [len(text.split()) for text in batch.reports]
        lengths = f"reports of {min(words)} to {max(words)} words, mean {statistics.mean(words):.0f}"
        for ours, against in contests.items():
            module = _module(folder, ours)
            clock = Clock({other: _step(folder, other, module, batch) for other in against})
            fit(module, batch, case.steps, clock)
            for other in against:
                what = f"training step of {_pairs(case)}, {WORDS[ours]}, {WORDS[other]}, {lengths}"
                yield common.of_times(name, what, "pairs/s", case.pairs, clock.rounds("radz"), clock.rounds(other))


def memory(name: str = "P2", case: Case = TINY, contests: Contests = PLAIN) -> Iterator[Result]:
    """Memory of a step of the ways in `contests`."""
    with tempfile.TemporaryDirectory() as place:
        shapes.write_folder(Path(place), shapes.SHAPES[case.shape])
        ways = dict.fromkeys([*contests, *(other for against in contests.values() for other in against)])
        peaks = {way: _peak(place, way, case) for way in ways}
    for ours, against in contests.items():
        for other in against:
            what = f"memory of a training step of {_pairs(case)}, {WORDS[ours]}, {WORDS[other]}"
            yield common.of_costs(name, what, "MB", [peaks[ours]], [peaks[other]])


def beside_sentence_transformers(case: Case = SMOLLM2) -> Iterator[Result]:
    """P18: speed and memory; nothing where the package is missing, which a line says."""
    if not sentence.is_there():
        log.warning("P18: %s", sentence.MISSING)
        return
    yield from speed("P18", case, SENTENCE)
    yield from memory("P18", case, SENTENCE)


def larger() -> Iterator[Result]:
    """P3: with caching and checkpointing, a batch LARGER times as big beside the reference with checkpointing."""
    with tempfile.TemporaryDirectory() as place:
        shapes.write_folder(Path(place), shapes.TINY)
        many = LARGER * TINY.pairs
        ours = _peak(place, "radz-caching", Case("tiny", many, 2))
        theirs = _peak(place, "reference-checkpointing", TINY)
    ways = f"in chunks of {CHUNK} with checkpointing, reference with checkpointing at {TINY.pairs}"
    yield common.of_costs("P3", f"memory of {many} pairs {ways}", "MB", [ours], [theirs])


def _pairs(case: Case) -> str:
    return f"{case.pairs} pairs" + (" at SmolLM2's shape" if case.shape == "smollm2" else "")


def _module(folder: Path, way: str) -> Any:
    _, backbone, overrides = RADZ[way]
    settings = sides.experiment(*overrides)
    return sides.module(sides.encoder(folder, settings, **backbone), settings)


def _step(folder: Path, way: str, module: Any, batch: Any) -> Callable[[], object]:
    """The step of a reference, with anchors and labels as `module` sees them."""
    given = sides.Inputs.of(batch, module)
    if way in sentence.LOSSES:
        return sentence.step(folder, batch, given.instruction, way, FEW)
    plain = sides.reference(folder, sides.experiment().dfat, checkpointing=REFERENCE[way]).train()
    arguments, optimizer = given.plain(), plain.optimizer()
    return lambda: train_step(plain, optimizer, *arguments)


def _peak(folder: str, way: str, case: Case) -> float:
    threads = str(torch.get_num_threads())
    return common.in_fresh_process("benchmarks.train", folder, way, case.shape, str(case.pairs), threads)


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


def measure(folder: Path, way: str, shape: str, pairs: int) -> float:
    """MB that a step needs beyond model and optimiser, which the step before has made."""
    batch = shapes.batch(pairs, shapes.SHAPES[shape])
    module = _module(folder, way if way in RADZ else "radz")
    if way in RADZ:
        watch = Watch()
        fit(module, batch, 2, watch)
        return watch.peak / 1e6
    step = _step(folder, way, module, batch)
    step()
    allocations = common.Allocations()
    allocations.start()
    step()
    return allocations.stop() / 1e6


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[5]))
    sys.stdout.write(f"{measure(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))}\n")
