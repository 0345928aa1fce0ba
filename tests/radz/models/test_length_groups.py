"""Groups of like length: no other split into as many groups has fewer padded tokens."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from radz.models.length_groups import like_lengths


def padded(lengths: list[int], groups: list[list[int]]) -> int:
    return sum(len(group) * max(lengths[i] for i in group) for group in groups)


def best(lengths: list[int], groups: int) -> int:
    """By trying all runs of the sorted lengths."""
    ordered, n = sorted(lengths), len(lengths)
    found = []
    for number in range(1, min(groups, n) + 1):
        for cuts in itertools.combinations(range(1, n), number - 1):
            edges = [0, *cuts, n]
            found.append(sum((b - a) * ordered[b - 1] for a, b in itertools.pairwise(edges)))
    return min(found)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 5))
def test_fewest_padded_tokens(lengths: list[int], groups: int) -> None:
    found = like_lengths(lengths, groups)
    assert sorted(i for group in found for i in group) == list(range(len(lengths)))
    assert len(found) <= groups and all(found)
    assert padded(lengths, found) == best(lengths, groups)


def test_many_texts_go_in_groups_of_limited_size_by_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 250, 1000).tolist()
    found = like_lengths(lengths, 4, most=64)
    assert 16 <= len(found) <= 48 and max(map(len, found)) <= 64
    flat = [lengths[i] for group in found for i in group]
    assert flat == sorted(lengths)
    assert padded(lengths, found) < 1.04 * sum(lengths)
    assert len(like_lengths(lengths[:64], 4, most=64)) == 4
