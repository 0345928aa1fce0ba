"""Studies of a report to look at: the surest right and the surest wrong answers."""

from __future__ import annotations

import numpy as np
import pytest

from radz.runs.metrics_file import best_and_worst


@pytest.mark.parametrize(
    ("labels", "scores", "best", "worst"),
    [
        ([1, 0, 0, 0], [0.9, 0.2, 0.1, 0.3], [0, 2, 1], []),
        ([1, 0, 0, 0], [0.1, 0.2, 0.5, 0.3], [], [0, 2, 3]),
        ([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.1, 0.2, 0.3, 0.85], [0, 3], [2, 1, 5, 4]),
        ([1, 1, 0], [0.5, 0.5, 0.5], [], [0, 1, 2]),
        ([1, np.nan, 0], [0.9, 0.5, 0.1], [0, 2], []),
    ],
)
def test_none_is_both_and_worst_are_wrong(labels: list[float], scores: list[float], best: list, worst: list) -> None:
    found = best_and_worst(np.array(labels), np.array(scores), 2)
    assert (found["best"], found["worst"]) == (best, worst)
