"""P8: the table of 400,000 studies with reports, opened from the cache, beside pandas and a list of rows."""

from __future__ import annotations

import csv
import gc
import multiprocessing
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.common import Result, rates, seconds
from data_modules import corpora
from data_modules.corpus_config import Columns, CorpusConfig, LabelRule
from data_modules.findings import ontology

STUDIES, FOLDERS, CHARACTERS, PEAKS = 400_000, 4_000, 400, 3
LABELS = ("atelectasis", "cardiomegaly", "edema", "pneumonia")
WORDS = ("the", "heart", "is", "normal", "in", "size", "no", "focal", "consolidation", "or", "effusion", "unchanged")
SALT = b"b" * 32


def run() -> Iterator[Result]:
    """400,000 studies of one image and 400 characters; the time to write and to read them once is minutes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder)
        first = STUDIES / seconds(lambda: _radz(folder))
        what = f"open the table of {STUDIES:,} studies"
        opened = rates(
            "P8", f"{what} against pandas and a list of rows, unchecked", "studies/s", STUDIES,
            lambda: _radz(folder), lambda: _plain(folder),
        )  # fmt: skip
        yield opened
        faster = opened.radz / first
        yield replace(
            opened, what=f"{what} against reading the corpus, once", reference=first, ratio=faster, low=faster,
            high=faster,
        )  # fmt: skip
        pairs = [(_peak(_radz, folder), _peak(_plain, folder)) for _ in range(PEAKS)]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = [plain / radz for radz, plain in pairs]
        yield replace(
            opened, what=f"peak memory to {what}, against pandas and a list of rows", unit="MB", radz=ours,
            reference=theirs, ratio=statistics.median(ratios), low=min(ratios), high=max(ratios),
        )  # fmt: skip


def _write(folder: Path) -> None:
    rng = random.Random(0)
    for place in range(FOLDERS):
        (folder / f"images/{place:04}").mkdir(parents=True)
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["image", "patient", "split", "report", *LABELS])
        for i in range(STUDIES):
            image = f"images/{i % FOLDERS:04}/{rng.getrandbits(128):032x}.png"
            (folder / image).touch()
            report = " ".join(rng.choices(WORDS, k=90))[:CHARACTERS]
            states = (rng.choice(("1", "0", "-1", "")) for _ in LABELS)
            table.writerow([image, i // 6, "test" if i // 6 % 5 == 0 else "train", report, *states])


def _radz(folder: Path) -> object:
    coding = {1: "present", 0: "absent", -1: "uncertain", "blank": "unmentioned"}
    config = CorpusConfig(
        root=str(folder), csv="table.csv", columns=Columns("image", "patient", split="split", report="report"),
        labels={name: LabelRule(name, numeric=dict(coding)) for name in LABELS},
    )  # fmt: skip
    return corpora.read(config, ontology(), SALT, folder / "cache", "data.corpora.0")


def _plain(folder: Path) -> object:
    """As most public code does: every cell a string, one dictionary a row."""
    return pd.read_csv(folder / "table.csv", dtype=str, keep_default_na=False).to_dict("records")


def _peak(work: Callable[[Path], object], folder: Path) -> float:
    """MB that a fresh process grows by, at most, in the course of `work`."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_growth, (work, folder))


def _growth(work: Callable[[Path], object], folder: Path) -> float:
    ontology()
    gc.collect()
    before = _memory("VmRSS")
    work(folder)
    return _memory("VmHWM") - before


def _memory(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) / 1e3
