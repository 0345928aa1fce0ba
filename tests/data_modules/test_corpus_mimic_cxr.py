"""MIMIC-CXR: both releases, labels per study, the radiologist's test labels, reports as a zip or as files."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from official import laid_out, picture, read, refused, states

from data_modules.corpora.mimic_cxr import MEMBER
from data_modules.corpus_config import BadRows
from data_modules.errors import MissingCorpus

FRONTAL = {"view": ["PA", "AP"]}
IMAGES = {  # dicom_id -> subject, study, split, ViewPosition
    "02aa804e-00000000-00000000-00000000-00000001": ("10000032", "50414267", "train", "PA"),
    "02aa804e-00000000-00000000-00000000-00000002": ("10000032", "50414267", "train", "LATERAL"),
    "02aa804e-00000000-00000000-00000000-00000003": ("10000032", "53189527", "train", ""),
    "02aa804e-00000000-00000000-00000000-00000004": ("11000566", "53356050", "validate", "AP"),
    "02aa804e-00000000-00000000-00000000-00000005": ("19999987", "58971208", "test", "AP"),
    "02aa804e-00000000-00000000-00000000-00000006": ("19999987", "55368167", "test", "AP"),
}
CHEXPERT = """
subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,\
Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices
19999987,58971208,,,,1.0,,,,,,,,,0.0,
11000566,53356050,,,,,,,,,1.0,,,,,
10000032,50414267,1.0,,-1.0,0.0,,,,,,,,,,
19999987,55368167,,,,,,,,,,,,,,1.0
"""
"""In no order; study 53189527 has no row."""
RADIOLOGIST = """
study_id,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Airspace Opacity,Lung Lesion,Edema,Consolidation,\
Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices
58971208,,,0.0,1.0,,,,-1.0,,,,,,
"""
REPORT = """                                 FINAL REPORT
 INDICATION:  ___F with dyspnea.

 IMPRESSION:  Old.

 IMPRESSION:  New {number}.
"""


def place(dicom: str, suffix: str) -> str:
    subject, study, *_ = IMAGES[dicom]
    return f"files/p{subject[:2]}/p{subject}/s{study}{suffix}"


root = laid_out("mimic_cxr")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Five studies of six images without their reports, typed as the JPG release has them."""
    split, metadata = "dicom_id,study_id,subject_id,split\n", "dicom_id,subject_id,study_id,ViewPosition,Rows\n"
    for dicom, (subject, study, part, view) in IMAGES.items():
        split += f"{dicom},{study},{subject},{part}\n"
        metadata += f"{dicom},{subject},{study},{view},3056\n"
        picture(tmp_path / place(dicom, f"/{dicom}.jpg"))
    for name, text in {"split": split, "metadata": metadata, "chexpert": CHEXPERT.lstrip()}.items():
        (tmp_path / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def reports() -> dict[str, str]:
    """File below root -> text, of all studies but the last."""
    texts: dict[str, str] = {}
    for dicom in list(IMAGES)[:-1]:
        texts.setdefault(place(dicom, ".txt"), REPORT.format(number=len(texts)))
    return texts


def zipped(path: Path, folder: str = "") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"__MACOSX/{folder}files/p10/._p10000032", "")
        for name, text in reports().items():
            archive.writestr(folder + name, text)


def test_states_of_rows_typed_by_hand(by_hand: Path) -> None:
    found = read("mimic_cxr", by_hand)
    assert found.study_id.tolist() == ["50414267", "53189527", "53356050", "58971208", "55368167"]
    assert found.patient.tolist() == ["10000032", "10000032", "11000566", "19999987", "19999987"]
    assert found.split.tolist() == ["train", "train", "val", "test", "test"]
    first = states(found, "50414267")
    assert (first["atelectasis"], first["consolidation"], first["edema"]) == ("present", "uncertain", "absent")
    assert first["no_finding"] == "unmentioned"
    assert set(states(found, "53189527").values()) == {"unmentioned"}
    assert [name for name, state in states(found, "53356050").items() if state == "present"] == ["no_finding"]
    assert states(found, "58971208")["edema"] == "present" and states(found, "58971208")["pneumothorax"] == "absent"
    assert found.image_offsets.tolist() == [0, 2, 3, 4, 5, 6]
    assert found.source_rows.tolist() == [2, 4, 5, 6, 7]


