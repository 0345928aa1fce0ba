"""LIDC-IDRI: series found by their UID, radiographs left out, nodules and malignancy from up to four readers."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import SALT, missing, refused, states
from official_ct import hounsfield, laid_out_ct, read_by
from pydicom.uid import CTImageStorage
from synthetic_dicom import written

from data_modules.corpora import lidc_idri
from data_modules.corpora.lidc_idri import Reading, parse
from data_modules.corpus_config import BadRows, SplitFractions
from data_modules.errors import InputError
from data_modules.phantom.layouts import lidc_idri as writer
from data_modules.volumes import read_volume

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001"
OUTLINE = "<roi><edgeMap><xCoord>1</xCoord></edgeMap><edgeMap><xCoord>2</xCoord></edgeMap></roi>"
POINT = "<roi><edgeMap><xCoord>1</xCoord></edgeMap></roi>"


root = laid_out_ct(writer.write)


def nodule(rating: str, shape: str = OUTLINE) -> str:
    traits = f"<characteristics><subtlety>5</subtlety><malignancy>{rating}</malignancy></characteristics>"
    return f"<unblindedReadNodule><noduleID>1</noduleID>{traits if rating else ''}{shape}</unblindedReadNodule>"


def annotation(series: str, *sessions: str) -> str:
    """An annotation file as published; each of `sessions` is what one reader marked."""
    found = "".join(f"<readingSession><x/>{one}</readingSession>" for one in sessions)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage xmlns="http://www.nih.gov" uid="1"><ResponseHeader>'
        f"<Version>1.8</Version><SeriesInstanceUid> {series} </SeriesInstanceUid></ResponseHeader>{found}"
        "</LidcReadMessage>"
    )


def series(root: Path, place: str, uid: str, patient: str, modality: str = "CT", first: int = 1) -> Path:
    folder = root / place
    folder.mkdir(parents=True)
    stored = np.zeros((4, 4), dtype=np.uint16)
    for number in (first + 1, first):
        written(
            folder, stored, f"{number}.dcm", SeriesInstanceUID=uid, PatientID=patient, Modality=modality,
            SOPClassUID=CTImageStorage, PixelSpacing=[1, 1], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, number], SOPInstanceUID=f"{uid}.{number}",
        )  # fmt: skip
    return folder


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Three CT series of two patients, and a radiograph; one annotation lies apart."""
    one = series(tmp_path, f"LIDC-IDRI/LIDC-IDRI-0001/{UID}.1/{UID}.2", f"{UID}.2", "LIDC-IDRI-0001")
    two = series(tmp_path, "LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-1/3000.0-2", f"{UID}.4", "LIDC-IDRI-0001")
    series(tmp_path, "LIDC-IDRI/LIDC-IDRI-0007/x/y", f"{UID}.6", "LIDC-IDRI-0007")
    series(tmp_path, "LIDC-IDRI/LIDC-IDRI-0007/x/z", f"{UID}.8", "LIDC-IDRI-0007", "DX")
    (one / "069.xml").write_text(annotation(f"{UID}.2", nodule("5") + nodule("1"), nodule("4"), nodule("2"), ""))
    (two / "070.xml").write_text(annotation(f"{UID}.4", nodule("", POINT), "", "<nonNodule/>", nodule("5", POINT)))
    apart = tmp_path / "tcia-lidc-xml/157/158.xml"
    apart.parent.mkdir(parents=True)
    apart.write_text(annotation(f"{UID}.6", nodule("5"), "", "", ""))
    other = f"<IdriReadMessage><ResponseHeader><CXRSeriesInstanceUid>{UID}.8</CXRSeriesInstanceUid></ResponseHeader>"
    (tmp_path / "LIDC-IDRI/LIDC-IDRI-0007/x/z/071.xml").write_text(other + "</IdriReadMessage>")
    return tmp_path


