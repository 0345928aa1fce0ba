"""RAD-ChestCT (Draelos et al., Medical Image Analysis 2021, arXiv 2002.04752): the 3,630 public scans of 35,747.

The label tables have one column per abnormality and place, `nodule*right_upper`. A finding is present where a label
that means it, exactly or more narrowly, stands at any place, as CT-CLIP and hlip score them; so a nodule of the thyroid
counts too. There are no reports. Patients are those of MRN_DEID.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import column
from data_modules.corpora.official import Layout
from data_modules.corpora.terms import CODING, MALFORMED
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched, watched_glob

SPLITS = {"train": "imgtrain", "val": "imgvalid", "test": "imgtest"}
TABLE = "{}_Abnormality_and_Location_Labels.csv"
SCANS = ("Summary_3630.csv", "CT_Scan_Metadata_Complete_35747.csv")
SCAN, PATIENT = "NoteAcc_DEID", "MRN_DEID"
LAYOUT = Layout(
    reader="rad_chestct",
    title="RAD-ChestCT",
    access="Zenodo, under the terms of its page: https://zenodo.org/records/6406114",
    tree="""
imgtrain_Abnormality_and_Location_Labels.csv, imgvalid_.., imgtest_..
Summary_3630.csv                                or CT_Scan_Metadata_Complete_35747.csv: scan -> patient
trn00001.npz, val00001.npz, tst00001.npz        or all below images/; array `ct`, HU
""",
    published={"train": 2_286, "val": 984, "test": 360},
    ct=True,
)
YES, NO = ("1", "1.0"), ("0", "0.0")


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per scan; with `split_fractions.test` 1 all are test scans, for runs trained elsewhere."""
    patients = _patients(root, key)
    wanted = meaning(ontology)
    frames = []
    for split, name in SPLITS.items():
        wide, path = LAYOUT.load(root, key, TABLE.format(name))
        frame = _findings(wide, wanted, ontology.disputed("rad_chestct"), path, key).assign(
            split=split, source=str(path)
        )
        frame["patient"] = frame[SCAN].map(patients)
        for row in frame.index[frame["patient"].isna()][:1]:
            raise InputError(f"{path} row {row}: no row of {SCANS[0]} or {SCANS[1]} names the patient of this scan")
        frames.append(frame)
    frame = pd.concat(frames)
    folder = "" if watched_glob(root, "*.npz") or not watched(root / "images").is_dir() else "images/"
    layout = LAYOUT
    if config.split_fractions.test == 1:
        frame["split"], layout = "test", replace(LAYOUT, published={"test": sum(LAYOUT.published.values())})
    frame["image"], frame["study"] = folder + frame[SCAN] + ".npz", frame[SCAN]
    labels = {finding: LabelRule(finding, numeric=dict(CODING)) for finding in wanted}
    table = root / TABLE.format(SPLITS["train"])
    return layout.studies(config, root, frame, table, labels, ontology, salt, key)


def meaning(ontology: Ontology) -> dict[str, list[str]]:
    """Return finding -> the abnormalities of this corpus that mean it, its own first.

    Other than label lists, every column is filled in, so that what is narrower by the ontology's parents alone (such as
    a consolidation, which is an opacity) does not overrule the zero of a label's own column.
    """
    return {name: list(labels) for name, labels in ontology.labels("rad_chestct").items()}


def _patients(root: Path, key: str) -> pd.Series:
    """Scan -> patient; InputError for a scan of two patients."""
    table, path = LAYOUT.load(root, key, *SCANS)
    for name in (SCAN, PATIENT):
        column(table, name, path, f"{key}.root")
    pairs = table[[SCAN, PATIENT]].drop_duplicates()
    for row in pairs.index[pairs[SCAN].duplicated()][:1]:
        raise InputError(f"{path} row {row}: its {SCAN} has another {PATIENT} in an earlier row; keep one")
    return pairs.set_index(SCAN)[PATIENT]


def _findings(
    wide: pd.DataFrame, wanted: dict[str, list[str]], disputed: dict[str, set[str]], path: Path, key: str
) -> pd.DataFrame:  # fmt: skip
    """Columns NoteAcc_DEID and 1, 0 or blank per finding; a cell that is neither 1 nor 0 makes its finding MALFORMED.

    Blank is a finding beside a wider or a loose label alone.
    """
    scans = column(wide, SCAN, path, f"{key}.root")
    places: dict[str, list[str]] = {}
    for name in wide.columns:
        label, star, _ = str(name).partition("*")
        if star:
            places.setdefault(label.strip(), []).append(name)
    columns: dict[str, object] = {SCAN: scans}
    for finding, labels in wanted.items():
        if labels[0] not in places:
            raise InputError(f"{path}: has no column '{labels[0]}*..' of any place; take the published file")
        cells, open_ = (
            wide[[name for label in names for name in places.get(label, ())]] for names in (labels, disputed[finding])
        )
        there, sound = cells.isin(YES).any(axis=1), cells.isin(YES + NO).all(axis=1)
        words = there.map({True: "1", False: "0"}).mask(~there & open_.isin(YES).any(axis=1), "")
        columns[finding] = words.where(sound, MALFORMED)
    return pd.DataFrame(columns, index=wide.index, dtype=object)
