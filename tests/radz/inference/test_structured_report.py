"""Structured reports of `radz predict`, read back by highdicom and pydicom."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
from collections.abc import Callable
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pandas as pd
import pytest
from highdicom.sr import CodedConcept, srread
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, generate_uid
from synthetic_dicom import dataset

from data_modules.findings import ontology
from radz.inference import report_document
from radz.inference.predict import predict_folder
from radz.inference.readings import Reading
from radz.inference.report_document import CODED, dicom_file, finding_code, structured_report
from radz.inference.scope import Verdict
from radz.inference.structured_report import NOTICE, Reports
from radz.inference.studies import Study
from radz.methods.trained import weights_digest
from radz.metrics.calibration import Platt

SAMPLES = Path(os.environ.get("RADZ_SAMPLES", Path(__file__).parents[4] / "shared/data")) / "dicom"
FINDINGS = ["edema", "hiatal_hernia"]
READINGS = {
    "edema": Reading("edema", "phantom/val", 0.5, Platt(2.0, -1.0), 3, 9, 0.25, 0.25),
    "hiatal_hernia": Reading("hiatal_hernia", "phantom/val", why="no positive"),
}
WITHIN = Verdict("yes", "")
SCORES = {"edema": 0.625, "hiatal_hernia": 0.1}


def reports(tmp_path: Path, **run: str) -> Reports:
    coded = {name: finding_code(name, name.replace("_", " ")) for name in FINDINGS}
    (tmp_path / "in").mkdir(exist_ok=True)
    about = {"name": "demo", "digest": "0a1b", "weights": "2c3d"} | run
    return Reports(tmp_path / "sr", tmp_path / "in", about, "fused", coded)


def radiograph(folder: Path, name: str = "x.dcm", **tags: Any) -> Path:
    """A radiograph with UIDs by which it can be filed; None leaves one out."""
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "Modality": "DX"}
    wanted = {keyword: value for keyword, value in (uids | tags).items() if value is not None}
    held = dataset(np.arange(64, dtype=np.uint16).reshape(8, 8), **wanted)
    for keyword in (keyword for keyword, value in tags.items() if value is None and keyword in held):
        delattr(held, keyword)
    folder.mkdir(exist_ok=True, parents=True)
    held.save_as(folder / name, enforce_file_format=True)
    return folder / name


def series(folder: Path, count: int) -> tuple[list[Path], dict[str, Any]]:
    """Slices of one CT series, whose names count down, and the tags that they share."""
    shared = {keyword: generate_uid() for keyword in ("StudyInstanceUID", "SeriesInstanceUID")}
    shared |= {"Modality": "CT", "PatientID": "7", "SOPClassUID": CTImageStorage}
    shared |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    places = {f"{9 - place}.dcm": [0, 0, place] for place in range(count)}
    return [radiograph(folder, name, ImagePositionPatient=at, **shared) for name, at in places.items()], shared


def written(writer: Reports, *files: Path, modality: str = "chest_xray", readings: Any = READINGS) -> Any:
    """The report of a study, as highdicom reads it."""
    before = writer.written
    writer.add(Study(files[0].name, files), modality, SCORES, readings, WITHIN)
    assert writer.written == before + 1
    (path,) = writer.folder.rglob("*.dcm")
    return srread(path)


def values(report: Any) -> dict[str, dict[str, Any]]:
    """Tracking identifier -> what its measurement group holds, by the meaning of its concept."""
    found = {}
    for group in report.content.get_image_measurement_groups():
        told: dict[str, Any] = {one.name.meaning: one.value for one in group.get_measurements()}
        assert {one.unit for one in group.get_measurements()} == {CodedConcept("1", "UCUM", "no units")}
        told |= {one.name.meaning: one.value.meaning for one in group.get_qualitative_evaluations()}
        found[group.tracking_identifier] = told | {"finding": group.finding_type}
    return found


def test_reports_of_a_folder_hold_what_the_table_holds(
    trained_run: Path, phantom_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = sorted(phantom_folder.glob("images/*.dcm"))[:3]
    source, target = tmp_path / "in", tmp_path / "sr"
    (source / "deeper").mkdir(parents=True)
    shutil.copy(first, source / "a.dcm")
    shutil.copy(second, source / "deeper/b")
    lost = dcmread(third)
    del lost.StudyInstanceUID
    lost.save_as(source / "lost.dcm")
    Image.fromarray(np.arange(6400, dtype=np.uint8).reshape(80, 80)).save(source / "c.png")
    (source / "bad.dcm").write_bytes(first.read_bytes()[:700])
    wanted = ["edema", "mass", "an odd shadow"]
    with caplog.at_level(logging.INFO):
        out = predict_folder(
            str(trained_run), str(source), str(tmp_path / "s.csv"), wanted, prevalence={"edema": 0.02}, sr=str(target)
        )
    table = pd.read_csv(out).set_index("file")
    assert table["error"].notna().to_dict() == {name: name == "bad.dcm" for name in table.index}
    names = {"a.dcm_sr.dcm", "a.dcm_sr.json", "deeper/b_sr.dcm", "deeper/b_sr.json"}
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == names
    assert {stat.S_IMODE((target / name).stat().st_mode) for name in names} == {0o600}
    for name, image in (("a.dcm", first), ("deeper/b", second)):
        row, report, header = table.loc[name], srread(target / f"{name}_sr.dcm"), dcmread(image)
        held = values(report)
        assert list(held) == wanted
        for finding in wanted:
            assert held[finding]["Score in [0, 1]"] == row[finding]
            assert held[finding].get("Probability", float("nan")) == pytest.approx(
                row[f"{finding}/probability"], rel=1e-12, nan_ok=True
            )
            call = row[f"{finding}/call"]
            told = None if np.isnan(call) else ("Absent", "Present")[int(call)]
            assert held[finding].get("Call at the threshold of validation") == told
        assert held["edema"]["finding"] == codes.SCT.PulmonaryEdema and held["mass"]["finding"] == codes.SCT.Mass
        assert "Probability" in held["edema"] and "Probability" not in held["mass"]
        assert held["an odd shadow"]["finding"].scheme_designator == "99RADZ"
        uids = header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID, header.SOPClassUID
        assert report.get_evidence() == [uids]
        assert (report.StudyInstanceUID, report.PatientID) == (header.StudyInstanceUID, header.PatientID)
        content = json.loads((target / f"{name}_sr.json").read_text())
        assert content["report"] == report.SOPInstanceUID and content["run"]["name"] == "demo"
        assert (
            content["findings"][0]["score"] == row["edema"] and content["findings"][0]["read_by"]["prevalence"] == 0.02
        )
        assert str(header.PatientID) not in json.dumps(content)
    assert "lost.dcm: its header has no StudyInstanceUID, by which a report is filed" in caplog.text
    told = "2 structured reports in .*; none of 2 studies .1 of other files than DICOM, 1 with a header at fault .log.."
    assert caplog.text.count("structured reports in") == 1
    assert any(pd.Series([record.getMessage()]).str.fullmatch(told).all() for record in caplog.records)
    assert "copy Patient-related" not in caplog.text and str(dcmread(first).PatientID) not in caplog.text


def test_a_report_says_who_made_it_and_that_nobody_checked_it(tmp_path: Path) -> None:
    report = written(reports(tmp_path), radiograph(tmp_path / "in"))
    assert report.SOPClassUID.name == "Enhanced SR Storage" and report.Modality == "SR"
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    (observer,) = report.content.get_observer_contexts()
    device = observer.observer_identifying_attributes
    assert (device.name, device.manufacturer_name, device.serial_number) == ("demo", "radz", "2c3d")
    texts = [
        item.value for item in hd.sr.utils.find_content_items(report, recursive=True) if item.value_type.value == "TEXT"
    ]
    for part in ("run=demo", "digest=0a1b", "weights=2c3d", "scorer=fused", "threshold=0.5", "prevalence=0.25"):
        assert part in texts
    assert any("For research only" in text for text in texts)
    (language,) = hd.sr.utils.find_content_items(report, name=codes.DCM.LanguageOfContentItemAndDescendants)
    assert language.value.value == "en"
    held = values(report)
    assert held["edema"]["Probability"] == pytest.approx(1 / (1 + np.exp(-0.25)), rel=1e-5)
    assert held["edema"]["Call at the threshold of validation"] == "Present"
    assert set(held["hiatal_hernia"]) == {"Score in [0, 1]", "finding"}


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ({"PatientID": None}, {"PatientID": "", "PatientName": ""}),
        ({"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100"}, {"PatientName": "Müller^Jürgen"}),
        (
            {"PatientName": "Yamada^Tarou=山田^太郎", "SpecificCharacterSet": ["", "ISO 2022 IR 87"]},
            {"PatientName": "Yamada^Tarou=山田^太郎"},
        ),
        ({"PatientSex": "female"}, {"PatientSex": "female"}),
        (
            {"PatientBirthDate": "1950", "StudyDate": "12.3.2020"},
            {"PatientBirthDate": "1950", "StudyDate": "12.3.2020"},
        ),
        ({"StudyTime": "noon", "AccessionNumber": "A\u00a01"}, {"StudyTime": "noon"}),
        ({"PatientName": "x" * 70, "PatientID": "00012 "}, {"PatientName": "x" * 70, "PatientID": "00012"}),
        ({"SpecificCharacterSet": "ISO_IR 999", "PatientID": "1"}, {"PatientID": "1"}),
        ({"OtherPatientIDs": "B7", "StudyDescription": "THORAX ap"}, {"StudyDescription": "THORAX ap"}),
        ({"SOPInstanceUID": None}, {}),
        ({"SOPClassUID": None, "Modality": "CR"}, {}),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, dict) else None,
)
def test_odd_headers_keep_their_patient(tmp_path: Path, tags: dict[str, Any], kept: dict[str, str]) -> None:
    path = radiograph(tmp_path / "in", **tags)
    report, header = written(reports(tmp_path), path), dcmread(path)
    assert {keyword: str(report[keyword].value) for keyword in kept} == kept
    assert {keyword for keyword in report_document.EMPTY_ALLOWED if keyword not in report} == set()
    (evidence,) = report.get_evidence()
    assert evidence[2] == header.file_meta.MediaStorageSOPInstanceUID
    assert report.SpecificCharacterSet == "ISO_IR 192"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A report without a patient."""
    folder = tmp_path_factory.mktemp("document")
    header = dcmread(radiograph(folder / "in"))
    content = reports(folder).content([header], header, "chest_xray", SCORES, READINGS, WITHIN)
    return structured_report(content, [header])


