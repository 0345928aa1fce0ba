"""PadChest: lists of labels, folders or flat images, physicians' rows as test set, patients in one split only."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import edit, laid_out, picture, read, refused, states, write_table
from PIL import Image

from data_modules.corpora.padchest import names
from data_modules.corpus_config import BadRows, CorpusConfig
from data_modules.errors import InputError
from data_modules.pixels import read_gray

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER = [
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "Projection", "ReportID", "Report", "MethodLabel", "Labels",
]  # fmt: skip
FILTERED = "padchest: RNN_model rows of patients with Physician rows"


root = laid_out("padchest")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Three studies of physicians and four of the network, typed as the release has them."""
    physician = [
        [0, "a.png", 0, 20140915, "s1", "p1", "1930.0", "F", "PA", 11, "cardiomegali .", "Physician",
         '''"['cardiomegaly', ' pneumonia', 'pneumonia']"'''],
        [1, "b.png", 54, 20140915, "s1", "p1", "1930.0", "F", "L", 11, "cardiomegali .", "Physician",
         '''"['cardiomegaly', ' pneumonia', 'pneumonia']"'''],
        [2, "c.png", 0, 20140916, "s2", "p2", "", "M", "AP", 12, "", "Physician", "['normal']"],
        [3, "d.png", 0, 20140917, "s3", "p3", "1950", "M", "PA", 13, "mal tecnic .", "Physician",
         '''"['suboptimal study', 'rib fracture']"'''],
    ]  # fmt: skip
    network = [
        [4, "e.png", 50, 20150101, "s4", "p1", "1930.0", "F", "PA", 14, "norm .", "RNN_model", "['normal']"],
        [5, "f.png", 50, 20150102, "s5", "p4", "1960", "F", "PA", 15, "sin cambi .", "RNN_model", ""],
        [6, "g.png", 50, 20150103, "s6", "p5", "1960", "F", "PA", 16, "no valor .", "RNN_model", "['exclude']"],
        [7, "h.png", 50, 20150104, "s7", "p6", "1960", "F", "PA", 17, "enfisem .", "RNN_model",
         '''"['subcutaneous emphysema', 'hilar enlargement']"'''],
    ]  # fmt: skip
    write_table(tmp_path / TABLE, HEADER, physician + network)
    for row in physician + network:
        picture(tmp_path / str(row[2]) / str(row[1]))
    return tmp_path


def test_rows_typed_by_hand(by_hand: Path) -> None:
    found = read("padchest", by_hand)
    assert found.study_id.tolist() == ["s1/11", "s2/12", "s3/13", "s5/15", "s6/16", "s7/17"]
    assert found.image_ids[:2] == ["0/a.png", "54/b.png"]
    assert found.patient.tolist() == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert found.split.tolist()[:3] == ["test"] * 3 and set(found.split[3:]) <= {"train", "val"}
    assert found.attributes["view"].tolist() == ["PA", "AP", "PA", "PA", "PA", "PA"]
    assert found.image_views == ["PA", "L", "AP", "PA", "PA", "PA", "PA"]
    assert found.attributes["age"].tolist() == ["84", "", "64", "55", "55", "55"]
    assert found.attributes["sex"].tolist() == ["F", "M", "M", "F", "F", "F"]
    assert found.reports[0] == "cardiomegali." and found.reports[1] == ""
    assert found.coverage.to_dict()["counted"] == {"empty report": 1}
    first = states(found, "s1/11")
    # A finding makes what is above it present: pneumonia is an opacity, a large heart widens the mediastinum.
    there = {name for name, state in first.items() if state == "present"}
    assert there == {"cardiomegaly", "pneumonia", "lung_opacity", "enlarged_cardiomediastinum"}
    assert first["edema"] == first["no_finding"] == "absent"
    normal = states(found, "s2/12")
    assert normal.pop("no_finding") == "present" and set(normal.values()) == {"absent"}
    assert states(found, "s3/13")["fracture"] == "present"


def test_silent_labels_are_no_zeros_and_similar_words_no_findings(by_hand: Path) -> None:
    found = read("padchest", by_hand)
    assert set(states(found, "s5/15").values()) == set(states(found, "s6/16").values()) == {"unmentioned"}
    last = states(found, "s7/17")
    assert last["emphysema"] == "absent", "subcutaneous emphysema is another thing"
    assert last["lymphadenopathy"] == "unmentioned", "a loose alias proves nothing and leaves it open"


def test_terms_outside_the_ontology_may_be_asked_for(by_hand: Path) -> None:
    text = (by_hand / TABLE).read_text().replace("['cardiomegaly'", "['Dual Chamber device', 'cardiomegaly'")
    (by_hand / TABLE).write_text(text)
    own = {"dual_chamber_device": {"label": "dual chamber device", "parent": "support_devices"}}
    found = read("padchest", by_hand, findings=own)
    first, second = states(found, "s1/11"), states(found, "s2/12")
    assert first["dual_chamber_device"] == first["support_devices"] == "present"
    assert second["dual_chamber_device"] == "absent"
    with pytest.raises(InputError, match=r"findings\.x\.label: reader chexpert has no terms"):
        CorpusConfig(reader="chexpert", findings={"x": {"label": "y"}}).check("data.corpora.0")


