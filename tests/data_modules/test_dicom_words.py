"""Body part and view by the words of a header, on files that pydicom writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from data_modules.dicom_words import ELSEWHERE, VIEWS, Words, view_kind, words_of


def write(path: Path, **tags: object) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset(str(path), Dataset(), file_meta=meta, preamble=bytes(128))
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("part", "elsewhere"),
    [
        ("HAND", True), ("EXTREMITY", True), ("L KNEE", True), ("ABDOMEN_PELVIS", True), ("CSPINE", True),
        ("", False), ("CHEST", False), ("PORT CHEST", False), ("THORAX", False), ("CHESTABDPELVIS", False),
        ("CHEST ABDOMEN", False), ("RIBS", False), ("WHOLE BODY", False), ("BRUSTKORB", False), ("HANDMADE", False),
    ],
)  # fmt: skip
def test_another_part_of_the_body_is_known_and_an_unknown_word_says_nothing(part: str, elsewhere: bool) -> None:
    assert Words("CR", part).body_elsewhere is elsewhere


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        ("PA", "frontal"), ("AP Supine", "frontal"), ("AP_horizontal", "frontal"), ("Frontal", "frontal"),
        ("L", "lateral"), ("LL", "lateral"), ("LEFT LATERAL", "lateral"), ("Lateral", "lateral"), ("LLD", "decubitus"),
        ("LATERAL DECUBITUS", "decubitus"), ("RAO", "oblique"), ("", ""), ("COSTAL", ""), ("PAX", ""),
    ],
)  # fmt: skip
def test_views_of_headers_and_tables(view: str, kind: str) -> None:
    assert view_kind(view) == kind


@pytest.mark.parametrize(
    ("orientation", "view", "turned"),
    [
        (["L", "F"], "PA", False), (["LH", "FR"], "AP", False), (["A", "F"], "LL", False), (["P", "F"], "", False),
        (["R", "F"], "PA", True), (["L", "H"], "", True), (["R", "H"], "AP", True), (["F", "L"], "", True),
        (["A", "H"], "LL", True), (["R", "F"], "LLD", False), ("", "PA", False), (["X", "F"], "PA", False),
        ("L", "PA", False),
    ],
)  # fmt: skip
def test_a_header_may_say_that_its_picture_is_turned(
    tmp_path: Path, orientation: list[str] | str, view: str, turned: bool
) -> None:
    words = words_of(write(tmp_path / "a.dcm", PatientOrientation=orientation, ViewPosition=view))
    assert words.turned is turned


def test_no_word_is_of_two_kinds() -> None:
    words = [word for kind in VIEWS.values() for word in kind]
    assert len(set(words)) == len(words) and not any("CHEST" in word for word in ELSEWHERE)


def test_words_of_a_file_a_folder_and_of_no_dicom(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", Modality="dx", BodyPartExamined="Hand ", ViewPosition="pa")
    assert words_of(file) == Words("DX", "HAND", "PA")
    series = tmp_path / "series"
    series.mkdir()
    (series / "0.txt").write_text("no DICOM")
    write(series / "1.dcm", Modality="CT", BodyPartExamined="HEAD")
    assert words_of(series) == Words("CT", "HEAD", "")
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    assert words_of(tmp_path / "b.png") == words_of(tmp_path / "absent.dcm") == Words()


@pytest.mark.parametrize(
    ("term", "xray", "ct"), [("CR", False, True), ("US", True, True), ("CT", True, False), ("", False, False)]
)
def test_modality(term: str, xray: bool, ct: bool) -> None:
    words = Words(term)
    assert (words.modality_elsewhere("chest_xray"), words.modality_elsewhere("chest_ct")) == (xray, ct)
