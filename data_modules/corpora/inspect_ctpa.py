"""INSPECT (Huang et al., NeurIPS 2023, arXiv 2311.10798): CT pulmonary angiograms with impressions of their reports.

The tables carry the date of the release in their names. A classifier read the labels from the impressions. The module
is not called `inspect`, as the standard library has one; the reader is.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import column, split_words
from data_modules.corpora.official import Layout, tell_size, words
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched_glob

log = logging.getLogger(__name__)
LAYOUT = Layout(
    reader="inspect",
    title="INSPECT",
    access="Stanford AIMI and Redivis, research use agreement: https://stanford.redivis.com/datasets/2n96-d71hggrbf",
    tree="""
study_mapping_20250611.tsv                      impression -> image and person; the date may be another
splits_20250611.tsv, labels_20250611.tsv, impressions_20250611.tsv
CTPA/PE45f2c1a.nii.gz
""",
    published={"train": 18_937, "val": 1_089, "test": 3_214},
    ct=True,
)
WHOLE = replace(LAYOUT, published={})
"""Published per split are the studies whose CT is there, which is known only once files are looked for."""
STUDIES = 23_248
LABELS = words("inspect")
"""Finding -> columns, of which the first that is there counts."""
WORDS = {"true": "1", "false": "0", "censored": "", "nan": ""}
"""What stands for numbers in some columns of the release."""
CODING = {1: "present", 0: "absent", "blank": "unmentioned"}
STUDY = "impression_id"


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per impression; CTs that are not there follow `bad.on_missing_image`."""
    tables = {stem: _load(root, key, stem) for stem in ("study_mapping", "splits", "labels", "impressions")}
    path, where = tables["study_mapping"][1], tables["splits"][1]
    frame = _columns(*tables["study_mapping"], key, STUDY, "image_id", "person_id")
    splits = _columns(*tables["splits"], key, STUDY, "split")
    splits["split"] = split_words(splits, "split", where, f"{key}.root")
    left_out = {
        "repeated rows of splits": int(splits[STUDY].duplicated().sum()),
        "rows of splits without their study": _orphans(splits, where, frame, path, config, key),
        "studies without a split": _orphans(frame, path, splits, where, config, key),
    }
    frame["split"] = frame[STUDY].map(_single(splits, where)["split"])
    frame = frame[frame["split"].notna()].copy()
    tell_size("inspect", frame[STUDY].nunique(), STUDIES, "study")
    labels, rules = _labels(*tables["labels"], key)
    frame = frame.join(labels, on=STUDY)
    texts = _single(_columns(*tables["impressions"], key, STUDY, "impressions"), tables["impressions"][1])
    frame["report"] = frame[STUDY].map(texts["impressions"]) if "impression" in config.report_sections else ""
    ids = frame["image_id"].str.removesuffix(".nii.gz")
    frame["image"] = ("CTPA/" + ids + ".nii.gz").mask(ids == "", "")
    frame = frame.rename(columns={STUDY: "study", "person_id": "patient"}).fillna("")
    return WHOLE.studies(config, root, frame, path, rules, ontology, salt, key, left_out)


def _load(root: Path, key: str, stem: str) -> tuple[pd.DataFrame, Path]:
    """The one table of a stem, and its path; InputError where tables of several releases lie below root."""
    names = [path.name for path in watched_glob(root, f"{stem}_[0-9]*.tsv")]
    if len(names) > 1:
        raise InputError(f"{key}.root={root}: holds {len(names)} tables {stem}_DATE.tsv ({', '.join(names)}); keep one")
    return LAYOUT.load(root, key, *(names or [f"{stem}_DATE.tsv"]))


def _columns(table: pd.DataFrame, path: Path, key: str, *names: str) -> pd.DataFrame:
    return pd.DataFrame({name: column(table, name, path, f"{key}.root") for name in names}, index=table.index)


def _single(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows by study, each once; InputError for a study whose rows differ."""
    distinct = rows.drop_duplicates()
    for row in distinct.index[distinct[STUDY].duplicated()][:1]:
        raise InputError(f"{path} row {row}: differs from an earlier row of its {STUDY}; keep one")
    return distinct.set_index(STUDY)


def _orphans(
    rows: pd.DataFrame, path: Path, others: pd.DataFrame, other: Path, config: CorpusConfig, key: str
) -> int:  # fmt: skip
    """How many rows have no row of their study in another table; InputError where that is an error."""
    alone = rows.index[~rows[STUDY].isin(others[STUDY])]
    if len(alone) and config.bad.on_split_orphan == "error":
        raise InputError(
            f"{path} row {alone[0]}: {other.name} has no row of its {STUDY} ({len(alone)} such row(s)); correct one of "
            f"the two or set {key}.bad.on_split_orphan=skip"
        )
    return len(alone)


def _labels(table: pd.DataFrame, path: Path, key: str) -> tuple[pd.DataFrame, dict[str, LabelRule]]:
    """The label columns by study, and finding -> rule; the kinds of embolism only where the release has them."""
    chosen = {finding: next((name for name in names if name in table), names[0]) for finding, names in LABELS.items()}
    for finding in list(chosen)[1:]:
        if chosen[finding] not in table:
            log.info("inspect: %s has no column %s, so that %s is not labelled", path.name, chosen[finding], finding)
            del chosen[finding]
    cells = _columns(table, path, key, STUDY, *chosen.values())
    for name in chosen.values():
        cells[name] = [WORDS.get(cell.casefold(), cell) for cell in cells[name]]
    return _single(cells, path), {finding: LabelRule(name, numeric=dict(CODING)) for finding, name in chosen.items()}
