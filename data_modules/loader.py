"""The DataLoader of studies: its processes begin as all others do, and their faults read as those of this one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

from torch.utils.data import DataLoader

from data_modules.errors import InputError
from data_modules.workers import WorkerDied, begin, starting


class Loader(DataLoader[int]):
    """Raises InputError in its own words also where a worker met it, and WorkerDied when one is gone."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings["worker_init_fn"] = _begin
        super().__init__(*args, **settings)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if not self.num_workers:
            return super().__iter__()
        resource_tracker.ensure_running()  # its start would let signals through
        with starting():
            batches = super().__iter__()
        return _plain(batches)


def _begin(worker: int) -> None:
    begin()
    # What ends all of a job's group is for the first process alone: it finishes its step, for which it needs the data.
    os.setpgid(0, 0)


def _plain(batches: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from batches
    except InputError as error:
        # torch puts the whole traceback of the worker into the text
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from None
    except (ConnectionError, EOFError) as error:  # killed between the two halves of an answer
        raise WorkerDied("a worker that loads studies is gone; repeat the command") from error
