"""VinDr-CXR (Nguyen et al., Scientific Data 2022, arXiv 2012.15029): the PhysioNet release or the Kaggle edition.

Three readers labelled each training image, and a finding is present where at least two of the three mark it (the
majority). A test image has one row, the consensus of five readers. Patients are not published: an image counts as one,
and validation is held out by image. Kaggle's train.csv has one row per box, or per reader without any, for 14 findings,
so it gives those only; its test images have no labels, and the test split too is held out of the training images.

A finding is present where one of its columns (or classes of boxes) is: Nodule/Mass is the union of the two. All 28
columns can be read as findings of their own (`findings: {copd: {label: COPD}}`), as experiments/protocols/vindr28 does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.corpora.csv_file import column
from data_modules.corpora.labels import OUTSIDE, states_of
from data_modules.corpora.official import BINARY_CODING, Layout, hold_out
from data_modules.corpora.splits import split_patients
from data_modules.corpora.terms import CODING, MALFORMED
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
BOXES = (
    "No finding", "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD",
    "Infiltration", "Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening",
    "Pneumothorax", "Pulmonary fibrosis",
)  # fmt: skip
"""Classes of the Kaggle edition."""
YES = ("1", "1.0")
OTHER = "Other diseases"
"""Of the training table; the test table calls it "Other disease"."""
RULE = LabelRule("as named", numeric=dict(BINARY_CODING))


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return the studies of one image each, of whichever edition lies below root."""
    rows, path = LAYOUT.load(root, key, TRAIN, KAGGLE)
    on_kaggle = path == root / KAGGLE
    ontology = ontology.extended(config.findings, f"{key}.findings", config.reader)
    layout, wanted = LAYOUT, {finding: tuple(names) for finding, names in ontology.labels("vindr").items()}
    if on_kaggle:
        rows, layout = _readers(rows, path, key), replace(LAYOUT, published={})
        known = {finding: tuple(name for name in names if name in BOXES) for finding, names in wanted.items()}
        wanted = {finding: names for finding, names in known.items() if names}
    disputed = ontology.disputed("vindr")
    frame = _agreed(rows, wanted, disputed, path, "train", 3, key)
    if len(frame) != IMAGES:
        log.warning("vindr_cxr/training images: %d here, %d in the published release", len(frame), IMAGES)
    log.warning("vindr_cxr: no patient is named, so every image counts as one, and validation is held out by image")
    if on_kaggle:
        log.warning("vindr_cxr: Kaggle has no test labels, so the test split is held out of the training images")
        frame["split"] = split_patients(frame["patient"], config)
    else:
        tests, place = LAYOUT.load(root, key, TEST)
        if OTHER not in tests:
            tests = tests.rename(columns={OTHER.removesuffix("s"): OTHER})
        frame = pd.concat([frame, _agreed(tests, wanted, disputed, place, "test", 1, key)])
        frame["split"] = hold_out(frame, config)
    labels = {finding: LabelRule(name, numeric=dict(CODING)) for finding, name in _columns(wanted).items()}
    return layout.studies(config, root, frame, path, labels, ontology, salt, key)


def _agreed(
    frame: pd.DataFrame, wanted: Mapping[str, tuple[str, ...]], disputed: Mapping[str, set[str]], path: Path,
    split: str, readers: int, key: str,
) -> pd.DataFrame:  # fmt: skip
    """One row per image and a column per finding, called as of `_columns`; a cell outside the coding stays.

    1 where more than half of the image's `readers` rows have one of the labels; blank where they do only together with
    the rows that have a wider or a loose one.
    """
    identity = ["image_id", "rad_id"] if readers > 1 else ["image_id"]
    names = list(dict.fromkeys(name for labels in wanted.values() for name in labels))
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
    outside = states == OUTSIDE
    # A faulty row stands for its image, so that the error names it.
    order = outside.any(axis=1).sort_values(ascending=False, kind="stable").index
    rows = frame.loc[order].drop_duplicates("image_id").sort_index()
    images = rows["image_id"]

    def most(marked: pd.Series) -> pd.Series:
        return (marked.groupby(frame["image_id"]).sum().loc[images] * 2 > readers).set_axis(rows.index)

    found, columns = {}, _columns(wanted)
    for finding, labels in wanted.items():
        marked = (states[list(labels)] == PRESENT).any(axis=1)
        others = [name for name in disputed[finding] if name in frame]
        maybe = marked | frame[others].isin(YES).any(axis=1)
        cells = most(marked).map({True: "1", False: "0"}).mask(most(maybe) & ~most(marked), "")
        for name in labels:
            cells = cells.mask(outside.loc[rows.index, name], rows[name].replace("", MALFORMED))
        found[columns[finding]] = cells
    return pd.DataFrame(found).assign(
        image=f"{split}/" + images + ".dicom", patient=images, split=split, view="PA", source=str(path)
    )  # fmt: skip


def _columns(wanted: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Finding -> name of its column: the first of its labels, and the finding too where an earlier one has that."""
    found: dict[str, str] = {}
    for finding, labels in wanted.items():
        found[finding] = f"{labels[0]} ({finding})" if labels[0] in found.values() else labels[0]
    return found


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
