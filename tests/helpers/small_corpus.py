"""A small corpus on disk, as a hospital might export it: a table, a split file and 8-bit PNG images."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_modules.chest_xray import ChestXrayDataModule
from data_modules.corpora import table
from data_modules.corpus_config import Columns, CorpusConfig, LabelRule, SplitFile
from data_modules.findings import ontology
from data_modules.study import StudyTable, offsets

SALT = b"s" * 32
Row = dict[str, str]
Make = Callable[..., ChestXrayDataModule]
"""The fixture `make`: keyword arguments change the DataConfig."""


class Corpus:
    """Twelve one-image studies of six patients; change `rows` or `splits`, then `write` and `config`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[Row] = []
        for i in range(12):
            finding = "Pneumonia/Viral/COVID-19" if i % 3 == 0 else "No Finding"
            self.rows.append(
                {"filename": f"img{i}.png", "patientid": f"0{i // 2}", "finding": finding, "view": "PA" if i else "L",
                 "notes": f"Report {i}.", "tokens": "Effusion|Mass" if i % 2 else "Mass", "edema": str(i % 2)}
            )  # fmt: skip
        self.splits = [
            {"filename": f"img{i}.png", "split": "train" if i < 6 else "val" if i < 8 else "test"} for i in range(12)
        ]

    def write(self, images: bool = True) -> None:
        (self.root / "images").mkdir(parents=True, exist_ok=True)
        for name, rows in (("metadata.csv", self.rows), ("split.csv", self.splits)):
            with open(self.root / name, "w", newline="", encoding="utf-8-sig") as handle:
                writer = csv.DictWriter(handle, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        for i, row in enumerate(self.rows if images else []):
            path = self.root / "images" / row["filename"]
            if row["filename"] and not path.exists() and ".." not in row["filename"]:
                shade = np.full((20, 30), 20 * (i % 12), dtype=np.uint8)
                shade[5:10, 5:20] = 255
                Image.fromarray(shade).save(path)

    def config(self, **changes: Any) -> CorpusConfig:
        settings: dict[str, Any] = {
            "root": str(self.root), "csv": "metadata.csv", "name": "ours", "image_folder": "images",
            "split_csv": SplitFile("split.csv", "filename"),
            "columns": Columns(image="filename", patient="patientid", report="notes", view="view"),
            "labels": {"covid19": LabelRule("finding", contains="COVID-19"),
                       "no_finding": LabelRule("finding", equals="No Finding")},
        }  # fmt: skip
        return CorpusConfig(**(settings | changes))


def ready(module: ChestXrayDataModule) -> ChestXrayDataModule:
    module.setup()
    return module


def read(corpus: Corpus, **changes: Any) -> StudyTable:
    """The table of a corpus that is written first; `changes` as of `Corpus.config`."""
    corpus.write()
    return table.read(corpus.config(**changes), ontology(), SALT)


def one_image_each(
    patients: Sequence[str], split: Sequence[str], states: np.ndarray, findings: tuple[str, ...],
    studies: Sequence[str] = (), name: str = "ours",
) -> StudyTable:  # fmt: skip
    """A table of studies [N] of one image, called s0, s1 .. unless `studies` says otherwise; no file is there."""
    n = len(patients)
    text = {"study_id": studies or [f"s{i}" for i in range(n)], "patient": patients, "split": split}
    return StudyTable(
        corpora=(name,), corpus=np.zeros(n, np.int16), image_paths=[f"/{one}" for one in text["study_id"]],
        image_ids=list(text["study_id"]), rescale=np.full((n, 2), np.nan), image_offsets=offsets(np.ones(n, np.int64)),
        reports=[""] * n, findings=findings, states=states.astype(np.int8), coded=(findings,), attributes={},
        source_rows=np.arange(n) + 2,
        **{key: np.array(words, dtype=object) for key, words in {**text, "modality": ["chest_xray"] * n}.items()},
    )  # fmt: skip
