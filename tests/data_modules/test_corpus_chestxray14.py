"""NIH ChestX-ray14: both releases of its table, images in twelve folders or one, official lists, validation."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from csv_rows import rows_of
from hypothesis import given
from hypothesis import strategies as st
from official import SALT, edit, laid_out, missing, picture, read, states, write_table

from data_modules.corpora.chestxray14 import LABELS, check_labels
from data_modules.corpora.official import hold_out
from data_modules.corpus_config import CorpusConfig, SplitFractions
from data_modules.errors import InputError
from data_modules.pixels import read_gray

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
TABLE = "Data_Entry_2017_v2020.csv"
SAMPLES = Path(os.environ.get("RADZ_SAMPLES", Path(__file__).parents[3] / "shared/data")) / "nih_cxr64"
NONE_HELD = SplitFractions(train=1.0, val=0.0, test=0.0)


root = laid_out("chestxray14")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Four images of three patients, typed as the release has them."""
    rows = [
        ["00000001_000.png", "Cardiomegaly", 0, 1, 58, "M", "PA", 2682, 2749, 0.143, 0.143],
        ["00000001_001.png", "Cardiomegaly|Emphysema", 1, 1, 58, "M", "PA", 2894, 2729, 0.143, 0.143],
        ["00000002_000.png", "No Finding", 0, 2, 81, "F", "AP", 2500, 2048, 0.171, 0.171],
        ["00000003_000.png", "Hernia|Pleural_Thickening|Effusion", 0, 3, 74, "F", "PA", 2500, 2048, 0.168, 0.168],
    ]
    write_table(tmp_path / TABLE, HEADER.split(","), rows)
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\r\n00000001_001.png\r\n00000002_000.png\r\n")
    (tmp_path / "test_list.txt").write_text("00000003_000.png")  # the last line may have no end
    for folder, name in (("001", rows[0][0]), ("001", rows[1][0]), ("001", rows[2][0]), ("012", rows[3][0])):
        picture(tmp_path / f"images_{folder}" / "images" / str(name))
    return tmp_path


def test_states_of_rows_typed_by_hand(by_hand: Path) -> None:
    found = read("chestxray14", by_hand, split_fractions=NONE_HELD)
    assert found.study_id.tolist() == ["00000001_000.png", "00000001_001.png", "00000002_000.png", "00000003_000.png"]
    assert found.patient.tolist() == ["1", "1", "2", "3"]
    assert found.split.tolist() == ["train", "train", "train", "test"]
    both, normal = states(found, "00000001_001.png"), states(found, "00000002_000.png")
    assert sorted(name for name, state in both.items() if state == "present") == ["cardiomegaly", "emphysema"]
    assert [name for name, state in normal.items() if state == "present"] == ["no_finding"]
    assert set(both.values()) == {"present", "absent"} and len(both) == 15
    last = states(found, "00000003_000.png")
    assert [last[name] for name in ("hiatal_hernia", "pleural_thickening", "pleural_effusion")] == ["present"] * 3
    assert found.attributes["view"].tolist() == ["PA", "PA", "AP", "PA"]
    assert found.attributes["sex"].tolist() == ["M", "M", "F", "F"]
    assert found.attributes["age"].tolist() == ["58", "58", "81", "74"]
    assert set(found.reports) == {""}
    pa = read("chestxray14", by_hand, split_fractions=NONE_HELD, keep={"View Position": ["PA"]})
    assert pa.patient.tolist() == ["1", "1", "3"]


def test_images_lie_in_twelve_folders_or_in_one(by_hand: Path) -> None:
    tars = read("chestxray14", by_hand)
    assert tars.image_ids[3] == "images_012/images/00000003_000.png"
    (by_hand / "images").mkdir()
    for path in sorted(by_hand.glob("images_*/images/*.png")):
        shutil.move(path, by_hand / "images")
    for folder in by_hand.glob("images_*"):
        shutil.rmtree(folder)
    flat = read("chestxray14", by_hand)
    assert flat.image_ids[3] == "images/00000003_000.png" and all(Path(path).is_file() for path in flat.image_paths)
    assert flat.study_id.tolist() == tars.study_id.tolist() and flat.split.tolist() == tars.split.tolist()


def test_older_table_has_an_empty_last_column(by_hand: Path) -> None:
    new = read("chestxray14", by_hand)
    lines = (by_hand / TABLE).read_text().replace("Patient Gender", "Patient Sex").splitlines()
    (by_hand / "Data_Entry_2017.csv").write_text("".join(f"{line},\n" for line in lines))
    (by_hand / TABLE).unlink()
    old = read("chestxray14", by_hand)
    assert (old.states == new.states).all()
    assert old.attributes["sex"].tolist() == new.attributes["sex"].tolist()


