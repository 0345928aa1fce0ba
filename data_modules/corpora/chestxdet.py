"""ChestX-Det10 (Liu et al. 2020, arXiv 2006.10550) and ChestX-Det (Lian et al. 2021, arXiv 2104.10326): NIH radiographs
on which three radiologists boxed ten, later thirteen, kinds of findings.

Both are lists of one entry per image in JSON: `file_name`, `syms`, and for each of these its box in `boxes`, left, top,
right and bottom in pixels of the image. What is boxed is present and what is not is absent; an image without a box has
none of the ten, or thirteen, which is not "no finding". ChestX-Det has polygons too, which are not read. The
images carry numbers of their own, so NIH's patients are not known: an image counts as one, and validation is held
out by image. Rows of error texts are entries of the list, from 1.

Names and counts: the lists and README.md of Deepwise-AILab/ChestX-Det10-Dataset and ChestX-Det-Dataset; folders: those,
and readers of the unpacked archives.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_modules.corpora.official import BINARY_CODING, Layout, hold_out, tell_size, words
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology
from data_modules.parsing import parse_json
from data_modules.study import StudyTable
from data_modules.table_store import watched

log = logging.getLogger(__name__)
LAYOUT = Layout(
    reader="chestxdet",
    title="ChestX-Det10 or ChestX-Det",
    access="Deepwise AI Lab, lists and links to the images, which are NIH's: "
    "https://github.com/Deepwise-AILab/ChestX-Det10-Dataset, https://github.com/Deepwise-AILab/ChestX-Det-Dataset",
    tree="""
train.json, test.json                           of ChestX-Det10, or ChestX_Det_train.json, ChestX_Det_test.json
train_data/36200.png                            or train_data/train/36200.png, or train/36200.png
test_data/36199.png                             or test_data/test/36199.png, or test/36199.png
""",
    published={},
)
TEN = (
    "Atelectasis", "Calcification", "Consolidation", "Effusion", "Emphysema", "Fibrosis", "Fracture", "Mass", "Nodule",
    "Pneumothorax",
)  # fmt: skip
NAMES = words("chestxdet")
"""Finding -> its classes."""


@dataclass(frozen=True)
class Release:
    """One of the two releases: its lists by split, its classes, its published images by split."""

    lists: dict[str, str]
    classes: tuple[str, ...]
    images: dict[str, int]

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Finding -> classes of this release that make it present."""
        known = {name: tuple(word for word in of if word in self.classes) for name, of in NAMES.items()}
        return {name: of for name, of in known.items() if of}


RELEASES = (
    Release({"train": "train.json", "test": "test.json"}, TEN, {"train": 3_001, "test": 542}),
    Release(
        {"train": "ChestX_Det_train.json", "test": "ChestX_Det_test.json"},
        (*TEN, "Cardiomegaly", "Diffuse Nodule", "Pleural Thickening"),
        {"train": 3_025, "test": 553},
    ),
)


@dataclass(frozen=True)
class Entry:
    """One image of a list."""

    row: int
    """from 1"""
    name: str
    classes: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    """left, top, right, bottom of each class, pixels"""


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per image; `split_fractions.val` of the training images become the validation split."""
    release = of(root, key)
    frames = []
    for split, file in release.lists.items():
        found = list(entries(root / file, release, f"{key}.root"))
        frames.append(_images(found, release).assign(split=split, source=str(root / file)))
        frames[-1]["image"] = f"{_folder(root, split, key)}/" + frames[-1]["patient"]
        tell_size(f"chestxdet/{split}", len(found), release.images[split])
    frame = pd.concat(frames)
    log.warning("chestxdet: no patient is named, so every image counts as one, and validation is held out by image")
    frame["split"] = hold_out(frame, config)
    labels = {finding: LabelRule(finding, numeric=dict(BINARY_CODING)) for finding in release.labels}
    path = root / release.lists["train"]
    return LAYOUT.studies(config, root, frame, path, labels, ontology, salt, key)


def _images(found: list[Entry], release: Release) -> pd.DataFrame:
    """One row per image: its name, the only thing that could stand for a patient, and 1 or 0 under each finding."""
    names = pd.Series([entry.name for entry in found], index=[entry.row for entry in found], dtype=object)
    columns = {
        finding: [str(int(not {*words}.isdisjoint(entry.classes))) for entry in found]
        for finding, words in release.labels.items()
    }
    return pd.DataFrame(columns, index=names.index).assign(patient=names)


def of(root: Path, key: str) -> Release:
    """The release whose lists lie below root; MissingCorpus where a list is missing, InputError for lists of both."""
    test = LAYOUT.only(root, key, *(release.lists["test"] for release in RELEASES)).name
    found = next(release for release in RELEASES if release.lists["test"] == test)
    LAYOUT.find(root, key, found.lists["train"])
    return found


def entries(path: Path, release: Release, key: str) -> Iterator[Entry]:
    """The entries of a list; InputError for one that does not parse, an unknown class, an image given twice."""
    try:
        found = parse_json(watched(path).read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: is no JSON that can be read ({error}); download it again ({key})") from error
    if not isinstance(found, list) or not found:
        raise InputError(f"{path}: must be a list of images and hold one at least; download it again ({key})")
    seen: set[str] = set()
    for row, fields in enumerate(found, start=1):
        entry = _entry(fields, row, path)
        for word in entry.classes:
            if word not in release.classes:
                raise InputError(
                    f"{path} row {row}: 'syms' holds a word that is none of its {len(release.classes)} classes"
                    f"{nearest(word, release.classes)}; correct the entry"
                )
        if entry.name in seen:
            raise InputError(f"{path} row {row}: its image has an entry before; remove one of the two")
        seen.add(entry.name)
        yield entry


def _entry(fields: Any, row: int, path: Path) -> Entry:
    try:
        name, classes, boxes = fields["file_name"], fields["syms"], fields["boxes"]
    except (TypeError, KeyError):
        name = classes = boxes = None
    lists = isinstance(classes, list) and isinstance(boxes, list) and len(classes) == len(boxes)
    if not (lists and isinstance(name, str) and name and all(isinstance(word, str) for word in classes)):
        raise InputError(
            f"{path} row {row}: an entry needs file_name, syms, and in boxes one for each of syms; correct it"
        )
    corners = [_box(box, f"{path} row {row}: box {number}") for number, box in enumerate(boxes, start=1)]
    return Entry(row, name, tuple(classes), tuple(corners))


def _box(given: Any, where: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom; InputError where they are no box, or lie left of or above any image."""
    four = given if isinstance(given, list) and len(given) == 4 else []
    numbers = [float(one) for one in four if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) != 4 or not np.isfinite(numbers).all():
        raise InputError(f"{where} must be four numbers, left, top, right and bottom; correct the entry")
    left, top, right, bottom = numbers
    if right <= left or bottom <= top:
        raise InputError(
            f"{where} ends before it begins: right and bottom must be above left and top; correct the entry"
        )
    if right <= 0 or bottom <= 0:
        raise InputError(f"{where} lies outside its image; correct the entry")
    return left, top, right, bottom


def _folder(root: Path, split: str, key: str) -> str:
    """Where the images of a split lie, relative to root: the archives unpack into different depths."""
    found = LAYOUT.find(root, key, f"{split}_data/{split}", f"{split}_data", split)
    return found.relative_to(root).as_posix()
