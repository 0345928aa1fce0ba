"""RSNA Pneumonia: one study per image of tables with one row per box, its three classes, a split over images."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import KEY, edit, laid_out, missing, picture, read, refused, states, write_table

from data_modules.corpora.rsna import check_classes
from data_modules.corpus_config import CorpusConfig, SplitFractions
from data_modules.errors import InputError
from data_modules.marks import marks

BOXES, CLASSES, IMAGES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv", "stage_2_train_images"
NORMAL = "003d8fa0-6bf1-40ed-b54c-ac657f8495c5"
OTHER = "0004cfab-14fd-4e49-80ba-63a80b6bddd6"
OPAQUE = "00436515-870c-4b36-a041-de91049b9ab4"
THIRD = "Lung Opacity", "No Lung Opacity / Not Normal", "Normal"


root = laid_out("rsna")


@pytest.fixture
def by_hand(tmp_path: Path, root: Path) -> Path:
    """Three images, one with two boxes, typed as the release has them."""
    boxes = [
        [OTHER, "", "", "", "", 0],
        [OPAQUE, "264.0", "152.0", "213.0", "379.0", 1],
        [OPAQUE, "562.0", "152.0", "256.0", "453.0", 1],
        [NORMAL, "", "", "", "", 0],
    ]
    write_table(tmp_path / BOXES, ["patientId", "x", "y", "width", "height", "Target"], boxes)
    # Of another order, and with a row per box too.
    classes = [[NORMAL, THIRD[2]], [OPAQUE, THIRD[0]], [OTHER, THIRD[1]], [OPAQUE, THIRD[0]]]
    write_table(tmp_path / CLASSES, ["patientId", "class"], classes)
    (tmp_path / IMAGES).mkdir()
    dicom = next((root / IMAGES).glob("*.dcm")).read_bytes()
    for name in (OTHER, OPAQUE, NORMAL):
        (tmp_path / IMAGES / f"{name}.dcm").write_bytes(dicom)
    return tmp_path


def test_states_of_rows_typed_by_hand(by_hand: Path) -> None:
    found = read("rsna", by_hand)
    assert found.study_id.tolist() == [OTHER, OPAQUE, NORMAL] == found.patient.tolist()
    assert [len(found.study(i).image_paths) for i in range(3)] == [1, 1, 1]
    assert dict(states(found, OPAQUE)) == {"pneumonia": "present", "lung_opacity": "present", "no_finding": "absent"}
    assert dict(states(found, NORMAL)) == {"pneumonia": "absent", "lung_opacity": "absent", "no_finding": "present"}
    assert set(states(found, OTHER).values()) == {"absent"}  # no opacity, and yet not normal
    assert found.coverage.to_dict()["counted"] == {} and found.source_rows.tolist() == [2, 3, 5]
    clear = read("rsna", by_hand, keep={"class": ["Normal", "Lung Opacity"]})
    assert clear.study_id.tolist() == [OPAQUE, NORMAL]


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("rsna", root)
    rows = pd.read_csv(root / BOXES)
    assert len(found) == 34 < len(rows) and found.totals().loc["no_finding", "present"] > 0
    assert found.totals().loc["pneumonia", "present"] == rows.loc[rows["Target"] == 1, "patientId"].nunique() > 0
    assert all("stage_2_test_images" not in path for path in found.image_paths)
    known = marks(CorpusConfig(reader="rsna", root=str(root)), KEY)
    assert known is not None  # its images are smaller than the release's, and the folder says so
    drawn = [bool(known.masks(name, (64, 64))) for name in found.image_ids]
    assert sum(drawn) == found.totals().loc["pneumonia", "present"]


def test_split_is_of_images_and_needs_no_order(root: Path, tmp_path: Path) -> None:
    found = read("rsna", root)
    assert [len(found.rows(split)) for split in ("train", "val", "test")] == [24, 3, 7]  # .7, .1 and .2 of 34
    other = read("rsna", root, split_seed=1)
    assert found.split.tolist() != other.split.tolist()
    assert len(read("rsna", root, split_fractions=SplitFractions(train=0.5, val=0.0, test=0.5)).rows("test")) == 17
    for name in (BOXES, CLASSES):
        header, *lines = (root / name).read_text().splitlines()
        (tmp_path / name).write_text("\n".join([header, *reversed(lines)]) + "\n")
    (tmp_path / IMAGES).mkdir()
    for path in (root / IMAGES).iterdir():
        (tmp_path / IMAGES / path.name).write_bytes(path.read_bytes())
    turned = read("rsna", tmp_path)
    assert dict(zip(turned.study_id, turned.split, strict=True)) == dict(zip(found.study_id, found.split, strict=True))


def test_log_tells_of_nih_and_of_other_counts(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read("rsna", by_hand)
    assert "NIH mapping" in caplog.text
    assert "rsna: 3 images here, 26684 in the published release" in caplog.text
    assert not any(name in caplog.text for name in (OTHER, OPAQUE, NORMAL))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / CLASSES).unlink(), f"holds no {CLASSES}"),
        (lambda r: (r / IMAGES / f"{OPAQUE}.dcm").unlink(), "row 3 .*no image file"),
        (lambda r: edit(r / BOXES, "Target", "target"), "'Target'.*nearest is 'target'"),
        (lambda r: edit(r / CLASSES, "patientId", "patient"), f"{CLASSES}: has no column 'patientId'"),
        (lambda r: edit(r / BOXES, "379.0,1", "379.0,0"), "labels.csv row 4: column 'Target' differs"),
        (lambda r: edit(r / CLASSES, THIRD[0], THIRD[2]), "class_info.csv row 5: column 'class' differs"),
        (lambda r: edit(r / BOXES, ",,,,0", ",,,,2"), "row 2 .*value outside the coding.*'2'"),
        (lambda r: edit(r / CLASSES, "Not Normal", "not normal"), "row 4: column 'class' holds a word .*nearest is"),
        (lambda r: edit(r / CLASSES, f"{NORMAL},Normal\n", ""), f"labels.csv row 5: {CLASSES} has no row"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "rsna", by_hand, OTHER, OPAQUE, NORMAL)


def test_a_root_of_unlabelled_images_shows_the_tree(tmp_path: Path) -> None:
    picture(tmp_path / "stage_2_test_images" / "unlabelled.png")
    missing("rsna", IMAGES, tmp_path)


@given(st.lists(st.sampled_from(THIRD) | st.text(), min_size=1))
def test_any_word_is_a_class_or_refused(words: list[str]) -> None:
    try:
        check_classes(pd.Series(words, index=range(2, len(words) + 2), dtype=object), Path("table.csv"))
    except InputError as fault:
        first = next(row for row, word in enumerate(words, start=2) if word not in THIRD)
        assert f"table.csv row {first}:" in str(fault) and "\n" not in str(fault)
    else:
        assert set(words) <= set(THIRD)
