"""The score table: the one object from which every metric, figure, interval and prediction file is computed.

Names of sizes: N scored rows (images or studies, the protocol's unit), C findings.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_modules.errors import InputError
from data_modules.files import write_rows

_IDS = ("study_id", "image_id", "patient")
DERIVED = ("probability", "call", "answer")
"""what `radz predict` makes of a score, in columns `<finding>/<one of these>`"""


@dataclass
class ScoreTable:
    """Scores of one split of one corpus, each unit exactly once.

    Raises InputError when a column has the wrong shape or a score lies outside [0, 1]. A column of NaN means that this
    scorer is not available for that finding; one with some NaN has no metrics, and the results say so.
    """

    corpus: str
    split: str
    rows: NDArray[np.int64]
    """[N], row numbers of the study table."""
    study_id: list[str]
    image_id: list[str]
    """Empty strings at study unit."""
    patient: list[str]
    """Salted hashes."""
    findings: tuple[str, ...]
    labels: NDArray[np.float32]
    """[N, C]: 1 present, 0 absent, NaN unknown, after the metrics policy."""
    scores: dict[str, NDArray[np.float32]]
    """Scorer -> [N, C] in [0, 1]."""
    wordings: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Wording -> [N, 2C], agreement with what it says of each finding, and then with what it denies; of the model's own
    scale, and no part of the prediction files"""
    prompt_sets: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Published prompt set -> [N, C], what its sentences say of each finding less what they deny; likewise"""

    def __post_init__(self) -> None:
        self.rows = np.asarray(self.rows, dtype=np.int64)
        self.findings = tuple(self.findings)
        self.labels = np.asarray(self.labels, dtype=np.float32)
        self.scores = {name: np.asarray(values, dtype=np.float32) for name, values in self.scores.items()}
        shape = (len(self.rows), len(self.findings))
        for what, values in {"labels": self.labels, **self.scores}.items():
            if values.shape != shape:
                raise InputError(f"{self.key}: '{what}' has shape {values.shape}, expected {shape}")
        if {len(self.study_id), len(self.image_id), len(self.patient)} - {shape[0]}:
            raise InputError(f"{self.key}: study, image and patient columns must have {shape[0]} entries each")
        for scorer, values in self.scores.items():
            if scorer == "label" or "/" in scorer:
                raise InputError(f"{self.key}: a scorer cannot be called '{scorer}'; choose a name without '/'")
            for column, finding in enumerate(self.findings):
                _check_scores(f"{self.key}: scorer '{scorer}', finding '{finding}'", values[:, column])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def key(self) -> str:
        """Name under `results` in metrics.json."""
        return f"{self.corpus}/{self.split}"

    def column(self, scorer: str, finding: str | int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Labels and scores [N] of a finding, by its name or number."""
        number = self.findings.index(finding) if isinstance(finding, str) else finding
        return self.labels[:, number], self.scores[scorer][:, number]

    def take(self, rows: ArrayLike) -> ScoreTable:
        """The table of these positions (integers, not study rows), in the order given."""
        at = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            rows=self.rows[at],
            study_id=[self.study_id[i] for i in at],
            image_id=[self.image_id[i] for i in at],
            patient=[self.patient[i] for i in at],
            labels=self.labels[at],
            scores={scorer: values[at] for scorer, values in self.scores.items()},
            wordings={name: values[at] for name, values in self.wordings.items()},
            prompt_sets={name: values[at] for name, values in self.prompt_sets.items()},
        )

    def distinct(self) -> tuple[ScoreTable, list[int]]:
        """The table with each image or study of a patient once, and the numbers (from 1) of the rows left out."""
        first: dict[tuple[str, str, str], int] = {}
        for row, unit in enumerate(zip(self.patient, self.study_id, self.image_id, strict=True)):
            first.setdefault(unit, row)
        if len(first) == len(self):
            return self, []
        kept = set(first.values())
        return self.take(sorted(kept)), [row + 1 for row in range(len(self)) if row not in kept]

    def write_csv(self, path: Path) -> None:
        """Write the contract's prediction file; an interrupted write leaves the old file whole.

        Nine significant digits, so that float32 scores come back bit for bit; NaN is an empty cell.
        """
        header = [*_IDS]
        columns: list[list[str]] = [self.study_id, self.image_id, self.patient]
        for index, finding in enumerate(self.findings):
            header.append(f"label/{finding}")
            columns.append([_number(v) for v in self.labels[:, index].tolist()])
            for scorer, values in self.scores.items():
                header.append(f"{scorer}/{finding}")
                columns.append([_number(v) for v in values[:, index].tolist()])
        write_rows(path, [header, *zip(*columns, strict=True)])

    @staticmethod
    def read_csv(path: Path, corpus: str | None = None, split: str | None = None) -> ScoreTable:
        """Read a prediction file. Rows are numbered in file order; corpus and split default to the file's name.

        Raises InputError naming file, line and column.
        """
        named_corpus, _, named_split = path.stem.rpartition("_")
        try:
            with open(path, encoding="utf-8", newline="") as stream:
                header, *lines = list(csv.reader(stream)) or [[]]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); write it with radz eval") from error
        missing = [name for name in _IDS if name not in header]
        if missing:
            raise InputError(f"{path}: no column '{missing[0]}'; this is not a prediction file")
        findings = tuple(name.partition("/")[2] for name in header if name.startswith("label/"))
        scorers = list(dict.fromkeys(n.partition("/")[0] for n in header if "/" in n and not n.startswith("label/")))
        place = {name: column for column, name in enumerate(header)}
        for number, line in enumerate(lines, start=2):
            if len(line) != len(header):
                raise InputError(
                    f"{path} line {number}: {len(line)} cells, expected {len(header)}; the file is damaged"
                )

        def matrix(kind: str) -> NDArray[np.float32]:
            values = np.full((len(lines), len(findings)), np.nan, dtype=np.float32)
            for index, finding in enumerate(findings):
                if f"{kind}/{finding}" not in place:
                    raise InputError(f"{path}: no column '{kind}/{finding}'; this is not a prediction file")
                column = place[f"{kind}/{finding}"]
                for row, line in enumerate(lines):
                    try:
                        values[row, index] = float(line[column]) if line[column] else np.nan
                    except ValueError as error:
                        where = f"{path} line {row + 2}, column '{kind}/{finding}'"
                        raise InputError(f"{where}: '{line[column]}' is not a number") from error
            return values

        study, image, patient = ([line[place[name]] for line in lines] for name in _IDS)
        return ScoreTable(
            corpus if corpus is not None else named_corpus,
            split if split is not None else named_split,
            np.arange(len(lines)),
            study,
            image,
            patient,
            findings,
            matrix("label"),
            {scorer: matrix(scorer) for scorer in scorers},
        )


def prediction_file(run_dir: Path, key: str) -> Path:
    """Where a run keeps the scores of `<corpus>/<split>`."""
    return run_dir / "predictions" / f"{key.replace('/', '_')}.csv"


def _check_scores(where: str, scores: NDArray[np.float32]) -> None:
    if ((scores < 0) | (scores > 1)).any():
        raise InputError(f"{where}: scores run from {np.nanmin(scores):g} to {np.nanmax(scores):g}, must lie in [0, 1]")


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.9g}"
