"""Findings by how often the training split of their corpus has them: head, medium, tail, and those it never has.

As the CXR-LT challenges report them (Holste et al. 2024; Lin et al. 2025): the mean of average precision over all
findings, mAP, and over each group. The limits of the groups are `scoring.frequency_limits`.
"""

from __future__ import annotations

from collections.abc import Sequence

GROUPS = ("head", "medium", "tail", "unseen")


def group(share: float, limits: Sequence[float]) -> str:
    """The group of a finding with this share of the training rows, `limits` being those of head and of tail."""
    if share == 0:
        return "unseen"
    return "head" if share > limits[0] else "tail" if share < limits[1] else "medium"
