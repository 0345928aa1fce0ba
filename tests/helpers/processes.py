"""Work in other processes: several of one gloo group, or one whose end is looked at."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_processes(work: Callable[..., None], world: int, *arguments: Any) -> None:
    """`work(rank, world, *arguments)` in each of `world` processes."""
    mp.start_processes(_member, (work, world, free_port(), arguments), nprocs=world, start_method="fork")


def _member(rank: int, work: Callable[..., None], world: int, port: int, arguments: tuple[Any, ...]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    work(rank, world, *arguments)  # a DDP wrapper that outlives its process group hangs now and then when it is freed
    dist.barrier()
    dist.destroy_process_group()


def forked(work: Callable[[], int], told: Path) -> tuple[int, str]:
    """Exit code of `work` in a process of its own, and its stderr, which goes to the file `told`."""
    child = os.fork()
    if not child:
        code = 99
        try:
            os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            code = work()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told.read_text()
