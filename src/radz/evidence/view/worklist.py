"""What `radz view` shows: studies with their files, scores, labels and thresholds.

Names of sizes: N studies, C findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.decode import Recipe
from radz.models.labels import MODALITY_TEXT
from radz.report.figures import plain


@dataclass(frozen=True)
class File:
    """A picture, a CT volume, or the folder of a CT series."""

    path: Path
    name: str | None = None
    """what stands for it in error texts; None: the path"""
    rescale: tuple[float, float] | None = None
    """slope and intercept in place of a volume's own"""


@dataclass
class Listed:
    """A study of the worklist."""

    name: str
    corpus: str
    modality: str
    files: tuple[File, ...]
    report: str = ""
    error: str = ""
    """why it has no scores, or cannot be shown"""
    out_of_scope: str = ""
    """why it is not of what the run was trained on, where that was asked"""

    def reason(self, error: str) -> str:
        """What an error says beside the name of the study's file, which is known."""
        for file in self.files:
            error = error.removeprefix(f"{file.name or file.path}: ")
        return error


@dataclass
class Worklist:
    """All that the page is made of but pictures and maps."""

    title: str
    about: str
    """whose studies these are, in words"""
    scorer: str
    findings: tuple[str, ...]
    studies: list[Listed]
    recipe: Recipe
    """how the model sees files"""
    scores: NDArray[np.float32]
    """[N, C] in [0, 1], NaN where there is none (yet)"""
    labels: NDArray[np.float32] | None = None
    """[N, C], 1, 0 or NaN; None where nobody labelled"""
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """corpus -> finding -> of best F1 on validation"""
    seen: Mapping[str, str] = field(default_factory=dict)
    """finding -> `label`, `text` or `none`: what training knew of it"""
    settled: list[int] = field(default_factory=list)
    """studies whose scores or errors are final, in the order in which they became so"""

    def settle(self, number: int, error: str, scores: Any, out_of_scope: str = "") -> None:
        """Note what became of a study: why it has no scores, or its scores [C], and why it is out of scope."""
        self.studies[number].out_of_scope = out_of_scope
        self.studies[number].error = self.studies[number].reason(error)
        if not error:
            self.scores[number] = scores
        self.settled.append(number)

    def plain(self) -> dict[str, Any]:
        """For JSON: all but the scores, which may still come."""
        return {
            "title": self.title,
            "about": self.about,
            "scorer": self.scorer,
            "findings": [
                {"name": name, "text": plain(name), "seen": self.seen.get(name)} for name in self.findings
            ],
            "thresholds": {corpus: dict(of) for corpus, of in self.thresholds.items()},
            "studies": [
                {"name": study.name, "corpus": study.corpus, "modality": MODALITY_TEXT[study.modality]}
                for study in self.studies
            ],
            "reports": any(study.report for study in self.studies),
            "labels": None if self.labels is None else _cells(self.labels),
        }  # fmt: skip

    def with_words(self, words: Sequence[str]) -> list[int]:
        """The studies whose report holds all of these words or parts of them, in small letters."""
        reports = ((number, study.report.casefold()) for number, study in enumerate(self.studies) if study.report)
        return [number for number, report in reports if all(word in report for word in words)]

    def since(self, first: int) -> dict[str, Any]:
        """For JSON: the studies settled behind the first so many, with error or scores."""
        numbers = self.settled[first:]
        return {
            "studies": numbers,
            "errors": [self.studies[number].error for number in numbers],
            "out_of_scope": [self.studies[number].out_of_scope for number in numbers],
            "scores": _cells(self.scores[numbers]),
            "settled": first + len(numbers),
            "total": len(self.studies),
        }


def _cells(values: NDArray[np.float32]) -> list[list[float | None]]:
    """Nine digits give every float32 back; None for NaN."""
    return [[None if value != value else float(f"{value:.9g}") for value in row] for row in values.tolist()]
