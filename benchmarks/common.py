"""How two ways of the same work are compared: alternating in one process, on the same input, ratio with its spread."""

from __future__ import annotations

import datetime
import itertools
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

ROUNDS = 7
CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Result:
    """One line of results.json; `ratio` above 1 means that radz is better."""

    id: str
    what: str
    unit: str
    radz: float
    reference: float
    ratio: float
    low: float
    high: float
    device: str
    threads: int
    date: str


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rates(
    name: str, what: str, unit: str, count: int, radz: Callable[[], object], reference: Callable[[], object],
    rounds: int = ROUNDS,
) -> Result:  # fmt: skip
    """Compare two ways to do `count` units of work.

    Both are run once to warm up, then `rounds` times in turn; see `of_times`.
    """
    radz(), reference()
    ours, theirs = zip(*[(seconds(radz), seconds(reference)) for _ in range(rounds)], strict=True)
    return of_times(name, what, unit, count, ours, theirs)


def of_times(
    name: str, what: str, unit: str, count: int, ours: Sequence[float], theirs: Sequence[float], device: str = ""
) -> Result:
    """Medians of the rates, and median, least and greatest of the ratios of neighbouring rounds [s]."""
    ratios = [slow / fast for fast, slow in zip(ours, theirs, strict=True)]
    return Result(
        name, what, unit, count / statistics.median(ours), count / statistics.median(theirs),
        statistics.median(ratios), min(ratios), max(ratios), device or processor(), torch.get_num_threads(),
        datetime.date.today().isoformat(),
    )  # fmt: skip


def of_costs(
    name: str, what: str, unit: str, ours: Sequence[float], theirs: Sequence[float], device: str = ""
) -> Result:
    """Like `of_times` for what should be small and is shown as it is: bytes, or seconds."""
    inverse = of_times(name, what, unit, 1, ours, theirs, device)
    return replace(inverse, radz=statistics.median(ours), reference=statistics.median(theirs))


def missing(name: str, what: str, unit: str, device: str) -> Result:
    """A line that says in `what` why there is no number."""
    return replace(of_times(name, what, unit, 1, [1.0], [1.0], device), radz=0.0, reference=0.0, ratio=0, low=0, high=0)


def processor() -> str:
    """The kind of processor, not which one: results are compared between machines of a kind."""
    return platform.processor() or platform.machine()


def resident() -> int:
    """Bytes of memory that this process holds now (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


class Allocations:
    """What tensors take between `start` and `stop`: torch's CPU allocator, watched by its profiler.

    As `torch.cuda.max_memory_allocated` on a GPU. The memory that the process holds would be another number: how much
    of what was freed the C library keeps depends on its settings more than on the work.
    """

    def start(self) -> None:
        """Begin at 0."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        self.profiler = torch.profiler.profile(activities=activities, profile_memory=True)
        self.profiler.start()

    def stop(self) -> int:
        """Largest sum of what was taken and given back since, in bytes."""
        self.profiler.stop()
        events = [one for one in self.profiler.profiler.kineto_results.events() if one.name() == "[memory]"]
        sums = itertools.accumulate(one.nbytes() for one in sorted(events, key=lambda one: one.start_ns()))
        return max(sums, default=0)


def in_fresh_process(module: str, *arguments: str) -> float:
    """The number that `python -m module arguments` prints last."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])