def test_a_report_says_that_its_study_is_out_of_scope(tmp_path: Path) -> None:
    header = dcmread(radiograph(tmp_path / "in"))
    for verdict, notice in (
        (WITHIN, NOTICE), (Verdict("", "not measured"), NOTICE),
        (Verdict("no", "BodyPartExamined is HAND"),
         f"{NOTICE} Out of scope (BodyPartExamined is HAND): these scores mean nothing."),
    ):  # fmt: skip
        content = reports(tmp_path).content([header], header, "chest_xray", SCORES, READINGS, verdict)
        told = [item.TextValue for item in structured_report(content, [header]).content[0].ContentSequence
                if item.ValueType == "TEXT"]  # fmt: skip
        assert content["notice"] == notice and told[-1] == notice
        assert (content["in_scope"], content["reason"]) == (verdict.in_scope or None, verdict.reason or None)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\\=^"), max_size=20)


@settings(max_examples=15, deadline=None)
@given(name=WORDS, identifier=WORDS)
def test_any_name_comes_back(document: Any, name: str, identifier: str) -> None:
    stream = BytesIO()
    header = dataset(
        np.zeros((2, 2), np.uint16), PatientName=name, PatientID=identifier, SpecificCharacterSet="ISO_IR 192"
    )
    header.save_as(stream, enforce_file_format=True)
    report = srread(BytesIO(dicom_file(deepcopy(document), dcmread(BytesIO(stream.getvalue())), "x")))
    assert (str(report.PatientName), report.PatientID or "") == (name, identifier)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "", " ", "1.02.3", "1.2.x", "1." + "2" * 63, "1.2\\1.3"])
