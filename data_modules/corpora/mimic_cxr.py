"""MIMIC-CXR (Johnson et al., Sci Data 2019; arXiv 1901.07042): the JPG release or the DICOM one, with its reports.

Labels, views and splits come from the tables of MIMIC-CXR-JPG (doi 10.13026/jsn5-t979), whose names say 2.0.0 in 2.1.0
too. Its 2.1.0 adds one radiologist's labels of a part of the test studies, read from the reports, not the images.
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from data_modules.corpora.chexpert import LABELS, WORDS
from data_modules.corpora.csv_file import column, load, split_words
from data_modules.corpora.labels import OUTSIDE, states_of
from data_modules.corpora.official import CHEXPERT_CODING, Layout, renamed
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.progress import Bar
from data_modules.study import StudyTable
from data_modules.table_store import watched

log = logging.getLogger(__name__)
SPLIT, METADATA, CHEXPERT = (f"mimic-cxr-2.0.0-{name}.csv" for name in ("split", "metadata", "chexpert"))
RADIOLOGIST = "mimic-cxr-2.1.0-test-set-labeled.csv"
ZIP = "mimic-cxr-reports.zip"
TREES = ("", "reports", "mimic-cxr-reports")
"""Folders of root below which `files/p10/..` may hold the reports."""
LAYOUT = Layout(
    reader="mimic_cxr",
    title="MIMIC-CXR",
    access="PhysioNet, credentialed users (Credentialed Health Data License 1.5.0):\n"
    "  https://physionet.org/content/mimic-cxr-jpg (tables, JPG)\n"
    "  https://physionet.org/content/mimic-cxr (reports, DICOM)",
    tree="""
mimic-cxr-2.0.0-split.csv.gz, mimic-cxr-2.0.0-metadata.csv.gz, mimic-cxr-2.0.0-chexpert.csv.gz
files/p10/p10000032/s50414267/<dicom_id>.jpg    or .dcm
mimic-cxr-reports.zip                           reports, read as it is; else unpacked, as the next line
files/p10/p10000032/s50414267.txt               or below reports/ or mimic-cxr-reports/
mimic-cxr-2.1.0-test-set-labeled.csv            optional: a radiologist's labels of test studies
""",
    published={"train": 368_960, "val": 2_991, "test": 5_159},
)
IDS = {
    "dicom_id": (r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}", "five groups of eight hexadecimal digits"),
    "study_id": (r"5\d{7}", "eight digits, the first a 5"),
    "subject_id": (r"1\d{7}", "eight digits, the first a 1"),
}
"""Column -> form and its words; paths are made of them, and a 50414267.0 would find no labels."""
MEMBER = re.compile(r"(?:^|/)(files/p1\d/p1\d{7}/s5\d{7}\.txt)\Z")
RULES = {finding: LabelRule(name, numeric=dict(CHEXPERT_CODING)) for finding, name in LABELS.items()}


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return the studies of all splits; `keep: {view: [PA, AP]}` leaves out laterals and images without a view.

    A column `test_labels` (radiologist or chexpert in test studies, else empty) and those of the metadata serve `keep`.
    """
    frame, path = LAYOUT.load(root, key, f"{SPLIT}.gz", SPLIT)
    for name in IDS:
        _check_ids(frame, name, path, key)
    frame["split"] = split_words(frame, "split", path, f"{key}.root")
    metadata, source = LAYOUT.load(root, key, f"{METADATA}.gz", METADATA)
    metadata["view"] = column(metadata, "ViewPosition", source, f"{key}.root")  # also under its own name, for `keep`
    metadata = _known_by("dicom_id", metadata, source, key)
    labels = _labels(*LAYOUT.load(root, key, f"{CHEXPERT}.gz", CHEXPERT), config, key)
    frame = frame.join(metadata.drop(columns=frame.columns, errors="ignore"), on="dicom_id")
    frame = frame.join(labels, on="study_id").fillna("")
    frame["test_labels"] = (frame["split"] == "test").map({True: "chexpert", False: ""})
    if watched(truth := root / RADIOLOGIST).is_file():
        _relabel(frame, truth, config, key)
    subject, study = frame["subject_id"], frame["study_id"]
    place = "files/p" + subject.str[:2] + "/p" + subject + "/s" + study
    stems = place + "/" + frame["dicom_id"]
    frame["image"] = stems + _suffix(root, stems)
    frame = frame.rename(columns={"subject_id": "patient", "study_id": "study"})
    names = place + ".txt"
    if texts := _reports(root, list(dict.fromkeys(names)), key):
        frame["report"] = names.map(texts).fillna("")
    else:
        log.warning("mimic_cxr: no report below root; dfat.text_source=report needs %s there", ZIP)
    return LAYOUT.studies(config, root, frame, path, RULES, ontology, salt, key)


