"""Which texts are encoded together: groups of like length, so that few tokens are padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def like_lengths(lengths: Sequence[int], groups: int, most: int | None = None) -> list[list[int]]:
    """Positions of texts in at most `groups` groups whose padded tokens are fewest.

    Args:
        lengths: N token counts.
        groups: how many groups at most; each costs the launch of a decoder call.
        most: texts of a group at most; more texts make more groups, about twice as many as that alone would need.

    The best groups are runs of the texts sorted by length; which ones is a shortest path over the distinct lengths
    (dynamic programming, O(groups * L^2) for L of them).
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    if most is not None:
        groups = max(groups, 2 * -(-len(order) // most))
    values, ends = np.unique(np.asarray(lengths)[order], return_index=True)
    ends = np.append(ends[1:], len(order))  # texts no longer than each value
    cost = values * ends.astype(np.int64)  # of one group up to each value
    cuts: list[np.ndarray] = []
    for _ in range(min(groups, len(values)) - 1):
        # [j, i]: one group less up to value j, then a group of the texts between j and i.
        both = np.where(np.tri(len(values), k=-1).T > 0, cost[:, None] + values * (ends - ends[:, None]), cost[None])
        cuts.append(np.where(both.min(0) < cost, both.argmin(0), -1))
        cost = np.minimum(both.min(0), cost)
    runs, at = [], len(values) - 1
    for cut in reversed(cuts):
        if cut[at] >= 0:
            runs.append(order[ends[cut[at]] : ends[at]].tolist())
            at = cut[at]
    runs.append(order[: ends[at]].tolist())
    size = most or len(order)
    return [group[start : start + size] for group in reversed(runs) for start in range(0, len(group), size)]
