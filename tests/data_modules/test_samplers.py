from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data_modules.samplers import REPEAT, EvalSampler, RowDataset, TrainSampler, rank_and_world


def order(n: int, batch: int, seed: int, epoch: int, rank: int = 0, world: int = 1) -> list[int]:
    sampler = TrainSampler(RowDataset(range(n)), batch, seed, rank, world)
    sampler.set_epoch(epoch)
    positions = list(sampler)
    assert len(positions) == len(sampler)
    return positions


def test_order_depends_on_seed_and_epoch_only() -> None:
    first = order(50, 8, 1, 3)
    np.random.seed(7)
    torch.manual_seed(7)
    assert order(50, 8, 1, 3) == first
    assert order(50, 8, 1, 4) != first != order(50, 8, 2, 3)
    assert len(set(first)) == 48


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.fault(20)
def test_ranks_share_one_permutation_without_overlap(world: int) -> None:
    """The joint batch of all ranks holds the same studies as one process with the joint batch size."""
    alone = order(53, 4 * world, 0, 2)
    ranks = [order(53, 4, 0, 2, rank, world) for rank in range(world)]
    assert {len(r) for r in ranks} == {53 // (4 * world) * 4}
    for step in range(len(ranks[0]) // 4):
        joint = {i for r in ranks for i in r[4 * step : 4 * step + 4]}
        assert joint == set(alone[4 * world * step : 4 * world * (step + 1)])


@pytest.mark.fault(20)
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("skip", [0, 1, 4])
def test_the_loader_goes_on_anywhere_with_any_workers(world: int, workers: int, skip: int) -> None:
    """The batches of all ranks are those of one process with the joint batch; a resume leaves out the first `skip` of
    the first epoch only; what fills no batch of all ranks is left out."""
    rows = RowDataset(range(100, 153))
    whole = [[100 + i for i in order(53, 4 * world, 5, epoch)] for epoch in (2, 3)]
    for rank in range(world):
        sampler = TrainSampler(rows, 4, 5, rank, world)
        sampler.go_to(2, skip)
        loader = DataLoader(rows, 4, sampler=sampler, num_workers=workers, drop_last=True)
        for epoch, joint in zip((2, 3), whole, strict=True):
            sampler.set_epoch(epoch)
            found = [row for batch in loader for row in batch.tolist()]
            left_out = 4 * skip if epoch == 2 else 0
            assert found == joint[rank::world][left_out:] and len(joint) == 53 // (4 * world) * 4 * world
            assert len(loader) == 53 // (4 * world)


def test_the_same_batches_again_and_again() -> None:
    rows = RowDataset(range(53))
    sampler = TrainSampler(rows, 4, 0, batches=2)
    first = list(sampler)
    sampler.set_epoch(7)
    assert list(sampler) == first == order(53, 4, 0, 0)[:8] and len(sampler) == 8
    assert len(TrainSampler(rows, 4, 0, batches=99)) == 52


@pytest.mark.parametrize(("n", "world"), [(10, 1), (10, 3), (2, 4), (0, 2)])
def test_evaluation_sees_each_study_once(n: int, world: int) -> None:
    samplers = [EvalSampler(RowDataset(range(n)), rank, world) for rank in range(world)]
    seen = sorted(i for sampler in samplers for i in sampler)
    assert seen == list(range(n)) and sum(map(len, samplers)) == n


def test_a_row_dataset_gives_table_rows() -> None:
    rows = RowDataset([5, 9, 11])
    assert [rows[i] for i in range(len(rows))] == [5, 9, 11]
    assert rank_and_world() == (0, 1)


def test_ranks_may_be_made_even() -> None:
    """Every study at least once, the first one again where a rank lacks one; never for an empty split."""
    samplers = [EvalSampler(RowDataset(range(7)), rank, 4, even=True) for rank in range(4)]
    assert [list(one) for one in samplers] == [[0, 4], [1, 5], [2, 6], [3, 0]] and {len(one) for one in samplers} == {2}
    assert list(EvalSampler(RowDataset([]), 0, 2, even=True)) == []


def test_class_aware_epochs_draw_each_class_as_often(world: int = 2) -> None:
    """One study in 500 has the rare finding: it is drawn in a third of the steps. Ranks share one order, in
    which each place says how often its study was drawn before; a resume goes on in it; an empty class is no class."""
    rare, common = np.array([7]), np.arange(0, 500, 2)
    classes = [rare, common, np.array([], dtype=np.int64), np.arange(500)]

    def sampler(rank: int) -> TrainSampler:
        made = TrainSampler(RowDataset(range(500)), 4, 3, rank, world, classes=classes)
        made.set_epoch(1)
        return made

    ranks = [list(sampler(rank)) for rank in range(world)]
    assert [list(sampler(rank)) for rank in range(world)] == ranks
    places = [place for pair in zip(*ranks, strict=True) for place in pair]
    every = [place % REPEAT for place in places]
    assert [place // REPEAT for place in places] == [every[:n].count(one) for n, one in enumerate(every)]
    assert RowDataset(range(500, 1000))[7 + 3 * REPEAT] == 507 + 3 * REPEAT
    assert len(every) == 496 and 0.27 < every.count(7) / 496 < 0.40
    assert 0.60 < np.mean([position % 2 == 0 for position in every if position != 7]) < 0.90
    later = sampler(1)
    later.go_to(1, 10)
    assert list(later) == ranks[1][40:]
    other = sampler(0)
    other.set_epoch(2)
    assert list(other) != ranks[0]
