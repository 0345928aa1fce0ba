"""CXR-LT 2026 (Dong et al. 2026, arXiv 2602.22092): 30 known and 6 unseen findings over images of PadChest and NIH.

The lists are the challenge's and the user's own; none comes with radz. The training list has PadChest's ImageID and
PatientID and one column of 0 and 1 per known finding. Names of files and columns and the 30 and 6 findings are those
that the code of challenge teams reads (CXRLT_2026_training.csv; CXRLT_2026_TEST_ALL_TASK1.csv and _TASK2.csv). Whether
the labels of the test lists, which two radiologists gave, were released, and under which names, could not be learned:
a list is read if it has ImageID and the columns of the findings. Its images have no patients, so each counts as one;
patients of the training list are those of `padchest`.

No labelled list of validation is known either: `split_fractions.val` of the training patients are held out.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import column, load
from data_modules.corpora.cxr_lt import check_lists, rules
from data_modules.corpora.official import Layout, hold_out
from data_modules.corpus_config import CorpusConfig
from data_modules.errors import MissingCorpus
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched, watched_glob

log = logging.getLogger(__name__)
TRAIN = "CXRLT_2026_training.csv"
TESTS = {"1": "CXRLT_2026_TEST_ALL_TASK1.csv", "2": "CXRLT_2026_TEST_ALL_TASK2.csv"}
LAYOUT = Layout(
    reader="cxr_lt_2026",
    title="CXR-LT 2026",
    access="lists: the challenge, registered users: https://cxr-lt.github.io/CXR-LT-2026/\n"
    "  images: PadChest (https://bimcv.cipf.es/bimcv-projects/padchest/), NIH ChestX-ray14",
    tree=f"""
{TRAIN}                         ImageID, PatientID and the 30 known findings
{TESTS["1"]}               ImageID and the 30 known findings; or task 2:
{TESTS["2"]}               ImageID and the 6 unseen findings
<ImageID>                                       the images, in root, in folders below it, or in images_001/images ..
""",
    published={},
)


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per image and task; `keep: {task: ['', '1']}` leaves task 2 out."""
    train, path = LAYOUT.load(root, key, TRAIN)
    frames = [train.assign(patient=column(train, "PatientID", path, f"{key}.root"), split="train", task="")]
    frames[0]["source"] = str(path)
    for task, name in TESTS.items():
        if watched(root / name).is_file():
            tests = load(root / name, f"{key}.root")
            column(tests, "ImageID", root / name, f"{key}.root")
            # A name without a suffix might be somebody's PatientID.
            alone = tests["ImageID"].where(tests["ImageID"].str.contains(".", regex=False), "image " + tests["ImageID"])
            frames.append(tests.assign(patient=alone, split="test", task=task, source=str(root / name)))
    if len(frames) == 1:
        raise MissingCorpus(f"{key}.root={root}: holds no {' or '.join(TESTS.values())}", LAYOUT.help())
    check_lists(frames, ontology, "cxr_lt_2026")
    ontology = ontology.extended(config.findings, f"{key}.findings", config.reader)
    log.warning("cxr_lt_2026: test images name no patients, so every one counts as one")
    frame = pd.concat(frames).fillna("")
    names = pd.Series(column(frame, "ImageID", path, f"{key}.root"), frame.index)
    frame["image"] = names.map(_places(root)).fillna(names)
    frame["study"] = names.mask(frame["task"] == "2", names + "/task2")
    frame["split"] = hold_out(frame, config)
    labels = rules(frame, ontology, config, "cxr_lt_2026", path, key)
    config = replace(config, patients=config.patients or "padchest")
    return LAYOUT.studies(config, root, frame, path, labels, ontology, salt, key)


def _places(root: Path) -> dict[str, str]:
    """File name -> path relative to root: PadChest's numbered folders, NIH's images_001/images, or all in one."""
    patterns = ("*", "images/*", "images_*/images")
    folders = [root, *(path for pattern in patterns for path in watched_glob(root, pattern) if watched(path).is_dir())]
    found: dict[str, str] = {}
    for folder in folders:
        inside = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        for name in os.listdir(watched(folder)):
            found.setdefault(name, f"{inside}{name}")
    return found
