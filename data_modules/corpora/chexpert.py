"""CheXpert (Irvin et al., AAAI 2019, arXiv 1901.07031): the small release, or the full one in its batch folders.

Test labels are `groundtruth.csv` of rajpurkarlab/cheXpert-test-set-labels (500 studies, 0 or 1). Reports come from
CheXpert Plus (Chambon et al. 2024, arXiv 2405.19538) where its table lies below root.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import column, load
from data_modules.corpora.official import CHEXPERT_CODING, Layout, renamed, words
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched, watched_glob

LAYOUT = Layout(
    reader="chexpert",
    title="CheXpert",
    access="Stanford AIMI, research use agreement: https://aimi.stanford.edu/datasets/chexpert-chest-x-rays",
    tree="""
train.csv, valid.csv                            in the full release below `CheXpert-v1.0 batch 1 (validate & csv)`
train/patient00001/study1/view1_frontal.jpg     in the full release `CheXpert-v1.0 batch 2 (train 1)/patient00001/..`
valid/patient64541/study1/view1_frontal.jpg
groundtruth.csv                                 optional: github.com/rajpurkarlab/cheXpert-test-set-labels
test/patient64741/study1/view1_frontal.jpg      optional
df_chexpert_plus_240401.csv                     optional: reports of CheXpert Plus
""",
    published={"train": 223_414, "val": 234},
)
WORDS = words("chexpert")
LABELS = {finding: names[0] for finding, names in WORDS.items()}
"""Finding -> column; read by name, since files differ in the order of the columns. MIMIC-CXR has the same columns."""
BATCHES = "CheXpert-v1.0 batch *"
PLUS = "df_chexpert_plus_240401.csv"
TAIL = re.compile(
    r"(?:^|/)(?P<split>train|valid|test)/(?P<patient>patient\d+)/(?P<number>study\d+)(?:/(?P<view>[^/]+))?$"
)


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return the studies of all splits that are there; `keep: {Frontal/Lateral: [Frontal]}` leaves the laterals out."""
    homes = folders_of(root)
    folders = patient_folders(root, homes)
    frames = labelled(root, homes, key)
    if watched(truth := root / "groundtruth.csv").is_file():
        frames.append(_test(truth, root, folders, key))
    frame = pd.concat(frames).fillna("")
    frame["image"] = images(frame, folders)
    frame["study"] = frame["patient"] + "/" + frame["number"]
    frame["view"] = frame["AP/PA"].where(frame["AP/PA"] != "", frame["Frontal/Lateral"])
    frame = frame.rename(columns={"Sex": "sex", "Age": "age"})
    if watched(plus := root / PLUS).is_file():
        frame["report"] = reports(plus, key, frame)
    labels = {finding: LabelRule(name, numeric=dict(CHEXPERT_CODING)) for finding, name in LABELS.items()}
    return LAYOUT.studies(config, root, frame, root / "train.csv", labels, ontology, salt, key)


def folders_of(root: Path) -> list[Path]:
    """root, and the batch folders of the full release."""
    return [root, *(path for path in watched_glob(root, BATCHES) if watched(path).is_dir())]


def labelled(root: Path, homes: list[Path], key: str) -> list[pd.DataFrame]:
    """train.csv and valid.csv, as of `placed`."""
    tables = [home.relative_to(root).as_posix() + "/" for home in homes]
    frames = []
    for name, split in (("train.csv", "train"), ("valid.csv", "val")):
        frame, path = LAYOUT.load(root, key, *(f"{home}{name}" for home in tables))
        frames.append(placed(frame, "Path", path, split, key))
    return frames


def images(frame: pd.DataFrame, folders: dict[str, str]) -> pd.Series:
    """Path of each row's image relative to root, by the folders of `patient_folders`."""
    nominal = frame["folder"] + "/" + frame["patient"]
    return frame["patient"].map(folders).fillna(nominal) + "/" + frame["number"] + "/" + frame["file"]


def patient_folders(root: Path, homes: list[Path]) -> dict[str, str]:
    """Patient -> folder relative to root, since `Path` does not say in which batch a patient lies."""
    found = {}
    for home in homes:
        for folder in (home, *(home / name for name in ("train", "valid", "test"))):
            for path in watched_glob(folder, "patient*"):
                found[path.name] = path.relative_to(root).as_posix()
    return found


def placed(
    frame: pd.DataFrame, where: str, path: Path, split: str, key: str, findings: Iterable[str] = LABELS
) -> pd.DataFrame:  # fmt: skip
    """`frame` with the parts of its column of paths and the file it is from; columns of `findings` are looked for."""
    frame = renamed(frame, WORDS)
    for name in (LABELS[finding] for finding in findings):
        column(frame, name, path, f"{key}.root")
    parts = [TAIL.search(cell) for cell in column(frame, where, path, f"{key}.root")]
    for row, part in zip(frame.index, parts, strict=True):
        if part is None:
            raise InputError(f"{path} row {row}: the path does not end in train/patient../study../view..; correct it")
    found = [part.groupdict() for part in parts if part is not None]
    return frame.assign(
        patient=[part["patient"] for part in found], number=[part["number"] for part in found],
        file=[part["view"] or "" for part in found], folder=[part["split"] for part in found],
        split=split, source=str(path),
    )  # fmt: skip


def _test(truth: Path, root: Path, folders: dict[str, str], key: str) -> pd.DataFrame:
    """The labelled test studies, one row per image that is there, or for the first view where there is none."""
    table = load(truth, f"{key}.root")
    studies = placed(table, "Study", truth, "test", key)
    patients = studies["patient"].map(lambda patient: folders.get(patient, f"test/{patient}"))
    views = [
        [view.name for view in watched_glob(root, f"{patient}/{number}/view*.jpg")] or ["view1_frontal.jpg"]
        for patient, number in zip(patients, studies["number"], strict=True)
    ]
    images = studies.assign(file=pd.Series(views, index=studies.index)).explode("file")
    images["Frontal/Lateral"] = images["file"].map(lambda name: "Lateral" if "lateral" in name else "Frontal")
    return images


def reports(plus: Path, key: str, frame: pd.DataFrame) -> pd.Series:
    """The report of each row's study (CheXpert Plus repeats it for every image); empty where there is none."""
    table = load(plus, f"{key}.root")
    studies = [cell.rpartition("/")[0] for cell in column(table, "path_to_image", plus, f"{key}.root")]
    known = dict(zip(studies, column(table, "report", plus, f"{key}.root"), strict=True))
    return (frame["folder"] + "/" + frame["study"]).map(known).fillna("")
