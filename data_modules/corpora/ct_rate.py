"""CT-RATE (Hamamci et al. 2024, arXiv 2403.17834): chest CT with reports, in either release of its volumes.

A classifier read the labels from the reports, one vector per scan, so the first reconstruction stands for its scan; the
coverage counts the others under `filtered`. The official validation split is the test split, as in the literature, and
validation is held out of the training patients.

`train_fixed` and `valid_fixed` hold Hounsfield units. The volumes of the first release, `train` and `valid`, have blank
headers (discussion 58 of the dataset): slope and intercept are those of the metadata table, and apply to them alone.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import column
from data_modules.corpora.official import BINARY_CODING, Layout, hold_out, tell_size, words
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.reports import sections, undivided
from data_modules.study import StudyTable
from data_modules.table_store import watched

log = logging.getLogger(__name__)
LAYOUT = Layout(
    reader="ct_rate",
    title="CT-RATE",
    access="Hugging Face, gated, CC BY-NC-SA 4.0: https://huggingface.co/datasets/ibrahimhamamci/CT-RATE",
    tree="""
dataset/multi_abnormality_labels/train_predicted_labels.csv, valid_predicted_labels.csv    or validation_predicted_..
dataset/radiology_text_reports/train_reports.csv, validation_reports.csv
dataset/metadata/train_metadata.csv, validation_metadata.csv
dataset/metadata/no_chest_train.txt, no_chest_valid.txt       optional: volumes that are left out
dataset/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz      or dataset/train/.. of the first release
dataset/valid_fixed/valid_1/valid_1_a/valid_1_a_1.nii.gz      or dataset/valid/..
""",
    published={"test": 1_564},
    ct=True,
)
WITHOUT_CHESTLESS = replace(LAYOUT, published={})
"""Published are the scans before any is left out."""
VOLUMES = {"train": 47_149, "valid": 3_039}
"""Published reconstructions."""
SPLITS = {"train": "train", "valid": "validation"}
"""Split as in names of volumes -> as in names of tables."""
LABELS = {finding: names[0] for finding, names in words("ct_rate").items()}
"""Finding -> column."""
SECTIONS = {
    "indication": "ClinicalInformation_EN", "technique": "Technique_EN",
    "findings": "Findings_EN", "impression": "Impressions_EN",
}  # fmt: skip
NAME = re.compile(
    r"(?P<volume>(?P<study>(?P<patient>(?P<split>train|valid)_[0-9]+)_[a-z]+)_(?P<number>[0-9]{1,9}))(?:\.nii\.gz)?"
)
DAMAGED = ("train_1267_a_4", "train_11755_a_3", "train_11755_a_4")
"""Volumes without a distance of slices; hlip leaves them out too."""
MARKS = str.maketrans("", "", "\"'()[]")
"""What the published scripts take out of reports."""
HEADING = re.compile(r"\b[A-Z][A-Z /-]*[A-Z](?= *:)")


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per scan. `report_sections` may also name indication and technique.

    Volumes that are not there, as in a part of the download, follow `bad.on_missing_image`.
    """
    home = "dataset/" if watched(root / "dataset").is_dir() else ""
    left_out: Counter[str] = Counter()
    read_all = [_volumes(root, home, split, config, key, left_out) for split in SPLITS]
    frame = pd.concat([found for found, _ in read_all])
    frame["split"] = hold_out(frame, config)
    layout = WITHOUT_CHESTLESS if left_out["volumes that show no chest"] else LAYOUT
    labels = {finding: LabelRule(name, numeric=dict(BINARY_CODING)) for finding, name in LABELS.items()}
    found = layout.studies(config, root, frame, read_all[0][1], labels, ontology, salt, key, left_out)
    for reason, count in left_out.items():
        log.info("ct_rate: %d %s are left out", count, reason)
    return found


def _volumes(
    root: Path, home: str, split: str, config: CorpusConfig, key: str, left_out: Counter[str]
) -> tuple[pd.DataFrame, Path]:
    """One row per scan of an official split, and the path of its label table; `left_out` gains the other volumes."""
    word = SPLITS[split]
    names = [f"{home}multi_abnormality_labels/{name}_predicted_labels.csv" for name in (split, word)]
    frame, path = _load(root, key, split, *dict.fromkeys(names))
    tell_size(f"ct_rate/{split}", len(frame), VOLUMES[split], "volume")
    for name in LABELS.values():
        column(frame, name, path, f"{key}.root")
    distinct = frame.drop_duplicates(["study", *LABELS.values()])
    for row in distinct.index[distinct["study"].duplicated()][:1]:
        raise InputError(f"{path} row {row}: has other labels than an earlier volume of its scan; correct the table")
    reports, place = _load(root, key, split, f"{home}radiology_text_reports/{word}_reports.csv")
    frame["report"] = frame["volume"].map(_reports(reports, place, config, key)).fillna("")
    metadata, where = _load(root, key, split, f"{home}metadata/{word}_metadata.csv")
    metadata = metadata.set_index("volume")
    frame = _chests(frame, root / f"{home}metadata/no_chest_{split}.txt", left_out)
    folder, fixed = _folder(root, home, split)
    for name, of in {"slope": "RescaleSlope", "intercept": "RescaleIntercept"}.items():
        values = pd.Series(column(metadata, of, where, f"{key}.root"), index=metadata.index)
        frame[name] = "" if fixed else frame["volume"].map(values).fillna("")
        for row in frame.index[frame[name] == ""][: 0 if fixed else 1]:
            raise InputError(f"{where}: gives no {of} for the volume of {path.name} row {row}; take the published file")
    for name, of in {"sex": "PatientSex", "age": "PatientAge"}.items():
        frame[name] = frame["volume"].map(metadata[of]).fillna("") if of in metadata else ""
    frame["age"] = years(frame["age"])
    frame["image"] = folder + "/" + frame["patient"] + "/" + frame["study"] + "/" + frame["volume"] + ".nii.gz"
    return frame.assign(split="train" if split == "train" else "test", source=str(path)), path


