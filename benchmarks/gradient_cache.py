"""P14: what gradient caching costs beside the plain big batch, and how near its gradient is.

Both sides are radz's module with equal weights on the same batch. P3 (`train.larger`) measures what it saves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import common, shapes, sides
from benchmarks.common import Result
from benchmarks.shapes import Shape
from data_modules.batch import StudyBatch
from radz.methods.dfat import DFAT

PAIRS, CHUNKS, ROUNDS = 64, (16, 8), 3
BOUND = 1e-5
"""What the gradients may differ by (relative norm)."""


def run() -> Iterator[Result]:
    """P14 at the benchmarks' shape."""
    for chunk in CHUNKS:
        yield from compare(shapes.TINY, PAIRS, chunk, ROUNDS)


def compare(shape: Shape, pairs: int, chunk: int, rounds: int) -> Iterator[Result]:
    """Time of forward and backward of `pairs` in chunks of `chunk`, and the distance of the two gradients."""
    with tempfile.TemporaryDirectory() as name:
        folder, batch = shapes.write_folder(Path(name), shape), shapes.batch(pairs, shape)
        cached, plain = (_module(folder, size) for size in (chunk, 0))
        what = f"{pairs} pairs with gradient caching in chunks of {chunk}, without it"
        yield common.rates("P14", what, "pairs/s", pairs, _step(cached, batch), _step(plain, batch), rounds)
        found, expected = (_gradient(module, batch) for module in (cached, plain))
        apart = ((found - expected).norm() / expected.norm()).item()
        what = f"distance of the gradients of {pairs} pairs in chunks of {chunk} and at once (relative norm), and bound"
        # Equal to the last bit is still a finite ratio.
        yield common.of_costs("P14", what, "", [max(apart, 1e-12)], [BOUND])


def _module(folder: Path, size: int) -> DFAT:
    settings = sides.experiment(f"dfat.gradient_cache={size}")
    module = sides.module(sides.encoder(folder, settings), settings).train()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:  # zero at the start, which leaves lora_A without a gradient
            parameter.data = torch.randn(parameter.shape, generator=generator) / 20
    return module


def _step(module: DFAT, batch: StudyBatch) -> Callable[[], object]:
    def step() -> None:
        module.zero_grad(set_to_none=True)
        sides.loss(module, batch).backward()

    return step


def _gradient(module: DFAT, batch: StudyBatch) -> Tensor:
    """Of all trainable parameters, as one vector."""
    _step(module, batch)()
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