def test_what_cannot_be_filed_costs_one_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keyword: str, value: str | None
) -> None:
    writer = reports(tmp_path)
    lost = radiograph(tmp_path / "in", "lost.dcm", PatientName="Doe^Jane", **{keyword: value})
    writer.add(Study("lost.dcm", (lost,)), "chest_xray", SCORES, READINGS, WITHIN)
    cause = f"{keyword} of its header is no valid UID" if (value or "").strip() else f"its header has no {keyword}"
    assert writer.written == 0 and f"lost.dcm: {cause}, by which a report is filed" in caplog.text
    written(writer, radiograph(tmp_path / "in"))
    assert "Doe" not in caplog.text and writer.missing.total() == 1


def test_what_cannot_be_written_again_is_told_without_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quoting(*_: object, **__: object) -> None:
        raise ValueError("bad name Doe^Jane")

    monkeypatch.setattr(hd.sr.EnhancedSR, "save_as", quoting)
    writer = reports(tmp_path)
    writer.add(Study("x.dcm", (radiograph(tmp_path / "in"),)), "chest_xray", SCORES, READINGS, WITHIN)
    assert "x.dcm: patient or study of its header cannot be written again (ValueError)" in caplog.text
    assert writer.written == 0 and "Doe" not in caplog.text


@pytest.mark.parametrize(("place", "name"), [("in/ct", "ct"), ("in", "series")], ids=["below input", "input itself"])
def test_a_series_is_one_report_with_all_its_slices(tmp_path: Path, place: str, name: str) -> None:
    folder = tmp_path / place
    paths, shared = series(folder, 3)
    radiograph(folder, "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **shared)
    writer = reports(tmp_path)
    report = written(writer, folder, modality="chest_ct")
    slices = {dcmread(path).SOPInstanceUID for path in paths}
    assert {instance for _, _, instance, _ in report.get_evidence()} == slices and len(slices) == 3
    uids = shared["StudyInstanceUID"], shared["SeriesInstanceUID"]
    assert {one[:2] for one in report.get_evidence()} == {uids} and report.PatientID == "7"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "sr"]
    assert {path.name for path in (tmp_path / "sr").iterdir()} == {f"{name}_sr.dcm", f"{name}_sr.json"}
    (procedure,) = hd.sr.utils.find_content_items(report, name=codes.DCM.ProcedureReported)
    assert procedure.value == codes.LN.CTUnspecifiedBodyRegion


