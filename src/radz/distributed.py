"""Collectives with gradients, and the numbers every rank needs. All are the identity in one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, world size)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _all_gather(tensor: Tensor) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """All-gather along dim 0 whose backward sums the gradients of all ranks for this rank's slice."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = tensor.shape[0]
        return _all_gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        start = dist.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows]


def is_main_process() -> bool:
    """Whether this is rank 0, also before the process group exists (launchers set the rank in the environment)."""
    return getattr(rank_zero_only, "rank", 0) == 0


def own_device(accelerator: str) -> int | list[int]:
    """What a Trainer of one process takes as `devices`: where there are several GPUs, that of this local rank."""
    if accelerator == "cpu" or torch.cuda.device_count() < 2:
        return 1
    rank = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    return [int(rank) % torch.cuda.device_count()]


def gather(tensor: Tensor) -> Tensor:
    """[B, ...] of every rank as [W * B, ...], rank order, with gradients. Every rank must give the same B."""
    if world()[1] == 1:
        return tensor
    if tensor.requires_grad:
        return _Gather.apply(tensor)
    # gloo has no boolean all-gather on every version.
    return _all_gather(tensor.byte()).bool() if tensor.dtype == torch.bool else _all_gather(tensor)


def over_ranks(function: Callable[[Tensor], Tensor], rows: Tensor, least: int) -> Tensor:
    """`function` of rows [K, .., d], each alone, as [K, .., e]; from `least` rows on each rank computes its share.

    Values and gradients (of DDP, the mean over the ranks) are those of computing all rows on every rank.
    """
    rank, size = world()
    if size == 1 or len(rows) < least:
        return function(rows)
    each = -(-len(rows) // size)
    # Every rank gives as many: the last ones are filled up with a row whose result is dropped.
    padded = torch.cat([rows, rows[:1].expand(each * size - len(rows), *rows.shape[1:])])
    return gather(function(padded[rank * each : (rank + 1) * each]))[: len(rows)]


def total(value: Tensor) -> Tensor:
    """Sum over ranks, without gradient."""
    value = value.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(value)
    return value


def gather_objects(value: Any) -> list[Any]:
    """One Python object of every rank, in rank order; sizes may differ."""
    if world()[1] == 1:
        return [value]
    parts: list[Any] = [None] * world()[1]
    dist.all_gather_object(parts, value)
    return parts


def has_bf16(accelerator: str) -> bool:
    """Whether `trainer.accelerator` means a GPU here that computes bfloat16; CPUs do so slowly and in fewer bits."""
    return accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
