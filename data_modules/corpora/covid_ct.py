"""COVID-CT (Yang et al. 2020, arXiv 2003.13865): single CT pictures cut from papers, COVID-19 or not.

The folder of a picture is its label (upstream code counts COVID as class 0). Names hold `%` and are file names as they
stand. Which pictures are of one patient is known only where the tables of meta information lie below root; a patient of
several lists then keeps the rows of the test list, else of the validation list, and the coverage counts the others.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import column, load, read_list
from data_modules.corpora.official import BINARY_CODING, Layout
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched

log = logging.getLogger(__name__)
LAYOUT = Layout(
    reader="covid_ct",
    title="COVID-CT",
    access="open, figures of preprints: https://github.com/UCSD-AI4H/COVID-CT",
    tree="""
Images-processed/CT_COVID/FILE, CT_NonCOVID/FILE        unpacked from CT_COVID.zip and CT_NonCOVID.zip
Data-split/COVID/trainCT_COVID.txt, valCT_.., testCT_.. one file name a line
Data-split/NonCOVID/trainCT_NonCOVID.txt, ..
COVID-CT-MetaInfo.csv, NonCOVID-CT-MetaInfo.csv         optional: patients; the former saved as CSV from its .xlsx
""",
    published={"train": 425, "val": 118, "test": 203},
    ct=True,
)
CLASSES = {"COVID": "1", "NonCOVID": "0"}
SPLITS = ("test", "val", "train")
"""In the order in which a patient of several lists is kept."""
PATIENTS = {
    "COVID": ("COVID-CT-MetaInfo.csv", "File name", "Patient ID"),
    "NonCOVID": ("NonCOVID-CT-MetaInfo.csv", "image name", "patient id"),
}
"""Class -> table, its column of files, its column of patients."""
SUFFIXES = (".png", ".jpg", ".jpeg")


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per picture; without a table of patients each is a patient of its own."""
    frame = pd.concat([_class(root, kind, key) for kind in CLASSES])
    alone = frame["patient"] == ""
    if alone.any():
        log.warning(
            "covid_ct: no table names the patients of %d of %d images; each counts as a patient of its own, so that "
            "whether the lists keep patients apart cannot be checked",
            int(alone.sum()), len(frame),
        )  # fmt: skip
    frame["patient"] = frame["patient"].mask(alone, frame["study"])
    kept = frame["patient"].map(frame.groupby("patient")["split"].agg(lambda found: min(found, key=SPLITS.index)))
    elsewhere = frame["split"] != kept
    labels = {"covid19": LabelRule("covid", numeric=dict(BINARY_CODING))}
    path = root / "Data-split"
    left_out = {"images of patients who are in the test or validation list too": int(elsewhere.sum())}
    return LAYOUT.studies(config, root, frame[~elsewhere], path, labels, ontology, salt, key, left_out)


def _class(root: Path, kind: str, key: str) -> pd.DataFrame:
    """The lists of a class: one row per line, numbered from 1."""
    folder = LAYOUT.find(root, key, f"Images-processed/CT_{kind}", f"CT_{kind}")
    frames = []
    for split in SPLITS[::-1]:
        name = f"{split}CT_{kind}.txt"
        path = LAYOUT.find(root, key, f"Data-split/{kind}/{name}", name)
        lines = read_list(path)
        frames.append(pd.DataFrame({"file": lines, "split": split, "source": str(path)}, dtype=object))
    frame = pd.concat(frames)
    unlisted = sum(path.suffix.lower() in SUFFIXES for path in watched(folder).iterdir()) - frame["file"].nunique()
    if unlisted > 0:
        log.info("covid_ct: %d image(s) of CT_%s are in no list and left out", unlisted, kind)
    frame["image"] = f"{folder.relative_to(root).as_posix()}/" + frame["file"]
    frame["study"], frame["covid"] = f"CT_{kind}/" + frame["file"], CLASSES[kind]
    frame["patient"] = frame["file"].map(_stem).map(_patients(root, kind, key)).fillna("")
    return frame


def _stem(name: str) -> str:
    """A file name without its suffix, since the tables of patients write others than the files have."""
    head, dot, tail = name.rpartition(".")
    return head if f".{tail.lower()}" in SUFFIXES and dot else name


def _patients(root: Path, kind: str, key: str) -> dict[str, str]:
    """Stem of a file -> patient, apart for each class; empty without a table that can be read."""
    name, file, patient = PATIENTS[kind]
    path = root / name
    if not watched(path).is_file():
        return {}
    try:
        table = load(path, f"{key}.root")
        pairs = zip(*(column(table, of, path, f"{key}.root") for of in (file, patient)), strict=True)
    except InputError as error:
        log.warning("covid_ct: the patients of CT_%s stay unknown: %s", kind, error)
        return {}
    return {_stem(image): f"{kind} {who}" for image, who in pairs if who}
