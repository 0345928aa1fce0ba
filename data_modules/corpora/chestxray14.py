"""NIH ChestX-ray14 (Wang et al., CVPR 2017): 112,120 frontal images of 30,805 patients, labels mined from reports.

Reports were not published. The official lists split by patient but without validation, which is held out of training.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from data_modules.corpora.csv_file import column
from data_modules.corpora.official import Layout, hold_out, tell_size, words
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.errors import InputError, nearest
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched, watched_glob

LAYOUT = Layout(
    reader="chestxray14",
    title="NIH ChestX-ray14",
    access="NIH Clinical Center, free use with credit: https://nihcc.app.box.com/v/ChestXray-NIHCC",
    tree="""
Data_Entry_2017_v2020.csv                       or the older Data_Entry_2017.csv
train_val_list.txt, test_list.txt               one file name per line
images_001/images/00000001_000.png              .. images_012/images, or all in images/00000001_000.png
""",
    published={"test": 25_596},
)
TRAIN_VAL = 86_524
"""Images of train_val_list.txt; no published number of their two parts, since hold_out draws them."""
NAMES = words("nih")
LABELS = {finding: names[0] for finding, names in NAMES.items()}
"""Finding -> word in the column of labels."""
OTHERS = {other: first for first, *rest in NAMES.values() for other in rest}
"""Further spellings, as of the list of boxes."""
IMAGE, WORDS, SEX = "Image Index", "Finding Labels", ("Patient Gender", "Patient Sex")
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per image; `keep: {View Position: [PA]}` leaves the AP images out.

    `split_fractions.val` of the patients of train_val_list.txt become the validation split.
    """
    frame, path = LAYOUT.load(root, key, "Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
    names, cells = (pd.Series(column(frame, name, path, f"{key}.root"), frame.index) for name in (IMAGE, WORDS))
    cells = cells.map(
        {cell: "|".join(OTHERS.get(word.strip(), word) for word in cell.split("|")) for cell in cells.unique()}
    )
    check_labels(cells, path)
    frame[WORDS] = cells
    sex = next((name for name in SEX if name in frame), SEX[0])
    for own, name in {"patient": "Patient ID", "view": "View Position", "age": "Patient Age", "sex": sex}.items():
        frame[own] = column(frame, name, path, f"{key}.root")
    frame["study"] = names
    frame["image"] = names.map(_places(root, key)).fillna("images/" + names)
    frame["split"] = _official(names, root, path, key)
    tell_size("chestxray14/train and val", int((frame["split"] == "train").sum()), TRAIN_VAL)
    frame["split"] = hold_out(frame, config)
    labels = {finding: LabelRule(WORDS, token=word) for finding, word in LABELS.items()}
    return LAYOUT.studies(config, root, frame, path, labels, ontology, salt, key)


def check_labels(cells: pd.Series, path: Path) -> None:
    """InputError for a word that is no label, since the label it stands for would read as absent."""
    for cell in cells.unique():
        for word in (part.strip() for part in cell.split("|")):
            if word not in LABELS.values():
                row = cells.index[cells == cell][0]
                hint = nearest(word, LABELS.values())
                raise InputError(f"{path} row {row}: column '{WORDS}' holds a word that is no NIH label{hint}")


def _places(root: Path, key: str) -> dict[str, str]:
    """File name -> path relative to root, since the table does not say in which folder an image lies."""
    folders = [path for path in (root / "images", *watched_glob(root, "images_*/images")) if watched(path).is_dir()]
    if not folders:
        LAYOUT.find(root, key, "images_001/images", "images")
    return {name: f"{folder.relative_to(root).as_posix()}/{name}" for folder in folders for name in os.listdir(folder)}


def _official(names: pd.Series, root: Path, path: Path, key: str) -> pd.Series:
    """train or test of every image of the table; InputError for one that is in neither list or in both."""
    splits = pd.Series("", index=names.index, dtype=object)
    for file, split in LISTS.items():
        listed = names.isin(_listed(root, file, key))
        _refuse(listed & (splits != ""), path, f"both {' and '.join(LISTS)}")
        splits = splits.mask(listed, split)
    _refuse(splits == "", path, f"neither {' nor '.join(LISTS)}")
    return splits


def _listed(root: Path, file: str, key: str) -> Iterable[str]:
    """The names of a list, which has no header: its first line is a name too."""
    frame, _ = LAYOUT.load(root, key, file)
    return [*frame.columns, *frame.to_numpy().ravel()]


def _refuse(bad: pd.Series, path: Path, where: str) -> None:
    for row in bad.index[bad][:1]:
        raise InputError(f"{path} row {row}: the image is in {where} ({int(bad.sum())} such row(s)); correct the lists")