def test_views_and_other_columns_of_the_metadata_filter_rows(by_hand: Path) -> None:
    found = read("mimic_cxr", by_hand)
    assert found.attributes["view"].tolist() == ["PA", "", "AP", "AP", "AP"]
    assert found.views(range(5)) == ["LATERAL + PA", "", "AP", "AP", "AP"]
    frontal = read("mimic_cxr", by_hand, keep=FRONTAL)
    assert "53189527" not in frontal.study_id and len(frontal.image_ids) == 4
    assert len(read("mimic_cxr", by_hand, keep={"view": ["PA", "AP", ""]}).image_ids) == 5
    assert len(read("mimic_cxr", by_hand, keep={"ViewPosition": ["LATERAL"], "Rows": ["3056"]}).image_ids) == 1


def test_unpacked_tables_and_dicom_images(by_hand: Path) -> None:
    jpg = read("mimic_cxr", by_hand)
    for path in by_hand.glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    for path in by_hand.glob("files/*/*/*/*.jpg"):
        path.rename(path.with_suffix(".dcm"))
    dicom = read("mimic_cxr", by_hand)
    assert all(Path(path).is_file() and path.endswith(".dcm") for path in dicom.image_paths)
    assert (dicom.states == jpg.states).all() and dicom.study_id.tolist() == jpg.study_id.tolist()


def test_part_of_the_images_is_enough_to_know_the_release(by_hand: Path) -> None:
    for path in by_hand.glob("files/p1[01]/*/*/*.jpg"):
        path.unlink()
    for path in by_hand.glob("files/p19/*/*/*.jpg"):
        path.rename(path.with_suffix(".dcm"))
    found = read("mimic_cxr", by_hand, bad=BadRows(on_missing_image="skip"))
    assert set(found.split) == {"test"} and found.coverage.skipped() == 4


