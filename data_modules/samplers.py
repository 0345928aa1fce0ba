"""Which studies a rank sees, and in which order: a function of (seed, epoch, rank, world) and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch.distributed
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset, DistributedSampler

REPEAT = 1 << 32
"""added to a position, and to the row that stands there, for each time that the epoch has drawn it before"""


class RowDataset(Dataset[int]):
    """The rows of a split; an item is the row number itself, the batch is made by the collator."""

    def __init__(self, rows: ArrayLike) -> None:
        self.rows = np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> int:
        repeats, place = divmod(position, REPEAT)
        return int(self.rows[place]) + repeats * REPEAT


class TrainSampler(DistributedSampler[int]):
    """Shared permutation of (seed, epoch), cut to a multiple of world x batch; rank r takes positions r, r + world, ..

    A DistributedSampler by type, so that a Trainer neither replaces nor wraps it. Its length is that of a whole epoch,
    also where `go_to` leaves out the beginning.

    Args:
        batches: if not 0, every epoch is the first so many batches of epoch 0.
        classes: if given, positions of the studies of each class: an epoch draws as many studies, each of a class drawn
            first (class-aware sampling: Shen et al., ECCV 2016, arXiv 1512.05830). A position has a REPEAT for each
            time that the epoch, of all ranks, has drawn it before.
    """

    def __init__(
        self, dataset: RowDataset, batch_size: int, seed: int, rank: int = 0, world: int = 1, batches: int = 0,
        classes: Sequence[NDArray[np.int64]] = (),
    ) -> None:  # fmt: skip
        super().__init__(dataset, num_replicas=world, rank=rank, shuffle=True, seed=seed, drop_last=True)
        joint = world * batch_size
        self.kept = min(len(dataset) // joint, batches or len(dataset)) * joint
        self.fixed, self.batch_size, self.start = batches > 0, batch_size, 0
        self.classes = [one for one in classes if len(one)]

    def go_to(self, epoch: int, batch: int) -> None:
        """Begin the next pass, and that one only, at a batch of an epoch: what a resumed run has seen is left out."""
        self.set_epoch(epoch)
        self.start = batch * self.batch_size

    def __len__(self) -> int:
        return self.kept // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        epoch = 0 if self.fixed else self.epoch
        generator, count = np.random.default_rng([self.seed, epoch]), len(self.dataset)  # type: ignore[arg-type]
        if self.classes:
            drawn = generator.integers(len(self.classes), size=count)
            order = np.array([generator.choice(self.classes[number]) for number in drawn], dtype=np.int64)
            order += REPEAT * pd.Series(order).groupby(order).cumcount().to_numpy()
        else:
            order = generator.permutation(count)
        start, self.start = self.start, 0
        return iter(order[: self.kept][self.rank :: self.num_replicas].tolist()[start:])


def expected_draws(count: int, classes: Sequence[NDArray[np.int64]] = ()) -> NDArray[np.float64]:
    """How often a whole epoch of `TrainSampler` draws each of `count` studies, in the mean: [count], they sum to it."""
    drawn = [one for one in classes if len(one)]
    draws = np.zeros(count) if drawn else np.ones(count)
    for one in drawn:
        draws[one] += count / (len(drawn) * len(one))
    return draws


class EvalSampler(DistributedSampler[int]):
    """Rank r takes positions r, r + world, .. in table order: each study exactly once, no padding.

    Args:
        even: ranks that lack one study more take the first one again, for strategies that need equally many batches.
    """

    def __init__(self, dataset: RowDataset, rank: int = 0, world: int = 1, even: bool = False) -> None:
        super().__init__(dataset, num_replicas=world, rank=rank, shuffle=False)
        self.positions = list(range(rank, len(dataset), world))
        if even and len(dataset) and len(self.positions) < -(-len(dataset) // world):
            self.positions.append(0)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)


def rank_and_world() -> tuple[int, int]:
    """Return this process' rank and the number of processes; (0, 1) without torch.distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
