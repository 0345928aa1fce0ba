"""Tables of scores and labels as other programs write them, small, and what `radz score` makes of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radz.cli.command_line import main

EXACT = 1e-12
FINDINGS = ("edema", "pleural_effusion", "mass")


@dataclass
class Given:
    """Scores and labels of N studies, two of a patient, in memory and as files below `folder`."""

    folder: Path
    study: list[str]
    patient: list[str]
    labels: np.ndarray
    """[N, 3]"""
    scores: np.ndarray
    """[N, 3], logits"""

    def label_rows(self) -> list[list[Any]]:
        header = ["study_id", "patient_id", "sex", *FINDINGS]
        sexes = ["F" if number % 3 else "M" for number in range(len(self.study))]
        columns = zip(self.study, self.patient, sexes, self.labels.tolist(), strict=True)
        return [header, *([study, who, sex, *map(int, own)] for study, who, sex, own in columns)]

    def score_rows(self) -> list[list[Any]]:
        return [["study_id", *FINDINGS], *([s, *own] for s, own in zip(self.study, self.scores.tolist(), strict=True))]

    def write(self, name: str, rows: Iterable[Sequence[Any]]) -> Path:
        path = self.folder / name
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        return path


def make(folder: Path, count: int = 80, seed: int = 0, first: int = 0) -> Given:
    """Draw `count` studies from number `first` on and write labels.csv and scores.csv."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 3)) < 0.4).astype(float)
    numbers = range(first, first + count)
    given = Given(
        folder, [f"STUDY{n:04d}" for n in numbers], [f"PATIENT{n // 2:04d}" for n in numbers], labels,
        labels + 1.2 * rng.normal(size=labels.shape),
    )  # fmt: skip
    given.write("labels.csv", given.label_rows())
    given.write("scores.csv", given.score_rows())
    return given


def score(out: Path, scores: Path, *keys: str) -> dict[str, Any]:
    """metrics.json of `radz score`."""
    cache = f"cache_dir={out.parent / 'cache'}"
    assert main(["score", str(scores), f"out={out}", "replicates=100", cache, *keys]) == 0
    return json.loads((out / "metrics.json").read_text())


def scored(tables: Given, *keys: str, labels: str = "labels.csv", out: str = "out") -> dict[str, Any]:
    """The one result of a table and its labels."""
    folder = tables.folder
    metrics = score(folder / out, folder / "scores.csv", f"labels={folder / labels}", *keys)
    (result,) = metrics["results"].values()
    return dict(result)
