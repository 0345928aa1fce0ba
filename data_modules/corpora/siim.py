"""SIIM-ACR Pneumothorax (Kaggle 2019): a tree of DICOM files and run-length masks, of which only the presence is read.

Images come from NIH ChestX-ray14 (PMC7165201) without its patient numbers: never test on them after training on NIH.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.corpora.csv_file import column
from data_modules.corpora.official import BINARY_CODING, Layout
from data_modules.corpora.splits import split_patients
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched_glob

log = logging.getLogger(__name__)
LAYOUT = Layout(
    reader="siim",
    title="SIIM-ACR Pneumothorax",
    access="Kaggle, competition rules: https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
    tree="""
stage_2_train.csv                               or train-rle.csv of stage 1, which lacks the images of the stage 1 test
dicom-images-train/STUDY/SERIES/IMAGE.dcm       each a UID; IMAGE is the ImageId of the table
dicom-images-test/STUDY/SERIES/IMAGE.dcm        optional: the stage 1 test images, labelled in stage_2_train.csv
""",
    published={},  # no official split
)
TABLES = ("stage_2_train.csv", "train-rle.csv")
IMAGES = (10_675, 12_047)
"""Labelled images of stage 1 and of stage 2 (SUMMARY.md of dataset-ninja/siim-acr-pneumothorax-segmentation)."""
FOLDERS = ("dicom-images-train", "dicom-images-test")
MASK = r"[0-9]+\s+[0-9]+(?:\s+[0-9]+\s+[0-9]+)*"
"""Pairs of gap and run; the gaps count from the end of the previous run, column by column."""


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per image; patients, as which the study folders count, are split by `split_fractions`."""
    rows, path = LAYOUT.load(root, key, *TABLES)
    LAYOUT.find(root, key, FOLDERS[0])
    frame = _images(rows, path, key)
    if len(frame) not in IMAGES:
        log.warning("siim: %d labelled images here, %d (stage 1) or %d (stage 2) published", len(frame), *IMAGES)
    files = {file.stem: file.relative_to(root) for name in FOLDERS for file in watched_glob(root / name, "*/*/*.dcm")}
    unlabelled = len(files.keys() - set(frame["study"]))
    if unlabelled:
        log.info("siim: %d DICOM file(s) without a row in %s are left out", unlabelled, path.name)
    # An ImageId without a DICOM file stays, for bad.on_missing_image to judge.
    frame["image"] = [files[name].as_posix() if name in files else name for name in frame["study"]]
    frame["patient"] = [files[name].parts[1] if name in files else name for name in frame["study"]]
    log.warning("siim: %s names no patients, every study folder counts as a patient of its own", path.name)
    frame["split"] = split_patients(frame["patient"], config)
    labels = {"pneumothorax": LabelRule("EncodedPixels", numeric=dict(BINARY_CODING))}
    return LAYOUT.studies(config, root, frame, path, labels, ontology, salt, key)


def _images(rows: pd.DataFrame, path: Path, key: str) -> pd.DataFrame:
    """One row per image, the first of its rows in the table: `study` (ImageId), `EncodedPixels` 1 (any mask) or 0 (-1).

    Any other `EncodedPixels` becomes a word outside the coding, for bad.on_bad_label to judge.
    """
    ids = pd.Series(column(rows, "ImageId", path, f"{key}.root"), index=rows.index)
    cells = pd.Series(column(rows, "EncodedPixels", path, f"{key}.root"), index=rows.index)
    states = pd.Series(np.where(cells == "-1", "0", "neither -1 nor a mask"), index=rows.index, dtype=object)
    states = states.mask(cells.str.fullmatch(MASK).astype(bool), "1")
    mixed = states.groupby(ids).transform("nunique") > 1
    frame = pd.DataFrame({"study": ids, "EncodedPixels": states.mask(mixed, "rows that disagree")})
    return frame.drop_duplicates("study")
