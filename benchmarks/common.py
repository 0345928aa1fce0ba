"""How two ways of the same work are compared: alternating in one process, on the same input, ratio with its spread."""

from __future__ import annotations

import datetime
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

ROUNDS = 7


@dataclass(frozen=True)
class Result:
    """One line of results.json (contract.md); `ratio` above 1 means that radz is better."""

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
    name: str, what: str, unit: str, count: int, radz: Callable[[], object], reference: Callable[[], object]
) -> Result:
    """Compare two ways to do `count` units of work.

    Both are run once to warm up, then ROUNDS times in turn; medians of the rates, and median, least and greatest of the
    ratios of neighbouring rounds.
    """
    radz(), reference()
    ours, theirs = zip(*[(seconds(radz), seconds(reference)) for _ in range(ROUNDS)], strict=True)
    ratios = [slow / fast for fast, slow in zip(ours, theirs, strict=True)]
    return Result(
        name, what, unit, count / statistics.median(ours), count / statistics.median(theirs),
        statistics.median(ratios), min(ratios), max(ratios), platform.processor() or platform.machine(),
        torch.get_num_threads(), datetime.date.today().isoformat(),
    )  # fmt: skip