def test_validation_is_held_out_by_patient(root: Path) -> None:
    found = read("chestxray14", root, split_fractions=SplitFractions(train=0.6, val=0.4, test=0.0))
    official = {
        split: set((root / name).read_text().split())
        for split, name in (("train", "train_val_list.txt"), ("test", "test_list.txt"))
    }
    by_split = {split: set(found.study_id[found.rows(split)]) for split in ("train", "val", "test")}
    assert by_split["test"] == official["test"]
    assert by_split["train"] | by_split["val"] == official["train"]
    people = {split: set(found.patient[found.rows(split)]) for split in ("train", "val")}
    assert people["train"] and people["val"] and not people["train"] & people["val"]
    assert len(people["val"]) == round(0.4 * len(people["train"] | people["val"]))


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("chestxray14", root)
    assert len(found) == 34 and len(found.rows("test")) == 9
    assert len({Path(name).parts[0] for name in found.image_ids}) == 12
    totals = found.totals()
    assert totals.loc["no_finding", "present"] > 0 and totals.loc["pleural_effusion", "present"] > 0
    assert totals[["uncertain", "unmentioned"]].to_numpy().sum() == 0


def test_other_counts_than_the_published_are_told(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read("chestxray14", by_hand)
    told = caplog.text
    assert "chestxray14/train and val: 3 images here, 86524 in the published release" in told
    assert "chestxray14/test: 1 image here, 25596 in the published release" in told
    assert "0000000" not in told


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / "test_list.txt").unlink(), "holds no test_list.txt"),
        (lambda r: (r / TABLE).unlink(), f"holds no {TABLE} or Data_Entry_2017.csv"),
        (lambda r: (r / "images_012/images/00000003_000.png").unlink(), "row 5 .*no image file"),
        (lambda r: edit(r / TABLE, "Patient ID", "PatientID"), "'Patient ID'.*nearest is 'PatientID'"),
        (lambda r: edit(r / TABLE, "Patient Gender", "Gender"), "has no column 'Patient Gender'"),
        (lambda r: edit(r / TABLE, "Pleural_", "Pleural "), "row 5: column 'Finding Labels'.*'Pleural_Thickening'"),
        (lambda r: edit(r / TABLE, "No Finding", ""), "row 4: column 'Finding Labels' holds a word that is no NIH"),
        (lambda r: edit(r / "test_list.txt", "3_", "4_"), "row 5: the image is in neither"),
        (lambda r: (r / "test_list.txt").write_text("\n"), "test_list.txt: is empty"),
        (lambda r: edit(r / "test_list.txt", "3_", "2_"), "row 4: the image is in both"),
        (lambda r: edit(r / TABLE, ",0,3,74", ",0,1,74"), "1 patient.* in more than one split"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    with pytest.raises(InputError, match=said) as fault:
        read("chestxray14", by_hand).check_splits(SALT)
    assert "\n" not in str(fault.value) and "0000000" not in str(fault.value)


def test_a_root_without_images_shows_the_tree(by_hand: Path) -> None:
    for folder in sorted(by_hand.glob("images_*")):
        shutil.rmtree(folder)
    missing("chestxray14", "images_001/images", by_hand)


@given(st.lists(st.sampled_from(sorted(LABELS.values())) | st.text(), min_size=1))
def test_any_cell_is_labels_only_or_refused(words: list[str]) -> None:
    known = all(part.strip() in LABELS.values() for word in words for part in word.split("|"))
    try:
        check_labels(pd.Series(["No Finding", "|".join(words)], index=[2, 3], dtype=object), Path("table.csv"))
    except InputError as fault:
        assert not known and "table.csv row 3" in str(fault) and "\n" not in str(fault)
    else:
        assert known


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample data are not here")
def test_real_radiographs_and_labels_keep_their_totals(tmp_path: Path) -> None:
    """671 real pictures laid out under the official names; labels and splits counted from the table by themselves."""
    rows = rows_of(SAMPLES / "metadata.csv")
    split = {row["filename"]: row["split"] for row in rows_of(SAMPLES / "split.csv")}
    header = HEADER.split(",")
    own = (
        "Image Index",
        "Finding Labels",
        "Follow-up #",
        "Patient ID",
        "Patient Age",
        "Patient Gender",
        "View Position",
    )
    write_table(tmp_path / TABLE, header, [[*(row[name] for name in own), 1024, 1024, 0.14, 0.14] for row in rows])
    names = {"train_val_list.txt": ("train", "val"), "test_list.txt": ("test",)}
    for file, splits in names.items():
        (tmp_path / file).write_text("".join(f"{name}\n" for name, of in split.items() if of in splits))
    shutil.copytree(SAMPLES / "images", tmp_path / "images")
    found = read("chestxray14", tmp_path, split_fractions=NONE_HELD)
    cells = [row["Finding Labels"].split("|") for row in rows]
    totals = found.totals()["present"].to_dict()
    assert {label: totals[name] for name, label in LABELS.items()} == {
        label: sum(label in cell for cell in cells) for label in LABELS.values()
    }
    assert len(found) == 671 and len(found.rows("test")) == 164 and len(set(found.patient)) == 179
    assert totals["no_finding"] == 199 + 50 + 85 and totals["pleural_effusion"] == 68 + 17 + 29
    assert all(read_gray(Path(path), "x", "error").shape == (64, 64) for path in found.image_paths[:20])


def test_validation_is_held_out_of_training_rows_alone() -> None:
    """A test row of a patient who trains too stays where it is, so that the leak is found."""
    frame = pd.DataFrame({"split": ["train", "test", "train"], "patient": ["a", "a", "b"]})
    config = CorpusConfig(split_fractions=SplitFractions(train=0.0, val=1.0, test=0.0))
    assert hold_out(frame, config).tolist() == ["val", "test", "val"]
