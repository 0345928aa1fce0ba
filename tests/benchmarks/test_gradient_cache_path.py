"""P14 measures both ways of one step, and finds their gradients equal."""

from __future__ import annotations

from benchmarks import gradient_cache
from benchmarks.run import BENCHMARKS
from benchmarks.shapes import SMALL


def test_time_and_distance_are_measured() -> None:
    speed, distance = gradient_cache.compare(SMALL, pairs=6, chunk=2, rounds=1)
    assert {"P3", "P14"} <= set(BENCHMARKS) and speed.id == distance.id == "P14"
    assert speed.ratio > 0 and "6 pairs with gradient caching in chunks of 2" in speed.what
    assert 1e-12 < distance.radz < gradient_cache.BOUND and distance.ratio > 1
