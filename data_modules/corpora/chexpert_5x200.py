"""CheXpert 5x200: 1,000 training images of CheXpert in which one of five findings alone is present, 200 of each.

Which images these are depends on whose list it is. GLoRIA (Huang et al., ICCV 2021) drew its without a seed and gives
`chexpert_5x200.csv` to those who have CheXpert; MedCLIP (Wang et al., EMNLP 2022) ships another,
`chexpert-5x200-val-meta.csv`, laterals included; MGCA draws a third. No list comes with radz: the user's own copy lies
below root, and its rows are the test split. The rest of train.csv, less the patients of the list, is the training split
and valid.csv the validation split, where both are there.

Columns: constants.py of marshuang80/gloria and readers of its list (Path, the findings' names, Report Impression);
local_data and course_project_codes of RyanWangZf/MedCLIP (imgpath). Only the five findings of a list are read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from data_modules.corpora.chexpert import (
    LABELS,
    PLUS,
    folders_of,
    images,
    labelled,
    patient_folders,
    placed,
    reports,
)
from data_modules.corpora.official import CHEXPERT_CODING, Layout
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched

LISTS = ("chexpert_5x200.csv", "chexpert-5x200-val-meta.csv")
LAYOUT = Layout(
    reader="chexpert_5x200",
    title="CheXpert 5x200",
    access="images: Stanford AIMI, as CheXpert; lists: GLoRIA (https://github.com/marshuang80/gloria) "
    "or MedCLIP (https://github.com/RyanWangZf/MedCLIP)",
    tree=f"""
{LISTS[0]}                              of GLoRIA, or {LISTS[1]} of MedCLIP
train/patient00001/study1/view1_frontal.jpg     in the full release `CheXpert-v1.0 batch 2 (train 1)/patient00001/..`
train.csv, valid.csv                            optional, both: to train without the patients of the list
{PLUS}                     optional: reports of CheXpert Plus, for retrieval
""",
    published={"test": 1_000},
)
FIVE = ("atelectasis", "cardiomegaly", "consolidation", "edema", "pleural_effusion")
PATHS = ("Path", "imgpath")
REPORT = "Report Impression"


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per image of the list, and the rest of CheXpert; `keep: {Frontal/Lateral: [Frontal]}`."""
    listed, path = LAYOUT.load(root, key, LAYOUT.only(root, key, *LISTS).name)
    if listed.empty:
        raise InputError(f"{path}: has a header but no rows; put your copy of the list there")
    where = next((name for name in PATHS if name in listed), PATHS[0])
    test = placed(listed, where, path, "test", key, FIVE)
    for row in test.index[test["file"] == ""][:1]:
        raise InputError(f"{path} row {row}: the path names no image; correct it")
    _alone(test, path)
    homes = folders_of(root)
    rest = labelled(root, homes, key) if any(watched(home / "train.csv").is_file() for home in homes) else []
    others = [frame[~frame["patient"].isin(set(test["patient"]))] for frame in rest]
    own = ["patient", "number", "file", "folder", "split", "source", *(LABELS[name] for name in FIVE)]
    frame = pd.concat([*others, test[[*own, *([REPORT] if REPORT in test else [])]]]).fillna("")
    frame["image"] = images(frame, patient_folders(root, homes))
    of_study = frame["patient"] + "/" + frame["number"]
    # A row of the list is an image by itself: two of one study may have different findings.
    frame["study"] = of_study.mask(frame["split"] == "test", of_study + "/" + frame["file"])
    frame["Frontal/Lateral"] = frame["file"].map(lambda name: "Lateral" if "lateral" in name else "Frontal")
    frame["view"] = frame["Frontal/Lateral"]
    if watched(plus := root / PLUS).is_file():
        frame["report"] = reports(plus, key, frame.assign(study=of_study))
    elif REPORT in frame:
        frame["report"] = frame[REPORT]
    known = LABELS if rest else {name: LABELS[name] for name in FIVE}
    labels = {finding: LabelRule(name, numeric=dict(CHEXPERT_CODING)) for finding, name in known.items()}
    config = replace(config, patients=config.patients or "chexpert")
    left = sum(map(len, rest)) - sum(map(len, others))
    left_out = {"other images of patients of the list": left} if rest else {}
    return LAYOUT.studies(config, root, frame, path, labels, ontology, salt, key, left_out)


def _alone(frame: pd.DataFrame, path: Path) -> None:
    """Write 1 and 0 under the five; InputError for a row in which not one of them alone is present."""
    names = [LABELS[name] for name in FIVE]
    cells = frame[names].replace("", "0")
    present = cells.isin(("1", "1.0"))
    for row in frame.index[(present.sum(axis=1) != 1) | ~(present | cells.isin(("0", "0.0"))).all(axis=1)][:1]:
        raise InputError(
            f"{path} row {row}: must have 1 under one of {', '.join(names)} and 0 under the others; correct the list"
        )
    frame[names] = cells