def test_the_radiologist_replaces_labels_of_test_studies(by_hand: Path) -> None:
    (by_hand / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text(RADIOLOGIST.lstrip())
    found = read("mimic_cxr", by_hand)
    labelled = states(found, "58971208")
    assert {name for name, state in labelled.items() if state != "unmentioned"} == {
        "cardiomegaly", "lung_opacity", "pneumonia"
    }  # fmt: skip
    assert (labelled["lung_opacity"], labelled["pneumonia"]) == ("present", "uncertain")
    assert states(found, "55368167")["support_devices"] == "present"
    alone = read("mimic_cxr", by_hand, keep={"test_labels": ["", "radiologist"]})
    assert alone.study_id.tolist() == ["50414267", "53189527", "53356050", "58971208"]


def test_the_radiologist_has_no_say_in_training_labels(by_hand: Path) -> None:
    text = RADIOLOGIST.lstrip().replace("58971208", "50414267")
    (by_hand / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text(text)
    assert states(read("mimic_cxr", by_hand), "50414267")["atelectasis"] == "present"


@pytest.mark.parametrize("folder", ["", "mimic-cxr-reports/"])
def test_reports_of_the_zip(by_hand: Path, folder: str) -> None:
    zipped(by_hand / "mimic-cxr-reports.zip", folder)
    found = read("mimic_cxr", by_hand)
    assert found.reports == ["New 0.", "New 1.", "New 2.", "New 3.", ""]
    assert [note.reason for note in found.coverage.notes] == ["empty report"]


@pytest.mark.parametrize("folder", ["", "reports", "mimic-cxr-reports"])
def test_reports_of_a_tree(by_hand: Path, folder: str) -> None:
    for name, text in reports().items():
        path = by_hand / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1") + b"\xff")
    assert read("mimic_cxr", by_hand).reports == ["New 0.", "New 1.", "New 2.", "New 3.", ""]


def test_without_reports_there_is_one_warning(by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read("mimic_cxr", by_hand)
    assert found.reports == [""] * 5 and not found.coverage.notes
    assert [line for line in caplog.messages if "no report below root" in line and "mimic-cxr-reports.zip" in line]


def test_phantom_in_its_layout(root: Path) -> None:
    found = read("mimic_cxr", root)
    assert [len(found.rows(split)) for split in ("train", "val", "test")] == [20, 5, 9]
    assert len(found.image_ids) == 34 + 6 + 2
    frontal = read("mimic_cxr", root, keep=FRONTAL)
    assert len(frontal) == len(frontal.image_ids) == 34
    assert frontal.coverage.filtered == {"mimic_cxr: keep.view": 8}
    # Studies 4 and 21 are without a file; every other report has text, whatever its headings.
    assert [i for i, text in enumerate(found.reports) if not text] == [4, 21]
    assert not any("FINAL REPORT" in text or "As above" in text or "__" in text for text in found.reports)
    totals = found.totals()
    assert totals.loc["no_finding", "present"] > 0 and totals.loc["no_finding", "absent"] == 0
    assert totals.loc["lung_opacity", "present"] > 0 and totals["uncertain"].sum() > 0
    assert set(states(found, found.study_id[24]).values()) == {"unmentioned"}


def test_phantom_unpacked_is_the_same(root: Path) -> None:
    before = read("mimic_cxr", root)
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip") as archive:
        archive.extractall(root / "reports")
    (root / "mimic-cxr-reports.zip").rename(root / "away.zip")
    assert read("mimic_cxr", root).reports == before.reports
    (root / "away.zip").rename(root / "mimic-cxr-reports.zip")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: next(r.glob("files/p10/*/*/*.jpg")).unlink(), r"row \d .*no image file"),
        (lambda r: _edit(r, "split", ",validate", ",valdate"), "split.csv.gz row 5: column 'split' holds another word"),
        (lambda r: _edit(r, "split", "50414267", "50414267.0"), "row 2: column 'study_id' must hold eight digits"),
        (lambda r: _edit(r, "split", "10000032", "../../etc"), "row 2: column 'subject_id' must hold eight digits"),
        (lambda r: _edit(r, "split", "02aa804e-", "/"), "row 2: column 'dicom_id' must hold five groups"),
        (lambda r: _edit(r, "split", "53189527,10000032", "53189527,"), "row 4: column 'subject_id'"),
        (lambda r: _edit(r, "metadata", "ViewPosition", "View"), "no column 'ViewPosition'.*nearest is 'View'"),
        (lambda r: _edit(r, "metadata", "00000002", "00000001"), "metadata.csv.gz row 3: has the dicom_id of an ear"),
        (lambda r: _edit(r, "chexpert", "Edema", "Oedema"), "chexpert.csv.gz: has no column 'Edema'"),
        (lambda r: _edit(r, "chexpert", "-1.0", "-2.0"), "chexpert.csv.gz row 4: value outside .*'Consolidation'"),
        (lambda r: _edit(r, "chexpert", "55368167", "58971208"), "row 5: has the study_id of an earlier row"),
        (lambda r: _edit(r, "chexpert", "55368167", "s55368167"), "row 5: column 'study_id' must hold"),
        (lambda r: (r / "mimic-cxr-reports.zip").write_bytes(b"PK, but cut short"), "report cannot be read .BadZip"),
    ],
)
def test_faults_are_one_line(by_hand: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(by_hand)
    refused(said, "mimic_cxr", by_hand, "10000032", "50414267", "02aa804e")


def test_a_bad_label_can_be_skipped(by_hand: Path) -> None:
    _edit(by_hand, "chexpert", "-1.0", "-2.0")
    found = read("mimic_cxr", by_hand, bad=BadRows(on_bad_label="skip"))
    assert "50414267" not in found.study_id and found.coverage.skipped() == 2


def test_a_damaged_report_is_not_named(by_hand: Path) -> None:
    path = by_hand / "mimic-cxr-reports.zip"
    zipped(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"dyspnea", b"dyspnoe"))  # no longer what its checksum says
    refused("a report cannot be read", "mimic_cxr", by_hand, "50414267")


@pytest.mark.parametrize("name", ["split", "metadata", "chexpert"])
def test_a_missing_table_shows_the_tree(by_hand: Path, name: str) -> None:
    (by_hand / f"mimic-cxr-2.0.0-{name}.csv.gz").unlink()
    with pytest.raises(MissingCorpus, match=f"mimic-cxr-2.0.0-{name}.csv.gz") as fault:
        read("mimic_cxr", by_hand)
    assert "mimic-cxr-reports.zip" in fault.value.help


def _edit(root: Path, table: str, old: str, new: str) -> None:
    path = root / f"mimic-cxr-2.0.0-{table}.csv.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(old.encode(), new.encode(), 1)))


@given(st.text(), st.text())
def test_a_member_is_a_report_with_its_whole_tail_or_not_at_all(before: str, after: str) -> None:
    if match := MEMBER.search(before):
        assert before.endswith(match[1])
    report = "files/p10/p10000032/s50414267.txt"
    match = MEMBER.search(f"{before}/{report}")
    assert match is not None and match[1] == report
    match = MEMBER.search(report + after)
    assert (match is not None) == (after == "")
