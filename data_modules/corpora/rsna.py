"""RSNA Pneumonia Detection Challenge, stage 2 (Shih et al., Radiology: Artificial Intelligence 2019).

The images are of NIH ChestX-ray14. Pneumonia is Target 1, "opacity suspicious for pneumonia", as MedKLIP scores it
(Wu et al., ICCV 2023, arXiv 2301.02228). There are no reports; stage_2_test_images has no labels and is not read.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import column
from data_modules.corpora.official import BINARY_CODING, Layout, tell_size, words
from data_modules.corpora.splits import split_patients
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology
from data_modules.study import StudyTable

log = logging.getLogger(__name__)
LAYOUT = Layout(
    reader="rsna",
    title="RSNA Pneumonia Detection Challenge (stage 2)",
    access="Kaggle, competition rules: https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
    tree="""
stage_2_train_labels.csv                        one row per box
stage_2_detailed_class_info.csv
stage_2_train_images/0004cfab-14fd-4e49-80ba-63a80b6bddd6.dcm
""",
    published={},
)
PUBLISHED = 26_684
"""Labelled images; not per split, since no split was published."""
IMAGE, TARGET, CLASS = "patientId", "Target", "class"
NORMAL, OPACITY, OTHER = "Normal", "Lung Opacity", "No Lung Opacity / Not Normal"


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per image, split by `split_fractions` and `split_seed`: no split was published.

    `patientId` names an image, so that images of one NIH patient may fall into two splits; a log line says so.
    """
    boxes, path = LAYOUT.load(root, key, "stage_2_train_labels.csv")
    classes, info = LAYOUT.load(root, key, "stage_2_detailed_class_info.csv")
    LAYOUT.find(root, key, "stage_2_train_images")
    frame, kinds = _images(boxes, TARGET, path, key), _images(classes, CLASS, info, key)
    check_classes(kinds[CLASS], info)
    frame[CLASS] = frame[IMAGE].map(kinds.set_index(IMAGE)[CLASS])
    for row in frame.index[frame[CLASS].isna()][:1]:
        raise InputError(f"{path} row {row}: {info.name} has no row for this image; correct one of the two")
    frame["image"] = "stage_2_train_images/" + frame[IMAGE] + ".dcm"
    frame["study"] = frame["patient"] = frame[IMAGE]
    frame["split"] = split_patients(frame["patient"], config)
    log.warning(
        "rsna: these are images of NIH ChestX-ray14, not independent of it, and patientId names an image: "
        "which images are of one patient needs the NIH mapping"
    )
    tell_size("rsna", len(frame), PUBLISHED)
    labels = {
        finding: LabelRule(TARGET, numeric=dict(BINARY_CODING))
        if name == f"{TARGET}=1"
        else LabelRule(CLASS, equals=name)
        for finding, (name,) in words("rsna").items()
    }
    return LAYOUT.studies(config, root, frame, path, labels, ontology, salt, key)


def _images(boxes: pd.DataFrame, name: str, path: Path, key: str) -> pd.DataFrame:
    """One row per image of a table that has one per box; InputError where rows of an image differ in column `name`."""
    for needed in (IMAGE, name):
        column(boxes, needed, path, f"{key}.root")
    distinct = boxes.drop_duplicates([IMAGE, name])
    again = distinct.duplicated(IMAGE)
    for row in distinct.index[again][:1]:
        raise InputError(f"{path} row {row}: column '{name}' differs from an earlier row of the same image; keep one")
    return distinct.copy()


def check_classes(cells: pd.Series, path: Path) -> None:
    """InputError for a word that is no class, since it would read as absent."""
    classes = (NORMAL, OPACITY, OTHER)
    bad = ~cells.isin(classes)
    for row in cells.index[bad][:1]:
        raise InputError(
            f"{path} row {row}: column '{CLASS}' holds a word that is no RSNA class{nearest(cells[row], classes)}"
        )