def years(ages: pd.Series) -> pd.Series:
    """Return DICOM ages (055Y, 018M, 003W, 012D) and plain numbers as whole years; empty where there is none."""
    parts = ages.str.extract(r"^([0-9]+)(?:\.[0-9]+)?([YMWD]?)$")
    per_year = parts[1].map({"M": 12, "W": 52, "D": 365}).fillna(1)
    found = parts[0].astype(float) // per_year
    return found.map(lambda age: "" if pd.isna(age) else str(int(age))).astype(object)


def _load(root: Path, key: str, split: str, *names: str) -> tuple[pd.DataFrame, Path]:
    """A table with the parts of its VolumeName as columns, and its path; InputError for a name of another form."""
    frame, path = LAYOUT.load(root, key, *names)
    parts = [NAME.fullmatch(cell) for cell in column(frame, "VolumeName", path, f"{key}.root")]
    for row, part in zip(frame.index, parts, strict=True):
        if part is None or part["split"] != split:
            raise InputError(f"{path} row {row}: VolumeName is not of the form {split}_1_a_1.nii.gz; correct it")
    found = [part.groupdict() for part in parts if part is not None]
    for name in ("volume", "study", "patient", "number"):
        frame[name] = pd.Series([part[name] for part in found], index=frame.index, dtype=object)
    for row in frame.index[frame["volume"].duplicated()][:1]:
        raise InputError(f"{path} row {row}: has the VolumeName of an earlier row; keep one")
    return frame, path


def _chests(frame: pd.DataFrame, no_chest: Path, left_out: Counter[str]) -> pd.DataFrame:
    """The first usable reconstruction of each scan, in the order of the table."""
    there = watched(no_chest).is_file()
    listed = no_chest.read_text(encoding="utf-8", errors="replace").split() if there else []
    chestless = {line.rpartition("/")[2].removesuffix(".nii.gz") for line in listed}
    for reason, names in {"volumes that show no chest": chestless, "volumes known to be damaged": DAMAGED}.items():
        out = frame["volume"].isin(list(names))
        left_out[reason] += int(out.sum())
        frame = frame[~out]
    order = frame["number"].astype(int).sort_values(kind="stable").index
    first = frame.loc[order].drop_duplicates("study").sort_index()
    left_out["further reconstructions of a scan"] += len(frame) - len(first)
    return first


def _folder(root: Path, home: str, split: str) -> tuple[str, bool]:
    """Where the volumes of a split lie below root, and whether they are in HU: the fixed release where both are."""
    fixed, first = f"{home}{split}_fixed", f"{home}{split}"
    both = [watched(root / name).is_dir() for name in (fixed, first)]
    if both != [False, True]:
        if all(both):
            log.info("ct_rate: %s and %s are both there; %s, which is in HU, is read", first, fixed, fixed)
        return fixed, True
    log.warning(
        "ct_rate: %s is of the first release: HU come from the metadata table, but spacing and orientation are not in "
        "the headers, so sides and slices every so many mm cannot be trusted; %s has both",
        first, fixed,
    )  # fmt: skip
    return first, False


def _reports(reports: pd.DataFrame, path: Path, config: CorpusConfig, key: str) -> pd.Series:
    """Volume -> the wanted sections under their headings; empty where all are, so that no other section stands in."""
    for name in ("Findings_EN", "Impressions_EN"):
        column(reports, name, path, f"{key}.root")
    wanted = [name for name in SECTIONS if name in config.report_sections and SECTIONS[name] in reports]
    # Reconstructions share their report, which is read once.
    distinct = {name: {cell: section(cell) for cell in reports[SECTIONS[name]].unique()} for name in wanted}
    bodies = {name: reports[SECTIONS[name]].map(distinct[name]).tolist() for name in wanted}
    texts = [
        "\n".join(f"{name.upper()}: {bodies[name][i]}" for name in wanted if bodies[name][i])
        for i in range(len(reports))
    ]
    return pd.Series(texts, index=reports["volume"], dtype=object)


def section(cell: str) -> str:
    """Return a cell of the report table on one line, without quotes and brackets; empty for "Not given.".

    A heading inside, such as CONCLUSION:, loses its capitals and its colon: the cell is one section, which it must not
    cut in two.
    """
    text = " ".join(cell.translate(MARKS).split())
    if text.casefold().rstrip(".") in ("not given", "nan"):
        return ""
    if not sections(text).keys() - {""}:
        return text
    return undivided(HEADING.sub(lambda found: found[0].capitalize(), text))