@pytest.mark.parametrize(
    ("one", "other", "keyword"),
    [
        ({"PatientID": "P1", "PatientName": "ALPHA^ANNA"}, {"PatientName": "BETA^BERT"}, "PatientName"),
        ({"PatientName": "ALPHA^ANNA"}, {"PatientName": "BETA^BERT"}, "PatientName"),
        (
            {"PatientID": "7", "IssuerOfPatientID": "A"},
            {"PatientID": "7", "IssuerOfPatientID": "B"},
            "IssuerOfPatientID",
        ),
        ({"PatientBirthDate": "19500101"}, {"PatientBirthDate": "19600101"}, "PatientBirthDate"),
        ({"PatientID": "7", "PatientName": "ALPHA^ANNA"}, {"PatientName": "Alpha, Anna"}, None),
        ({"PatientID": "7", "PatientName": "ALPHA^ANNA"}, {"PatientID": "7", "PatientName": "Alpha^Anna^^"}, None),
    ],
)
def test_files_of_two_patients_are_no_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, one: dict[str, str], other: dict[str, str], keyword: str | None
) -> None:
    writer, blank = reports(tmp_path), {"PatientID": "", "PatientName": ""}
    files = [radiograph(tmp_path / "in", f"{n}.dcm", **blank | tags) for n, tags in enumerate((one, other))]
    writer.add(Study("both", tuple(files)), "chest_xray", SCORES, READINGS, WITHIN)
    assert writer.written == (keyword is None)
    assert (f"both: its files differ in {keyword}; put" in caplog.text) == (keyword is not None)
    assert "BERT" not in caplog.text


