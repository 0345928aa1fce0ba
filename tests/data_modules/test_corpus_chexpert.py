"""CheXpert: the small and the full release, its label coding, test labels and reports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import edit, laid_out, picture, read, refused, states, write_table

from data_modules.corpora.chexpert import LABELS, TAIL

FRONTAL = {"Frontal/Lateral": ["Frontal"]}
HEADER = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS.values()]


root = laid_out("chexpert")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Two training rows, one validation row, one test study, typed as the release has them."""
    blank = ["" for _ in LABELS]
    first = {**dict.fromkeys(LABELS, ""), "edema": "1.0", "atelectasis": "-1.0", "pneumonia": "0.0"}
    small = "CheXpert-v1.0-small"
    train = [
        [f"{small}/train/patient00001/study1/view1_frontal.jpg", "Female", 68, "Frontal", "AP", *first.values()],
        [f"{small}/train/patient00002/study2/view1_lateral.jpg", "Unknown", 87, "Lateral", "", *blank],
    ]
    zeros = ["0.0" for _ in LABELS]
    valid = [[f"{small}/valid/patient64541/study1/view1_frontal.jpg", "Male", 73, "Frontal", "PA", *zeros]]
    write_table(tmp_path / "train.csv", HEADER, train)
    write_table(tmp_path / "valid.csv", HEADER, valid)
    # The readers' tables swap two columns, so a reader that counts columns goes wrong.
    swapped = [name for name in LABELS.values() if name not in ("Lung Lesion", "Lung Opacity")]
    swapped[3:3] = ["Lung Lesion", "Lung Opacity"]
    cells = ["1" if name == "Lung Lesion" else "0" for name in swapped]
    write_table(tmp_path / "groundtruth.csv", ["Study", *swapped], [["CheXpert-v1.0/test/patient64741/study1", *cells]])
    for place in ("train/patient00001/study1/view1_frontal", "train/patient00002/study2/view1_lateral",
                  "valid/patient64541/study1/view1_frontal", "test/patient64741/study1/view1_frontal"):  # fmt: skip
        picture(tmp_path / f"{place}.jpg")
    return tmp_path


def test_states_of_rows_typed_by_hand(by_hand: Path) -> None:
    found = read("chexpert", by_hand)
    assert found.study_id.tolist() == [
        "patient00001/study1", "patient00002/study2", "patient64541/study1", "patient64741/study1"
    ]  # fmt: skip
    assert found.split.tolist() == ["train", "train", "val", "test"]
    first = states(found, "patient00001/study1")
    assert (first["edema"], first["atelectasis"], first["pneumonia"]) == ("present", "uncertain", "absent")
    assert first["fracture"] == "unmentioned"
    assert set(states(found, "patient64541/study1").values()) == {"absent"}
    test = states(found, "patient64741/study1")
    assert test["lung_lesion"] == "present" and list(test.values()).count("present") == 1
    assert found.attributes["view"].tolist() == ["AP", "Lateral", "PA", "Frontal"]
    assert found.attributes["sex"].tolist() == ["Female", "", "Male", ""]
    assert read("chexpert", by_hand, keep=FRONTAL).patient.tolist() == ["patient00001", "patient64541", "patient64741"]


def test_full_release_lies_in_batch_folders(by_hand: Path) -> None:
    small = read("chexpert", by_hand)
    for name, things in {
        "CheXpert-v1.0 batch 1 (validate & csv)": ("train.csv", "valid.csv", "valid"),
        "CheXpert-v1.0 batch 2 (train 1)": ("train/patient00001",),
        "CheXpert-v1.0 batch 3 (train 2)": ("train/patient00002",),
    }.items():
        (by_hand / name).mkdir()
        for thing in things:
            shutil.move(by_hand / thing, by_hand / name)
    full = read("chexpert", by_hand)
    assert full.study_id.tolist() == small.study_id.tolist() and (full.states == small.states).all()
    assert all(Path(path).is_file() for path in full.image_paths)
    assert "batch 3 (train 2)/patient00002" in full.image_paths[1]


def test_reports_of_chexpert_plus(by_hand: Path) -> None:
    assert read("chexpert", by_hand).reports == [""] * 4
    rows = [["train/patient00001/study1/view1_frontal.png", "IMPRESSION: Mild edema."]]  # PNG release, JPG images here
    write_table(by_hand / "df_chexpert_plus_240401.csv", ["path_to_image", "report"], rows)
    assert read("chexpert", by_hand).reports == ["Mild edema.", "", "", ""]


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("chexpert", root, keep=FRONTAL)
    assert [len(found.rows(split)) for split in ("train", "val", "test")] == [20, 5, 9]
    assert found.coverage.filtered == {"chexpert: keep.Frontal/Lateral": 4}
    assert all(found.reports) and len(found.image_ids) == 34
    # Both images of a study, and its labels once.
    both = read("chexpert", root)
    assert len(both) == 34 and len(both.image_ids) == 38
    totals = found.totals()
    assert totals.loc["no_finding", "present"] > 0 and totals.loc["edema", "unmentioned"] > 0
    assert totals["uncertain"].sum() > 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / "valid.csv").unlink(), "valid.csv"),
        (lambda r: (r / "train/patient00001/study1/view1_frontal.jpg").unlink(), "row 2 .*no image file"),
        (lambda r: edit(r / "train.csv", "Edema", "Oedema"), "'Edema'.*nearest is 'Oedema'"),
        (lambda r: edit(r / "train.csv", ",1.0,", ",7.0,"), "row 2 .*value outside the coding.*'7.0'"),
        (lambda r: edit(r / "train.csv", "/study2/", "/"), "train.csv row 3: the path does not end in"),
        (lambda r: edit(r / "valid.csv", "0.0", "0.5"), "valid.csv row 2 .*value outside the coding"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "chexpert", by_hand, "patient0000")


@given(st.text())
def test_any_path_matches_whole_or_not_at_all(text: str) -> None:
    if found := TAIL.search(text):
        assert text.endswith(found.group(0)) and found["patient"].startswith("patient")
