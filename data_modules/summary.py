"""What a person is told of the data before a run: tables and sentences, no Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.corpus_config import LabelPolicy
from data_modules.study import Coverage

_UNCERTAIN = {
    "ignore": "uncertain labels are ignored",
    "absent": "uncertain labels count as absent",
    "present": "uncertain labels count as present",
    "per_finding": "uncertain labels count by finding",
}


def counts_table(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """{corpus: {split: {studies, patients, images}}} as a table, a line for each corpus and split."""
    lines = {f"{corpus}/{split}": found for corpus, splits in counts.items() for split, found in splits.items()}
    return pd.DataFrame.from_dict(lines, orient="index").to_string()


def coverage_lines(coverage: Coverage) -> list[str]:
    """What was left out, kept in spite of a fault, or removed by a filter, a sentence for each reason."""
    found: dict[str, Any] = coverage.to_dict()
    said = [
        f"{count} row(s) {what}: {reason}"
        for part, what in (("skipped", "left out"), ("counted", "kept all the same"), ("filtered", "filtered out"))
        for reason, count in found[part].items()
    ]
    return said or ["no row was left out or filtered"]


def frequencies(labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share [C] of the rows in which each finding is present, of labels [N, C] (1, 0, NaN = unknown).

    An unknown label counts as not present, as a blank does in the tables of the CXR-LT challenges.
    """
    return (labels == 1).sum(axis=0) / max(1, len(labels))


def policy_sentence(policy: LabelPolicy) -> str:
    """How labels that are neither present nor absent count."""
    own = ", ".join(f"{finding} as {word}" for finding, word in policy.per_finding.items())
    unmentioned = policy.unmentioned
    return (
        f"{_UNCERTAIN[policy.uncertain]}{f' ({own}, else ignored)' if own else ''}; unmentioned findings count as "
        f"{unmentioned.loss} in training and as {unmentioned.metrics} in scores"
    )