def test_a_patient_of_both_kinds_is_in_the_test_split_only(by_hand: Path) -> None:
    found = read("padchest", by_hand)
    assert found.coverage.filtered[FILTERED] == 1 and "s4/14" not in found.study_id
    for split in ("train", "val"):
        assert "p1" not in found.patient[found.rows(split)]
    assert read("padchest", by_hand, name="pc").coverage.filtered == {FILTERED.replace("padchest", "pc"): 1}


def test_filters(by_hand: Path) -> None:
    found = read("padchest", by_hand, keep={"Projection": ["PA"], "quality": ["usable"]})
    assert found.study_id.tolist() == ["s1/11", "s5/15", "s7/17"] and len(found.image_ids) == 3
    assert found.coverage.filtered["padchest: keep.quality"] == 2
    poor = read("padchest", by_hand, keep={"quality": ["suboptimal study", "exclude"]})
    assert poor.study_id.tolist() == ["s3/13", "s6/16"]


def test_a_study_with_two_reports_is_two(by_hand: Path) -> None:
    edit(by_hand / TABLE, "F,L,11,cardiomegali .", "F,L,18,otro inform .")
    assert read("padchest", by_hand).study_id.tolist()[:2] == ["s1/11", "s1/18"]


@pytest.mark.parametrize("form", ["gz", "flat", "images"])
def test_forms_of_the_release(by_hand: Path, form: str) -> None:
    before = read("padchest", by_hand)
    if form == "gz":
        (by_hand / f"{TABLE}.gz").write_bytes(gzip.compress((by_hand / TABLE).read_bytes()))
        (by_hand / TABLE).unlink()
    for folder in ("0", "50", "54"):
        if form == "images":
            (by_hand / "images").mkdir(exist_ok=True)
            shutil.move(by_hand / folder, by_hand / "images")
        elif form == "flat":
            for image in (by_hand / folder).iterdir():
                image.rename(by_hand / image.name)
            (by_hand / folder).rmdir()
    after = read("padchest", by_hand)
    assert after.study_id.tolist() == before.study_id.tolist() and (after.states == before.states).all()
    assert after.split.tolist() == before.split.tolist()
    assert all(Path(path).is_file() for path in after.image_paths)


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("padchest", root)
    assert len(found) == 34 and len(found.rows("test")) == 9
    assert len(found.rows("val")) > 0 and len(found.rows("train")) + len(found.rows("val")) == 25
    assert found.coverage.filtered == {FILTERED: 1}
    assert len(found.image_ids) == 34 + 5
    groups = [set(found.patient[found.rows(split)]) for split in ("train", "val", "test")]
    assert not groups[0] & groups[1] and not (groups[0] | groups[1]) & groups[2]
    totals = found.totals()
    assert totals["present"].sum() > 0 and totals.loc["edema", "unmentioned"] >= 1
    assert found.coverage.to_dict()["counted"] == {"empty report": 1}
    with Image.open(found.image_paths[0]) as image:
        assert image.mode.startswith("I;16")
    assert np.ptp(read_gray(Path(found.image_paths[0]))) == 255  # not clipped to white


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("RNN_model", "p9", "row 6: column 'MethodLabel' is neither Physician nor RNN_model"),
        ("['normal']", "normal", "row 4 .*value outside the coding of .*'cannot be read' in column 'Labels: "),
        ("['normal']", "[nan]", "row 4 .*value outside the coding"),
        ("['normal']", "__import__('os')", "row 4 .*value outside the coding"),
        (",ImageDir,", ",Folder,", "has no column 'ImageDir'"),
        ("c.png,0", "c.png,..", "row 4 .*must be relative"),
        ("c.png,0", "c.png,1", "row 4 .*no image file"),
        (",p4,", ",,", "row 7 .*the patient column is empty"),
    ],
)
def test_faults_are_one_line(by_hand: Path, old: str, new: str, said: str) -> None:
    edit(by_hand / TABLE, old, new)
    refused(said, "padchest", by_hand, "c.png", "p9")


def test_bad_labels_may_be_skipped(by_hand: Path) -> None:
    edit(by_hand / TABLE, "['normal']", "normal")
    assert "s2/12" not in read("padchest", by_hand, bad=BadRows(on_bad_label="skip")).study_id


@given(st.lists(st.text()))
def test_any_list_of_labels_comes_back(labels: list[str]) -> None:
    parts = [part for label in labels for part in re.split("[,;|]", label)]
    assert names(repr(labels)) == {part.strip().casefold() for part in parts if part.strip()}


@given(st.text() | st.text("[]'\",( -1a\\").map(lambda text: f"[{text}]"))
def test_any_cell_is_a_set_of_names_or_a_value_error(cell: str) -> None:
    try:
        found = names(cell.strip())
    except ValueError:
        return
    assert all(name == name.strip() and name for name in found)
