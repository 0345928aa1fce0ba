"""SIIM-ACR Pneumothorax: both stages, masks in several rows, the tree of DICOM files, its split by study folder."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import KEY, edit, laid_out, missing, read, refused, states, write_table
from synthetic_dicom import written

from data_modules.corpora.csv_file import load
from data_modules.corpora.siim import _images
from data_modules.corpus_config import BadRows, CorpusConfig, SplitFractions
from data_modules.errors import InputError
from data_modules.marks import marks

ROOT = "1.2.276.0.7230010.3.1"
IMAGES = {name: f"{ROOT}.4.8323329.{number}" for name, number in (("one", 14508), ("two", 1034), ("three", 300))}


root = laid_out("siim")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """A positive image of two masks, two negative ones, typed as stage 1 has them; the third is of the test folder."""
    rows = [
        [IMAGES["one"], " 387620 23 996 33 986 43"],
        [IMAGES["two"], " -1"],
        [IMAGES["three"], "-1"],
        [IMAGES["one"], " 5 2"],
    ]
    write_table(tmp_path / "train-rle.csv", ["ImageId", " EncodedPixels"], rows)
    for name, folder in (("one", "dicom-images-train"), ("two", "dicom-images-train"), ("three", "dicom-images-test")):
        place = _place(tmp_path, name, folder)
        place.mkdir(parents=True)
        written(place, np.arange(120, dtype=np.uint8).reshape(12, 10), f"{IMAGES[name]}.dcm", bits=8)
    return tmp_path


def _place(root: Path, name: str, folder: str = "dicom-images-train") -> Path:
    number = IMAGES[name].rpartition(".")[2]
    return root / folder / f"{ROOT}.2.8323329.{number}" / f"{ROOT}.3.8323329.{number}"


def test_states_of_rows_typed_by_hand(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read("siim", by_hand)
    assert found.study_id.tolist() == list(IMAGES.values()) and found.source_rows.tolist() == [2, 3, 4]
    assert [states(found, study) for study in IMAGES.values()] == [
        {"pneumothorax": "present"}, {"pneumothorax": "absent"}, {"pneumothorax": "absent"}
    ]  # fmt: skip
    assert found.patient.tolist() == [f"{ROOT}.2.8323329.{number}" for number in (14508, 1034, 300)]
    assert [Path(path).relative_to(by_hand).parts[0] for path in found.image_paths] == [
        "dicom-images-train", "dicom-images-train", "dicom-images-test"
    ]  # fmt: skip
    assert not found.coverage.notes
    said = caplog.text
    assert "every study folder counts as a patient" in said and "3 labelled images here" in said
    assert ROOT not in said


def test_stage_2_has_no_blanks_and_comes_first(by_hand: Path) -> None:
    rows = [[IMAGES["one"], "-1"], [IMAGES["two"], "100 2 3 4"]]
    write_table(by_hand / "stage_2_train.csv", ["ImageId", "EncodedPixels"], rows)
    found = read("siim", by_hand)
    assert [states(found, IMAGES[name])["pneumothorax"] for name in ("one", "two")] == ["absent", "present"]
    assert len(found) == 2


def test_a_row_without_its_image_follows_the_policy(by_hand: Path) -> None:
    (_place(by_hand, "two") / f"{IMAGES['two']}.dcm").unlink()
    with pytest.raises(InputError, match=r"train-rle.csv row 3 .*no image file.*on_missing_image=skip"):
        read("siim", by_hand)
    found = read("siim", by_hand, bad=BadRows(on_missing_image="skip"))
    assert len(found) == 2 and [note.row for note in found.coverage.notes] == [3]


def test_images_of_one_study_folder_share_their_split(root: Path) -> None:
    skip = BadRows(on_missing_image="skip")
    found = read("siim", root, bad=skip, split_fractions=SplitFractions(train=0.4, val=0.3, test=0.3))
    assert len(set(found.patient)) < len(found) and set(found.split) == {"train", "val", "test"}
    found.check_splits(b"s" * 32)
    again = read("siim", root, bad=skip, split_fractions=SplitFractions(train=0.4, val=0.3, test=0.3), split_seed=1)
    assert found.split.tolist() != again.split.tolist()


def test_phantom_in_its_layout(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = read("siim", root, bad=BadRows(on_missing_image="skip"))
    # One DICOM file has no row, one row has no DICOM file.
    assert len(found) == len(found.image_ids) == 33 and "1 DICOM file(s) without a row" in caplog.text
    assert found.coverage.to_dict()["skipped"] == {"there is no image file": 1}
    totals = found.totals().loc["pneumothorax"]
    assert totals["present"] > 0 and totals["absent"] > 0 and totals["present"] + totals["absent"] == 33
    rows = load(root / "train-rle.csv", KEY)["ImageId"]
    assert len(rows) > rows.nunique()
    known = marks(CorpusConfig(reader="siim", root=str(root)), KEY)
    assert known is not None  # its images are smaller than the release's, and the folder says so
    assert sum(bool(known.masks(name, (64, 64))) for name in found.image_ids) == totals["present"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: _edit(r, " EncodedPixels", "Pixels"), "'EncodedPixels'.*nearest is 'Pixels'"),
        (lambda r: _edit(r, " -1", "0"), "row 3 .*outside the coding.*'neither -1 nor a mask'"),
        (lambda r: _edit(r, " -1", ""), "row 3 .*outside the coding.*'neither -1 nor a mask'"),
        (lambda r: _edit(r, " 33 986", " 986"), "row 2 .*outside the coding.*'rows that disagree'"),
        (lambda r: _edit(r, " 5 2", "-1"), "row 2 .*outside the coding.*'rows that disagree'"),
        (lambda r: _edit(r, f"{IMAGES['two']},", ""), "row 3: has 1 cell"),
        (lambda r: (r / "train-rle.csv").write_text("ImageId, EncodedPixels\n"), "has a header but no rows"),
        (lambda r: _edit(r, IMAGES["two"], "../x"), "row 3 .*must be relative"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "siim", by_hand, ROOT)


def test_a_root_without_a_part_shows_the_tree(by_hand: Path) -> None:
    (by_hand / "dicom-images-train").rename(by_hand / "elsewhere")
    missing("siim", "STUDY/SERIES/IMAGE.dcm", by_hand)


def _edit(root: Path, old: str, new: str) -> None:
    edit(root / "train-rle.csv", old, new)


@given(st.lists(st.text(alphabet="0123456789 -x", max_size=9), min_size=1))
def test_a_mask_is_pairs_of_numbers(cells: list[str]) -> None:
    cells = [cell.strip() for cell in cells]
    rows = pd.DataFrame({"ImageId": [str(i) for i in range(len(cells))], "EncodedPixels": cells}, dtype=object)
    for cell, state in zip(cells, _images(rows, Path("t.csv"), KEY)["EncodedPixels"], strict=True):
        words = cell.split()
        pairs = bool(words) and len(words) % 2 == 0 and all(word.isdecimal() for word in words)
        assert state == ("1" if pairs else "0" if cell == "-1" else "neither -1 nor a mask")
