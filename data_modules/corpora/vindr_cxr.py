"""VinDr-CXR (Nguyen et al., Scientific Data 2022, arXiv 2012.15029): the PhysioNet release or the Kaggle edition.

Three readers labelled each training image, and a finding is present where at least two of the three mark it (the
majority). A test image has one row, the consensus of five readers. Patients are not published: an image counts as one,
and validation is held out by image. Kaggle's train.csv has one row per box, or per reader without any, for 14 findings,
so it gives those only; its test images have no labels, and the test split too is held out of the training images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.corpora.csv_file import column
from data_modules.corpora.labels import OUTSIDE, states_of
from data_modules.corpora.official import BINARY_CODING, Layout, hold_out
from data_modules.corpora.table import split_patients
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import PRESENT, Ontology
from data_modules.study import StudyTable

log = logging.getLogger(__name__)
TRAIN, TEST, KAGGLE = "annotations/image_labels_train.csv", "annotations/image_labels_test.csv", "train.csv"
LAYOUT = Layout(
    reader="vindr_cxr",
    title="VinDr-CXR",
    access="PhysioNet, credentialed health data licence: https://physionet.org/content/vindr-cxr/1.0.0/",
    tree=f"""
{TRAIN}      three rows per image, one of each reader
{TEST}       one row per image, the consensus
train/<image_id>.dicom
test/<image_id>.dicom
{KAGGLE}                               the Kaggle edition has this table of boxes in place of annotations/
""",
    published={"test": 3_000},
)
IMAGES = 15_000
"""Published training images; no number of their parts, since validation is held out of them."""
LABELS = {
    "no_finding": "No finding", "aortic_enlargement": "Aortic enlargement", "atelectasis": "Atelectasis",
    "calcification": "Calcification", "cardiomegaly": "Cardiomegaly", "consolidation": "Consolidation",
    "infiltration": "Infiltration", "lung_opacity": "Lung Opacity", "lung_lesion": "Nodule/Mass",
    "pleural_effusion": "Pleural effusion", "pleural_thickening": "Pleural thickening",
    "pneumothorax": "Pneumothorax", "fibrosis": "Pulmonary fibrosis",
}  # fmt: skip
"""Finding -> column, or class of a box; those that the ontology maps exactly. Nodule/Mass is the union of the two."""
PHYSIONET = {
    **LABELS, "edema": "Edema", "emphysema": "Emphysema", "pneumonia": "Pneumonia", "tuberculosis": "Tuberculosis",
}  # fmt: skip
"""With those that Kaggle leaves out."""
BOXES = (*LABELS.values(), "ILD", "Other lesion")
RULE = LabelRule("as named", numeric=dict(BINARY_CODING))


def read(config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str) -> StudyTable:
    """Return the studies of one image each, of whichever edition lies below root."""
    root = LAYOUT.root(config, key)
    rows, path = LAYOUT.load(root, key, TRAIN, KAGGLE)
    on_kaggle = path == root / KAGGLE
    layout, columns = (replace(LAYOUT, published={}), LABELS) if on_kaggle else (LAYOUT, PHYSIONET)
    if on_kaggle:
        rows = _readers(rows, path, key)
    frame = _agreed(rows, columns.values(), path, "train", 3, key)
    if len(frame) != IMAGES:
        log.warning("vindr_cxr/training images: %d here, %d in the published release", len(frame), IMAGES)
    log.warning("vindr_cxr: no patient is named, so every image counts as one, and validation is held out by image")
    if on_kaggle:
        log.warning("vindr_cxr: Kaggle has no test labels, so the test split is held out of the training images")
        chosen = split_patients(frame["patient"].to_numpy(dtype=object), config.split_fractions, config.split_seed)
        frame["split"] = frame["patient"].map(chosen)
    else:
        tests, place = LAYOUT.load(root, key, TEST)
        frame = pd.concat([frame, _agreed(tests, columns.values(), place, "test", 1, key)])
        frame["split"] = hold_out(frame, config)
    labels = {finding: LabelRule(name, numeric=dict(BINARY_CODING)) for finding, name in columns.items()}
    return layout.studies(config, root, frame, path, labels, ontology, salt, key)


def _agreed(frame: pd.DataFrame, names: Iterable[str], path: Path, split: str, readers: int, key: str) -> pd.DataFrame:
    """One row per image: 1 where more than half of its `readers` rows say so; a cell outside the coding stays."""
    identity = ["image_id", "rad_id"] if readers > 1 else ["image_id"]
    names = list(names)
    for name in (*identity, *names):
        column(frame, name, path, f"{key}.root")
    if frame.empty:
        raise InputError(f"{path}: has a header but no rows")
    given = frame.groupby("image_id")["image_id"].transform("size")
    for row in frame.index[(given != readers) | frame.duplicated(identity)][:1]:
        raise InputError(
            f"{path} row {row}: its image has {given[row]} row(s), not one of each of {readers} reader(s); "
            "correct the table"
        )
    states = frame[names].apply(lambda cells: states_of(RULE, cells.to_numpy(dtype=object)))
    votes = (states == PRESENT).groupby(frame["image_id"]).sum()
    outside = states == OUTSIDE
    # A faulty row stands for its image, so that the error names it.
    order = outside.any(axis=1).sort_values(ascending=False, kind="stable").index
    rows = frame.loc[order].drop_duplicates("image_id").sort_index()
    images = rows["image_id"]
    majority = (votes.loc[images] * 2 > readers).astype(int).astype(str).set_axis(rows.index)
    return rows[names].where(outside.loc[rows.index], majority).assign(
        image=f"{split}/" + images + ".dicom", patient=images, split=split, view="PA", source=str(path)
    )  # fmt: skip


def _readers(boxes: pd.DataFrame, path: Path, key: str) -> pd.DataFrame:
    """Rows of boxes -> one row per image and reader, 1 under each class that the reader marked."""
    identity = [column(boxes, name, path, f"{key}.root") for name in ("image_id", "rad_id")]
    classes = pd.Series(column(boxes, "class_name", path, f"{key}.root"), index=boxes.index)
    for row in boxes.index[~np.isin(classes.astype(str), BOXES)][:1]:
        raise InputError(f"{path} row {row}: class_name is not one of {', '.join(BOXES)}; correct the row")
    marks = pd.DataFrame({name: classes == name for name in BOXES}, index=boxes.index)
    marks = marks.groupby(identity).transform("any")
    for row in boxes.index[marks["No finding"] & (marks.sum(axis=1) > 1)][:1]:
        raise InputError(f"{path} row {row}: its reader marks both 'No finding' and a finding; correct the table")
    return boxes[["image_id", "rad_id"]].join(marks.astype(int).astype(str)).drop_duplicates(["image_id", "rad_id"])
