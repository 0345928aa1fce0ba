"""PadChest (Bustos et al., Medical Image Analysis 2020, arXiv 1901.07441): 16-bit PNG with Spanish reports.

Rows that a physician labelled are the test set of the zero-shot literature (Zhang et al., KAD, 2023); the others were
labelled by a recurrent network and train. A patient who has both is a test patient only: rows of the network's are
left out and counted under `filtered` in the coverage. No validation split is published.
"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path

import pandas as pd

from data_modules.corpora import terms
from data_modules.corpora.csv_file import column
from data_modules.corpora.official import Layout, hold_out
from data_modules.corpus_config import CorpusConfig
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
LAYOUT = Layout(
    reader="padchest",
    title="PadChest",
    access="BIMCV, request form, research use only: https://bimcv.cipf.es/bimcv-projects/padchest/",
    tree=f"""
{TABLE}        or .csv.gz
0/<ImageID>, 1/<ImageID> .. 50/<ImageID>, 54/<ImageID>      also below `images`, or all PNG files flat in root
""",
    published={"test": 39_053},
)
SPLITS = {"Physician": "test", "RNN_model": "train"}
"""MethodLabel -> split."""
POOR = ("exclude", "suboptimal study")
"""Entries of Labels about the image, not the patient."""
SILENT = (*POOR, "unchanged")
"""Beside these nothing is absent for want of its term: the image shows too little, or an earlier report says it."""
COLUMNS = (
    "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection",
    "ReportID", "Report", "MethodLabel", "Labels",
)  # fmt: skip


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return the studies, one per report.

    `keep` may filter by `Projection` (PA, AP, AP_horizontal, L, COSTAL) and by `quality` (usable, suboptimal study,
    exclude: what Labels says of the image).
    """
    frame, path = LAYOUT.load(root, key, TABLE, f"{TABLE}.gz")
    for name in COLUMNS:
        column(frame, name, path, f"{key}.root")
    frame["patient"], frame["split"] = frame["PatientID"], frame["MethodLabel"].map(SPLITS)
    for row in frame.index[frame["split"].isna()][:1]:
        # The word is not shown: where columns are shifted it may be an identifier.
        raise InputError(f"{path} row {row}: column 'MethodLabel' is neither Physician nor RNN_model; correct it")
    tested = frame.loc[frame["split"] == "test", "patient"]
    both = (frame["split"] == "train") & frame["patient"].isin(tested)
    frame = frame[~both].copy()
    frame["split"] = hold_out(frame, config)
    frame["image"] = _folders(root, frame["ImageDir"]) + frame["ImageID"]
    # A study with two reports has two lists of labels, so each report is a study of its own.
    frame["study"] = frame["StudyID"].mask(frame["StudyID"] != "", frame["StudyID"] + "/" + frame["ReportID"])
    frame["age"] = _age(frame["StudyDate_DICOM"], frame["PatientBirth"])
    frame["quality"] = frame["Labels"].map({cell: _quality(cell) for cell in frame["Labels"].unique()})
    frame = frame.rename(columns={"Report": "report", "Projection": "view", "PatientSex_DICOM": "sex"})
    frame["Projection"] = frame["view"]
    ontology = ontology.extended(config.findings, f"{key}.findings", config.reader)
    columns, labels = terms.coded(frame["Labels"], names, SILENT, "padchest", ontology)
    frame = pd.concat([frame, columns], axis=1)
    left_out = {"RNN_model rows of patients with Physician rows": int(both.sum())}
    return LAYOUT.studies(config, root, frame, path, labels, ontology, salt, key, left_out)


def names(cell: str) -> set[str]:
    """Return the case-folded entries of a cell of Labels, a list in Python's notation; none where the cell is blank.

    ValueError for anything but a list of strings.
    """
    if not cell:
        return set()
    try:
        with warnings.catch_warnings(action="ignore"):  # of an odd escape in the text
            entries = ast.literal_eval(cell)
    except (SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("no list") from None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError("no list of strings")
    return {part.strip().casefold() for entry in entries for part in re.split("[,;|]", entry) if part.strip()}


def _quality(cell: str) -> str:
    try:
        there = names(cell)
    except ValueError:  # told as a value outside the coding, by row
        return "usable"
    return next((word for word in POOR if word in there), "usable")


def _folders(root: Path, numbers: pd.Series) -> pd.Series:
    """The folder of each row below root, with a closing slash; empty where images lie flat."""
    homes = {}
    for number in numbers.unique():
        there = [home for home in (number, f"images/{number}") if number and watched(root / home).is_dir()]
        homes[number] = f"{there[0]}/" if there else ""
    return numbers.map(homes)


def _age(date: pd.Series, birth: pd.Series) -> pd.Series:
    """Years from the year of birth to the date of the study (YYYYMMDD); empty where one is not known."""
    years = [cells.str.extract(r"^([0-9]{4})", expand=False).astype(float) for cells in (date, birth)]
    age = (years[0] - years[1]).astype("Int64")
    return age.astype(str).mask(age.isna(), "").astype(object)
