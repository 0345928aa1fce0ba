"""The headline scorer within subgroups of studies: sex, age band, view, and what else the corpora say of a study."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from radz.metrics.estimates import Estimates
from radz.metrics.score_table import ScoreTable

UNKNOWN = "unknown"
OLDEST = 120
"""years; more are a mistake (ChestX-ray14 holds ages such as 411Y)"""


def age_bands(ages: Sequence[str], limits: Sequence[int]) -> list[str]:
    """Ages as the corpora write them (`63`, `63.0`, DICOM's `063Y`, `004M`) as bands; impossible ones are unknown."""
    names = [f"below {limits[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(limits))]
    names.append(f"{limits[-1]} and above")
    bands = []
    for age in ages:
        parts = re.fullmatch(r"0*(\d{1,3})(?:\.\d+)?([YMWD]?)", age.strip())
        if parts is None:
            bands.append(UNKNOWN)
            continue
        years = int(parts[1]) // {"M": 12, "W": 52, "D": 365}.get(parts[2], 1)
        bands.append(names[int(np.searchsorted(limits, years, side="right"))] if years <= OLDEST else UNKNOWN)
    return bands


def groups_of(attributes: Mapping[str, Sequence[str]], limits: Sequence[int]) -> dict[str, list[str]]:
    """Attributes as written -> the subgroup of each row: bands of `age`, and a word for what is empty."""
    return {
        name: age_bands(values, limits) if name == "age" else [value.strip() or UNKNOWN for value in values]
        for name, values in attributes.items()
    }


def subgroups(
    table: ScoreTable, scorer: str, attributes: Mapping[str, Sequence[str]], primary: Sequence[str], least: int,
    replicates: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """AUROC per value of each attribute, with intervals from the resamples of the whole table.

    Args:
        attributes: name -> value of each row; attributes with one value only are left out.
        primary: findings of the macro, over those measured in the subgroup.
        least: a finding with fewer positives or fewer negatives in a subgroup gets a reason instead of numbers.

    Returns:
        attribute -> value -> {"rows", "patients", "macro": {"auroc"}, "findings": {name: {"auroc", "positives",
        "rows"}}, "small": {name: reason}}.
    """
    by_attribute: dict[str, Any] = {}
    for attribute, values in attributes.items():
        if len(set(values)) < 2:
            continue
        column = np.asarray(values, dtype=object)
        # By size, so that the page reads from the common to the rare; what is unknown stands last.
        order = sorted(set(values), key=lambda value: (value == UNKNOWN, -int((column == value).sum()), value))
        by_attribute[attribute] = {
            value: _one(table, scorer, column == value, primary, least, replicates, seed) for value in order
        }
    return by_attribute


def _one(
    table: ScoreTable, scorer: str, inside: np.ndarray, primary: Sequence[str], least: int, replicates: int, seed: int
) -> dict[str, Any]:
    # Rows outside stay, without a label: every subgroup then sees the resamples of the whole table.
    labels = np.where(inside[:, None], table.labels, np.nan)
    small: dict[str, str] = {}
    for number, name in enumerate(table.findings):
        positives, negatives = (int((labels[:, number] == label).sum()) for label in (1, 0))
        for count, kind in ((positives, "positive"), (negatives, "negative")):
            if count < least and name not in small:
                small[name] = f"{count} {kind}, fewer than {least}"
    labels[:, [table.findings.index(name) for name in small]] = np.nan
    part = replace(table, labels=labels, scores={scorer: table.scores[scorer]})
    measured = Estimates(part, {}, {}, replicates, seed)
    for (_, number), reason in measured.excluded.items():
        small.setdefault(table.findings[number], reason)
    findings = {}
    for cell in measured.cells:
        known = np.isfinite(labels[:, cell[1]])
        findings[table.findings[cell[1]]] = {
            "auroc": measured.macro([cell], "auroc"),
            "positives": int((labels[known, cell[1]] == 1).sum()),
            "rows": int(known.sum()),
        }
    return {
        "rows": int(inside.sum()),
        "patients": len({patient for patient, here in zip(table.patient, inside, strict=True) if here}),
        "macro": {"auroc": measured.macro(measured.of(scorer, primary), "auroc")},
        "findings": findings,
        "small": small,
    }