def test_several_files_are_one_report_filed_with_the_latest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer, shared = reports(tmp_path), {"PatientID": "7", "PatientName": "A^B"}
    prior = radiograph(tmp_path / "in", "prior.dcm", StudyDate="20190101", **shared)
    now = radiograph(tmp_path / "in", "now.dcm", StudyDate="20200101", **shared)
    report = written(writer, prior, now)
    assert report.StudyInstanceUID == dcmread(now).StudyInstanceUID and report.StudyDate == "20200101"
    assert [str(uid) for _, _, uid, _ in report.get_evidence(current_procedure_only=True)] == [
        dcmread(now).SOPInstanceUID
    ]
    assert {uid for _, _, uid, _ in report.get_evidence()} == {dcmread(path).SOPInstanceUID for path in (prior, now)}
    other = radiograph(tmp_path / "in", "other.dcm", PatientID="8")
    writer.add(Study("two", (now, other)), "chest_xray", SCORES, READINGS, WITHIN)
    assert "two: its files differ in PatientID" in caplog.text and writer.written == 1
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "in/y.png")
    writer.add(Study("mixed", (now, tmp_path / "in/y.png")), "chest_xray", SCORES, READINGS, WITHIN)
    assert writer.written == 1 and writer.missing.total() == 2


def test_a_repeat_takes_the_place_of_the_first(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "in")
    first, again = written(reports(tmp_path), path), written(reports(tmp_path), path)
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (again.SOPInstanceUID, again.SeriesInstanceUID)
    moved = READINGS | {"edema": Reading("edema", "phantom/val", 0.5, Platt(2.0, -2.0), 3, 9, 0.25, 0.1)}
    other_model, other_prevalence = written(reports(tmp_path, weights="ffff"), path), written(
        reports(tmp_path), path, readings=moved
    )  # fmt: skip
    uids = {one.SOPInstanceUID for one in (first, other_model, other_prevalence)}
    assert len(uids) == 3 and all(uid.is_valid for uid in uids)


def test_codes_are_of_known_findings_and_of_words_that_dicom_allows() -> None:
    assert set(CODED) <= set(ontology().names)
    assert finding_code("cardiomegaly", "x") == {"scheme": "SCT", "value": "287272002", "meaning": "Cardiomegaly"}
    for name in (*ontology().names, "a \\ b", "w" * 90):
        code = finding_code(name, name)
        CodedConcept(code["value"], code["scheme"], code["meaning"])
        assert "\\" not in code["value"] + code["meaning"] and len(code["meaning"]) <= 64


def test_the_digest_of_weights_follows_checkpoint_and_anchors(trained_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    digests = {weights_digest(trained_run), weights_digest(run)}
    assert len(digests) == 1
    for file in (run / "checkpoints/best.ckpt", next(run.glob("anchors/*.safetensors"))):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        digests.add(weights_digest(run))
    export = tmp_path / "export"
    (export / "backbone").mkdir(parents=True)
    (export / "radz.json").write_text("{}")
    (export / "heads.safetensors").write_bytes(b"a")
    digests.add(weights_digest(export))
    (export / "backbone/model.safetensors").write_bytes(b"b")
    digests.add(weights_digest(export))
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("place", "words"),
    [("in/sr", "sr: .* lies in the folder of input"), ("file", "sr: .*file: not a folder to write to"),
     ("sr", r"sr: structured reports.* pip install 'radz\[sr\]'")],
    ids=["in the input", "a file", "without the extra"],
)  # fmt: skip
def test_what_cannot_serve_is_one_line_before_anything_is_loaded(
    tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch, place: str, words: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("x")
    if place == "sr":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = fails("predict", "no_run", f"input={tmp_path / 'in'}", f"out={tmp_path / 's.csv'}", f"sr={tmp_path / place}")
    assert pd.Series([told]).str.contains(words).all() and not (tmp_path / "sr").exists()


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="RADZ_SAMPLES names no folder with dicom/")
def test_reports_of_real_headers(tmp_path: Path) -> None:
    writer = reports(tmp_path)
    writer.source = SAMPLES
    files = sorted(SAMPLES.glob("*.dcm"))[::3]
    for path in files:
        writer.add(Study(path.name, (path,)), "chest_xray", SCORES, READINGS, WITHIN)
    assert writer.written > 10 and writer.written + writer.missing.total() == len(files)
    for path in writer.folder.glob("*.dcm"):
        report, header = srread(path), dcmread(SAMPLES / path.name[:-7], force=True, stop_before_pixels=True)
        assert report.get_evidence()[0][0] == header.StudyInstanceUID == report.StudyInstanceUID
        assert str(report.PatientName) == str(header.get("PatientName", ""))
        assert values(report)["edema"]["Score in [0, 1]"] == SCORES["edema"]