def _check_ids(table: pd.DataFrame, name: str, path: Path, key: str) -> None:
    """InputError for the first cell of a column of identifiers that is not one; it is not shown."""
    form, words = IDS[name]
    known = [re.fullmatch(form, cell) is not None for cell in column(table, name, path, f"{key}.root")]
    if not all(known):
        row = table.index[known.index(False)]
        raise InputError(f"{path} row {row}: column '{name}' must hold {words}; take the published file")


def _known_by(name: str, table: pd.DataFrame, path: Path, key: str) -> pd.DataFrame:
    """`table` indexed by a column of identifiers; InputError for one that comes twice."""
    _check_ids(table, name, path, key)
    if len(twice := table.index[table[name].duplicated()]):
        raise InputError(f"{path} row {twice[0]}: has the {name} of an earlier row; keep one")
    return table.set_index(name)


def _labels(table: pd.DataFrame, path: Path, config: CorpusConfig, key: str) -> pd.DataFrame:
    """The label columns by study; faults are looked for here, since later row numbers are those of the split table."""
    table = renamed(table, WORDS)
    for rule in RULES.values():
        cells = column(table, rule.column, path, f"{key}.root")
        bad = table.index[states_of(rule, cells) == OUTSIDE]
        if len(bad) and config.bad.on_bad_label == "error":
            raise InputError(
                f"{path} row {bad[0]}: value outside the coding in column '{rule.column}' ({len(bad)} such row(s)); "
                f"correct the table or set {key}.bad.on_bad_label=skip"
            )
    return _known_by("study_id", table, path, key)[list(LABELS.values())]


def _relabel(frame: pd.DataFrame, truth: Path, config: CorpusConfig, key: str) -> None:
    """Put the radiologist's labels in place of those of the test studies that have them."""
    table = load(truth, f"{key}.root")
    labels = _labels(table, truth, config, key)
    test = frame["split"] == "test"
    mine = test & frame["study_id"].isin(labels.index)
    frame.loc[mine, labels.columns] = labels.loc[frame.loc[mine, "study_id"]].to_numpy()
    frame.loc[mine, "test_labels"] = "radiologist"
    done, among = (frame.loc[rows, "study_id"].nunique() for rows in (mine, test))
    log.info("mimic_cxr: a radiologist's labels for %d of %d test studies", done, among)


def _suffix(root: Path, stems: pd.Series) -> str:
    """The suffix of the first image that is there: which of the two releases lies below root."""
    for stem in stems:
        watched(os.path.dirname(f"{root}/{stem}"))
        for suffix in (".jpg", ".dcm"):
            if os.path.isfile(f"{root}/{stem}{suffix}"):  # pathlib takes five times as long, and all may be missing
                return suffix
    return ".jpg"


def _reports(root: Path, names: list[str], key: str) -> dict[str, str]:
    """Report file -> text, of those of `names` that are there: in the zip, else in the first tree that has the file."""
    read_all = _from_zip(root / ZIP, names) if watched(root / ZIP).is_file() else _from_trees(root, names)
    try:
        found = zip(names, Bar(read_all, "reports", len(names), unit="report"), strict=True)
        return {name: data.decode("utf-8", errors="replace") for name, data in found if data is not None}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:  # RuntimeError: encrypted
        # Neither the error's own text nor its file name is shown: both may hold identifiers.
        raise InputError(
            f"{key}.root={root}: a report cannot be read ({type(error).__name__}); copy the reports anew"
        ) from None


def _from_zip(path: Path, names: list[str]) -> Iterator[bytes | None]:
    with zipfile.ZipFile(path) as archive:
        ours = (match for match in map(MEMBER.search, archive.namelist()) if match)
        first = next(ours, None)
        folder = first.string[: first.start(1)] if first else ""  # repacked by hand, all may lie in one
        for name in names:
            try:
                yield archive.read(folder + name)
            except KeyError:
                yield None


def _from_trees(root: Path, names: list[str]) -> Iterator[bytes | None]:
    trees = [str(root / tree) for tree in TREES if watched(root / tree / "files").is_dir()]
    for name in names:
        yield next((data for tree in trees if (data := _content(watched(f"{tree}/{name}"))) is not None), None)


def _content(path: str) -> bytes | None:
    """The bytes of a file; None when there is none. Without pathlib, which costs as much as the reading."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
