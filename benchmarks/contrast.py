"""P13: what the losses cost as the batch, the anchors and the processes grow, beside a plain CLIP loss.

The CLIP loss is written as in OpenCLIP with `--local-loss --gather-with-grad` (own rows against the features of all
ranks); the category loss stands beside a plain cross-entropy over the anchors.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from benchmarks import common
from benchmarks.common import Result
from radz.models.losses import category, info_nce, positive_pairs

BATCHES, BANKS, WORLDS = (256, 1024, 4096), (14, 1000, 10000), (1, 2, 4)
WIDTH, PER_RANK, ROUNDS = 256, 512, 5


def run() -> Iterator[Result]:
    """Forward and backward; exponents are those between the first and the last size."""
    yield from _grown("batch", BATCHES, _of_batch)
    yield from _grown("anchors of 256 studies", BANKS, _of_bank)
    for world in WORLDS:
        ours, theirs = _processes(world)
        what = f"InfoNCE of {PER_RANK} pairs on each of {world} process(es) against CLIP loss"
        yield common.of_times("P13", what, "pairs/s", world * PER_RANK, ours, theirs)


def _grown(word: str, sizes: tuple[int, ...], make: Callable[[int], tuple[Any, Any]]) -> Iterator[Result]:
    rows = []
    for size in sizes:
        ours, theirs = make(size)
        kind = "category loss against cross-entropy" if make is _of_bank else "InfoNCE against CLIP loss"
        rows.append(common.rates("P13", f"{kind}, {word} {size}", "steps/s", 1, ours, theirs, ROUNDS))
    growth = math.log(rows[0].radz / rows[-1].radz, sizes[-1] / sizes[0])
    for row in rows:
        yield replace(row, what=f"{row.what} (time grows as size^{growth:.2f})")


def _features(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def _of_batch(size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    image, text = _features(size, 0), _features(size, 1)
    digest, usable = torch.arange(size), torch.ones(size, dtype=torch.bool)
    return (
        lambda: info_nce(image, text, positive_pairs(digest, digest, "same_text"), usable, 0.05).backward(),
        lambda: clip_loss(image, text).backward(),
    )


def _of_bank(size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    image, anchors = _features(256, 0), _features(size, 1)
    generator = torch.Generator().manual_seed(2)
    labels = torch.zeros(256, size)
    labels[torch.arange(256), torch.randint(size, (256,), generator=generator)] = 1
    labels[torch.rand(256, size, generator=generator) < 0.2] = float("nan")
    usable, target = torch.ones(256, dtype=torch.bool), torch.randint(size, (256,), generator=generator)
    return (
        lambda: category(image, anchors, labels, usable, temperature=0.05)[0].backward(),
        lambda: F.cross_entropy(F.normalize(image) @ F.normalize(anchors).T / 0.05, target).backward(),
    )


def clip_loss(image: Tensor, text: Tensor, scale: float = 20.0) -> Tensor:
    """Plain symmetric cross-entropy with the features of all ranks as columns."""
    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    every_image, every_text, first = image, text, 0
    if dist.is_initialized() and dist.get_world_size() > 1:
        every_image = torch.cat(torch.distributed.nn.all_gather(image))
        every_text = torch.cat(torch.distributed.nn.all_gather(text))
        first = dist.get_rank() * len(image)
    target = torch.arange(len(image)) + first
    of_image = F.cross_entropy(scale * image @ every_text.T, target)
    return (of_image + F.cross_entropy(scale * text @ every_image.T, target)) / 2


def _processes(world: int) -> tuple[list[float], list[float]]:
    """Seconds of rank 0 for each round of both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue: Any = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_rank, (world, port, queue), nprocs=world)
    ours, theirs = queue.get()
    return ours, theirs


def _rank(rank: int, world: int, port: int, queue: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    ours, theirs = _of_batch(PER_RANK)
    times: tuple[list[float], list[float]] = [], []
    for _ in range(ROUNDS + 1):
        for found, work in zip(times, (ours, theirs), strict=True):
            dist.barrier()
            found.append(common.seconds(work))
    if rank == 0:
        queue.put((times[0][1:], times[1][1:]))
    dist.barrier()
    dist.destroy_process_group()