def test_series_typed_by_hand(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = read_by(lidc_idri, by_hand)
    assert found.study_id.tolist() == [f"{UID}.4", f"{UID}.2", f"{UID}.6"]
    assert found.patient.tolist() == ["LIDC-IDRI-0001", "LIDC-IDRI-0001", "LIDC-IDRI-0007"]
    assert found.source_rows.tolist() == [1, 2, 3] and all(Path(path).is_dir() for path in found.image_paths)
    assert states(found, f"{UID}.2") == {"nodule": "present", "nodule_malignancy": "present"}  # median of 5, 4, 2
    assert states(found, f"{UID}.4") == {"nodule": "absent", "nodule_malignancy": "absent"}
    assert states(found, f"{UID}.6") == {"nodule": "uncertain", "nodule_malignancy": "uncertain"}
    assert found.coverage.filtered == {"lidc_idri: series that are no CT": 1}
    said = caplog.text
    assert (
        "3 annotated CT series here, 1018 in the published release" in said and "1 annotation file(s) of radio" in said
    )
    assert UID not in said and "LIDC-IDRI-0" not in said
    found.check_splits(SALT)


@pytest.mark.parametrize(
    ("sessions", "states"),
    [
        (["", "", "", ""], ("0", "0")),
        ([nodule("", POINT)] * 4, ("0", "0")),
        ([nodule("5"), "", "", ""], ("-1", "-1")),
        ([nodule("5"), nodule("1"), "", ""], ("1", "-1")),  # median 3
        ([nodule("5"), nodule("4"), "", ""], ("1", "1")),
        ([nodule("2"), nodule("1"), nodule("3"), nodule("1")], ("1", "0")),
        ([nodule("1") + nodule("5"), nodule("1") + nodule("5"), nodule("1"), ""], ("1", "1")),
        ([nodule(""), nodule(""), "", ""], ("1", "-1")),
        ([nodule("4"), nodule(""), "", ""], ("1", "1")),
        ([nodule("9"), nodule("4"), "", ""], ("1", "no rating from 1 to 5")),
        ([], ("no reader", "no reader")),
    ],
)
def test_readers_typed_by_hand(tmp_path: Path, sessions: list[str], states: tuple[str, str]) -> None:
    path = tmp_path / "a.xml"
    path.write_text(annotation(UID, *sessions))
    reading = parse(path, "a")
    assert reading.series == UID and len(reading.readers) == len(sessions)
    assert tuple(reading.labels().values()) == states


def test_the_policy_decides_between_one_reader_and_two() -> None:
    alone = Reading(UID, [["4"], [], [], []]).labels()
    assert alone["nodule"] == "-1", "uncertain: present under policy.uncertain=present, absent under absent"


def test_series_without_annotation_and_copies_are_counted(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    series(by_hand, "LIDC-IDRI/LIDC-IDRI-0009/x/y", f"{UID}.9", "LIDC-IDRI-0009")
    series(by_hand, "copy", f"{UID}.2", "LIDC-IDRI-0001")
    (by_hand / "tcia-lidc-xml/157/158-again.xml").write_text(annotation(f"{UID}.6", *[nodule("4")] * 2))
    found = read_by(lidc_idri, by_hand)
    assert len(found) == len(found.image_ids) == 3
    assert found.coverage.filtered == {
        "lidc_idri: series that are no CT": 1, "lidc_idri: CT series without an annotation file": 1,
        "lidc_idri: further copies of a series": 1,
    }  # fmt: skip
    assert "1 annotation file(s) are of a series that has one already" in caplog.text
    assert states(found, f"{UID}.6")["nodule"] == "present", "the resubmitted one counts"


@pytest.mark.parametrize(("place", "kept"), [("copy", "LIDC-IDRI/"), ("A", "LIDC-IDRI/"), ("whole", "whole")])
def test_of_two_copies_the_whole_one_is_taken(by_hand: Path, place: str, kept: str) -> None:
    lacks = series(by_hand, place, f"{UID}.2", "LIDC-IDRI-0001")
    if place == "whole":
        (lacks,) = (by_hand / "LIDC-IDRI").glob(f"*/*/{UID}.2")
    (lacks / "2.dcm").unlink()
    found = read_by(lidc_idri, by_hand)
    path = Path(found.image_paths[found.study_id.tolist().index(f"{UID}.2")])
    assert len(found) == 3 and path.relative_to(by_hand).as_posix().startswith(kept)
    assert found.coverage.filtered["lidc_idri: further copies of a series"] == 1


def test_parts_of_a_series_are_no_copies(by_hand: Path) -> None:
    series(by_hand, "rest", f"{UID}.2", "LIDC-IDRI-0001", first=3)
    with pytest.raises(InputError, match=r"series folder 5 in the order of paths: holds other slices of a series than"):
        read_by(lidc_idri, by_hand)


DOCTYPE = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><LidcReadMessage/>'
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><LidcReadMessage/>'


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / "tcia-lidc-xml/157/158.xml").write_text(DOCTYPE), "annotation file 4 .*has a DOCTYPE"),
        (lambda r: (r / "tcia-lidc-xml/157/158.xml").write_text(OUTSIDE), "annotation file 4 .*has a DOCTYPE"),
        (lambda r: (r / "tcia-lidc-xml/157/158.xml").write_text("<a><b></a>"), "annotation file 4 .*cannot be read as"),
        (lambda r: (r / "tcia-lidc-xml/157/158.xml").write_text(""), "annotation file 4 .*cannot be read as XML"),
        (lambda r: (r / "tcia-lidc-xml/157/158.xml").write_text(annotation(f"{UID}.6")), "row 3 .*outside the coding"),
        (lambda r: (r / "LIDC-IDRI/LIDC-IDRI-0007/x/y/1.dcm").write_bytes(b"no"), "series folder 3 .*first file"),
    ],
)  # fmt: skip
def test_faults_are_one_line(by_hand: Path, spoil, said: str) -> None:
    spoil(by_hand)
    refused(said, "lidc_idri", by_hand, "LIDC-IDRI-0", UID)


