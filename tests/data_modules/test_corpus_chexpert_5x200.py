"""CheXpert 5x200: the lists of GLoRIA and MedCLIP, one finding a row, the rest of CheXpert without their patients."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official import KEY, phantom, picture, read, states, write_table

from data_modules.corpora.chexpert import LABELS
from data_modules.corpora.chexpert_5x200 import FIVE
from data_modules.errors import InputError, MissingCorpus

LIST = "chexpert_5x200.csv"
NAMES = [LABELS[name] for name in FIVE]
IMAGES = ("patient00003/study1/view1_frontal", "patient00003/study1/view2_lateral", "patient00004/study7/view1_frontal")

STUDIES = tuple(f"{image}.jpg" for image in IMAGES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom("chexpert_5x200", tmp_path_factory.mktemp("layout") / "chexpert_5x200")


def cells(present: str, zero: str = "0.0") -> list[str]:
    """The five columns of one row."""
    return ["1.0" if name == present else zero for name in FIVE]


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """The list alone, as GLoRIA's has it: two images of one study with different findings, and a third."""
    found = zip(IMAGES, ("edema", "consolidation", "pleural_effusion"), strict=True)
    rows = [[f"CheXpert-v1.0/train/{image}.jpg", *cells(name), "No change."] for image, name in found]
    write_table(tmp_path / LIST, ["Path", *NAMES, "Report Impression"], rows)
    for image in IMAGES:
        picture(tmp_path / f"train/{image}.jpg")
    return tmp_path


def test_rows_of_a_list_are_images_of_one_finding(by_hand: Path) -> None:
    found = read("chexpert_5x200", by_hand)
    assert found.study_id.tolist() == list(STUDIES) and set(found.split) == {"test"}
    assert found.patient.tolist() == ["patient00003", "patient00003", "patient00004"]
    first = states(found, STUDIES[0])
    assert first == {name: "present" if name == "edema" else "absent" for name in FIVE}
    assert states(found, STUDIES[1])["consolidation"] == "present"
    assert len(set(found.reports)) == 1 and "No change." in found.reports[0]
    assert len(read("chexpert_5x200", by_hand, keep={"Frontal/Lateral": ["Frontal"]})) == 2


def test_the_list_of_medclip_has_other_names(by_hand: Path) -> None:
    mine = read("chexpert_5x200", by_hand)
    text = (by_hand / LIST).read_text().replace("Path,", "imgpath,").replace("CheXpert-v1.0/", "./data/CheXpert/data/")
    (by_hand / LIST).unlink()
    (by_hand / "chexpert-5x200-val-meta.csv").write_text(text.replace(",0.0", ","))
    theirs = read("chexpert_5x200", by_hand)
    assert theirs.study_id.tolist() == mine.study_id.tolist() and (theirs.states == mine.states).all()


def test_the_rest_of_chexpert_trains_without_patients_of_the_list(root: Path) -> None:
    found = read("chexpert_5x200", root)
    people = {split: set(found.patient[found.rows(split)]) for split in ("train", "val", "test")}
    assert all(people.values()) and not people["test"] & (people["train"] | people["val"])
    whole = read("chexpert", root)
    assert people["test"] < set(whole.patient[whole.rows("train")]) == people["train"] | people["test"]
    [left] = [count for what, count in found.coverage.filtered.items() if "patients of the list" in what]
    rows = (root / "train.csv").read_text().splitlines()[1:]
    assert left == sum(any(f"/{person}/" in row for person in people["test"]) for row in rows) > 0
    test = found.rows("test")
    five = [found.findings.index(name) for name in FIVE]
    assert ((found.states[test][:, five] == 1).sum(axis=1) == 1).all()
    with (root / LIST).open(newline="") as handle:
        wanted = Counter(name for row in csv.DictReader(handle) for name in NAMES if row[name] == "1.0")
    totals = dict(zip(NAMES, (found.states[test][:, five] == 1).sum(axis=0).tolist(), strict=True))
    assert totals == {name: wanted[name] for name in NAMES}


def test_reports_of_chexpert_plus_come_first(root: Path, tmp_path: Path) -> None:
    found = read("chexpert_5x200", root)
    assert np.array([bool(text) for text in found.reports])[found.rows("train")].all()
    copy = shutil.copytree(root, tmp_path / "copy")
    (copy / "df_chexpert_plus_240401.csv").unlink()
    own = read("chexpert_5x200", copy)
    assert np.array([bool(text) for text in own.reports])[own.rows("test")].all()
    assert not any(own.reports[row] for row in own.rows("train").tolist())


def _edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / LIST).unlink(), r"holds no chexpert_5x200\.csv or chexpert-5x200-val-meta\.csv"),
        (lambda r: _edit(r / LIST, "0.0,0.0,0.0,1.0", "0.0,0.0,1.0,1.0"), "row 2: must have 1 under one of Atel"),
        (lambda r: _edit(r / LIST, "0.0,1.0,0.0", "0.0,0.0,0.0"), "row 2: must have 1 under one of"),
        (lambda r: _edit(r / LIST, "0.0,0.0,0.0,1.0", "0.0,-1.0,0.0,1.0"), "row 2: must have 1 under one of"),
        (
            lambda r: (r / LIST).write_text((r / LIST).read_text().splitlines()[0]),
            "5x200.csv: has a header but no rows",
        ),
        (
            lambda r: shutil.copy(r / LIST, r / "chexpert-5x200-val-meta.csv"),
            "holds chexpert_5x200.csv and chexpert-5x200-val-meta.csv; keep the one",
        ),
        (lambda r: _edit(r / LIST, "Edema", "Oedema"), "has no column 'Edema'"),
        (lambda r: _edit(r / LIST, "Path", "File"), "has no column 'Path'"),
        (lambda r: _edit(r / LIST, "/train/patient00003", "/patient00003"), "row 2: the path does not end in"),
        (lambda r: _edit(r / LIST, "/view1_frontal.jpg", ""), "row 2: the path names no image"),
        (lambda r: (r / f"train/{IMAGES[2]}.jpg").unlink(), "row 4.*no image file"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil: Any, said: str) -> None:
    spoil(by_hand)
    with pytest.raises(InputError, match=said) as fault:
        read("chexpert_5x200", by_hand)
    assert "\n" not in str(fault.value) and "patient0000" not in str(fault.value)


def test_a_wrong_root_shows_the_tree(tmp_path: Path) -> None:
    for root in (tmp_path, ""):
        with pytest.raises(MissingCorpus, match=f"{KEY}.root") as fault:
            read("chexpert_5x200", root)
        assert "chexpert-5x200-val-meta.csv of MedCLIP" in fault.value.help