def test_a_rating_outside_1_to_5_follows_the_policy(by_hand: Path) -> None:
    text = annotation(f"{UID}.6", nodule("7"), nodule("1"))
    (by_hand / "tcia-lidc-xml/157/158.xml").write_text(text)
    with pytest.raises(InputError, match=r"row 3 .*nodule_malignancy.*'no rating from 1 to 5'"):
        read_by(lidc_idri, by_hand)
    assert len(read_by(lidc_idri, by_hand, bad=BadRows(on_bad_label="skip"))) == 2


def test_a_root_without_series_shows_the_tree(by_hand: Path) -> None:
    missing("lidc_idri", "one folder per series", by_hand / "LIDC-IDRI/LIDC-IDRI-0007/x/y")


def test_phantom_in_its_layout(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fractions = SplitFractions(train=0.5, val=0.2, test=0.3)
    found = read_by(lidc_idri, root, split_fractions=fractions)
    assert len(found) == 33 and set(found.split) == {"train", "val", "test"}
    found.check_splits(SALT)
    assert found.coverage.filtered["lidc_idri: CT series without an annotation file"] == 1
    assert found.coverage.filtered["lidc_idri: series that are no CT"] > 0
    assert "are of a series that has one already" in caplog.text
    totals = found.totals()[["absent", "present", "uncertain"]]
    assert (totals > 0).all().all() and found.totals()["unmentioned"].sum() == 0


def test_a_series_is_read_back_the_right_way_round(root: Path) -> None:
    found = read_by(lidc_idri, root)
    row = found.study_id.tolist().index(f"{writer.ROOT}.2.1")
    back = read_volume(Path(found.image_paths[row]))
    assert (back.hu == hounsfield(0)).all() and back.spacing == (2, 2, 3)


@given(st.lists(st.lists(st.sampled_from(["", "1", "2", "3", "4", "5"]), max_size=3), min_size=1, max_size=4))
def test_any_reading_gives_two_states_that_agree(readers: list[list[str]]) -> None:
    labels = Reading(UID, readers).labels()
    assert set(labels.values()) <= {"1", "0", "-1"}
    # No malignant nodule without a nodule, and no opinion of one reader alone.
    marks = sum(map(bool, readers))
    assert labels["nodule"] == ("1" if marks > 1 else "-1" if marks else "0")
    assert labels["nodule"] == "1" or labels["nodule_malignancy"] == labels["nodule"]
    assert Reading(UID, readers[::-1]).labels() == labels


@given(st.text(max_size=80) | st.just(annotation(UID, nodule("3"))).map(lambda text: text[: len(text) // 2]))
def test_any_text_is_a_reading_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("xml") / "a.xml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert parse(path, "here").series == ""
    except InputError as error:
        assert str(error).startswith("here: ") and "\n" not in str(error)
