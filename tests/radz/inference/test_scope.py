"""Out of scope by words and by looks: columns, reasons, counts; old runs and exports."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from changed_dicom import changed
from PIL import Image
from pydicom.uid import UltrasoundImageStorage

from data_modules.pixels import read_gray
from radz import Radz
from radz.inference.export import export_run
from radz.inference.predict import predict_folder
from radz.inference.scope import NOT_MEASURED, Verdict, judge, pictures_of, summary
from radz.methods.training_scope import FILE, Scope, read

FAR = "farther from training than all 12 validation studies"


@pytest.fixture(scope="module")
def engine(trained_run: Path) -> Radz:
    return Radz.from_pretrained(trained_run)


@pytest.fixture(scope="module")
def files(phantom_folder: Path, engine: Radz) -> list[Path]:
    """Validation studies of the phantom, which are within the limit."""
    return sorted(phantom_folder.glob("images/val-*.dcm"))[:3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, files: list[Path]) -> Path:
    """A chest as it is, and pictures that are none."""
    target = tmp_path_factory.mktemp("in")
    shutil.copy(files[0], target / "chest.dcm")
    changed(files[0], target / "hand.dcm", BodyPartExamined="HAND")
    changed(files[0], target / "lateral.dcm", ViewPosition="LL")
    changed(files[0], target / "us.dcm", Modality="US")
    changed(files[0], target / "blank.dcm", Modality="", SOPClassUID=UltrasoundImageStorage)
    (target / "ct.nii").write_bytes(bytes(400))
    (target / "broken.dcm").write_bytes(files[1].read_bytes()[:700])
    gray = read_gray(files[1])
    Image.fromarray(255 - gray).save(target / "inverted.png")
    Image.fromarray((gray * 0.1).astype(np.uint8)).save(target / "underexposed.png")
    noise = np.random.default_rng(0).integers(0, 256, gray.shape).astype(np.uint8)
    Image.fromarray(noise).save(target / "noise.png")
    return target


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_every_study_says_whether_it_is_in_scope(
    trained_run: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "radz.inference.predict"):
        out = predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["mass"])
    found = rows(out)
    assert list(found["chest.dcm"])[:4] == ["file", "error", "in_scope", "reason"]
    told = {name: (row["in_scope"], row["reason"]) for name, row in found.items()}
    assert told["chest.dcm"] == ("yes", "")
    assert told["hand.dcm"] == ("no", "BodyPartExamined is HAND")
    assert told["lateral.dcm"] == ("no", "ViewPosition is LL, and training had no lateral view")
    assert told["us.dcm"] == ("no", "Modality is US") and found["us.dcm"]["mass"] == ""
    assert told["blank.dcm"] == ("no", "SOPClassUID names Ultrasound Image Storage")
    assert told["ct.nii"] == ("no", "is a CT volume, and the run was trained on chest X-rays")
    assert told["broken.dcm"] == ("", "not read, see error")
    for name in ("inverted.png", "underexposed.png", "noise.png"):
        assert told[name][0] == "no" and told[name][1].endswith(FAR), told[name]
        assert 0 <= float(found[name]["mass"]) <= 1  # scored all the same
    assert "8 of 10 studies out of scope, where scores mean nothing (column reason: " in caplog.text
    assert "1 of 10 studies not known to be in scope (column reason: 1 x not read, see error)" in caplog.text
    scope = json.loads((tmp_path / "s.json").read_text())["scope"]
    assert scope["studies"] == {"yes": 1, "no": 8, "unknown": 1} and scope["percent"] == 99
    assert scope["modalities"]["chest_xray"]["views"] == {"frontal": 24}
    assert scope["modalities"]["chest_xray"]["appearance"]["studies"] == 12


def test_in_scope_of_the_engine(engine: Radz, folder: Path) -> None:
    names = ["chest.dcm", "hand.dcm", "noise.png", "us.dcm", "ct.nii"]
    found = engine.in_scope([folder / name for name in names])
    assert found["in_scope"].tolist() == ["yes", "no", "no", "no", "no"]
    appearance = engine.scopes["chest_xray"].appearance
    assert appearance is not None
    assert (found["distance"] > appearance.limit).tolist() == [False, False, True, False, False]
    assert list(engine.in_scope([]).columns) == ["in_scope", "reason", "distance"]


def test_a_run_of_an_earlier_radz_says_that_it_did_not_measure(
    trained_run: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Path(shutil.copytree(trained_run, tmp_path / "old"))
    (old / FILE).unlink()
    found = rows(predict_folder(str(old), str(folder), str(tmp_path / "s.csv"), ["mass"]))
    told = {name: (row["in_scope"], row["reason"]) for name, row in found.items()}
    for name in ("chest.dcm", "noise.png", "lateral.dcm"):
        assert told[name] == ("", NOT_MEASURED)
    assert told["hand.dcm"][0] == told["us.dcm"][0] == "no"
    assert "not known to be in scope" in caplog.text


def test_an_export_has_the_scope_of_its_run(trained_run: Path, folder: Path, tmp_path: Path) -> None:
    export = export_run(str(trained_run), str(tmp_path / "export"))
    assert {name: one.plain() for name, one in read(export).items()} == {
        name: one.plain() for name, one in read(trained_run).items()
    }
    assert f"`{FILE}`" in (export / "README.md").read_text()
    tables = [
        rows(predict_folder(str(source), str(folder), str(tmp_path / f"{source.name}.csv"), ["mass"]))
        for source in (trained_run, export)
    ]
    answers = [{name: (row["in_scope"], row["reason"]) for name, row in table.items()} for table in tables]
    assert answers[0] == answers[1]


def test_a_study_of_several_files_is_out_when_one_is(engine: Radz, folder: Path, trained_run: Path) -> None:
    known = read(trained_run)["chest_xray"]
    chest, noise = engine.images(folder / "chest.dcm"), engine.images(folder / "noise.png")
    pair = [folder / "chest.dcm", folder / "noise.png"]
    assert judge(known, "chest_xray", pair, torch.cat([chest, noise])).in_scope == "no"
    hands = judge(known, "chest_xray", [folder / "hand.dcm"] * 2, torch.cat([chest, chest]))
    assert hands.reason == "BodyPartExamined is HAND"
    lateral = judge(
        Scope({"frontal": 1, "lateral": 1}, known.appearance), "chest_xray", [folder / "lateral.dcm"], chest
    )
    assert lateral.in_scope == "yes"


def test_a_turned_orientation_is_a_doubt(engine: Radz, folder: Path, trained_run: Path, tmp_path: Path) -> None:
    """Not out of scope, since headers are often wrong; a CT has other orientations."""
    known, doubt = read(trained_run)["chest_xray"], "PatientOrientation is R\\F, that of a mirrored or turned picture"
    mirrored = changed(folder / "chest.dcm", tmp_path / "x.dcm", PatientOrientation=["R", "F"])
    chest, files = engine.images(mirrored), [folder / "chest.dcm", mirrored, mirrored]
    found = judge(known, "chest_xray", files, torch.cat([chest] * 3))
    assert (found.in_scope, found.reason) == ("", doubt) and found.distance is not None
    assert judge(None, "chest_xray", files, chest).reason == f"{NOT_MEASURED}; {doubt}"
    assert judge(None, "chest_ct", [mirrored], chest).reason != f"{NOT_MEASURED}; {doubt}"
    assert judge(known, "chest_xray", [folder / "hand.dcm", mirrored], chest).reason == "BodyPartExamined is HAND"


def test_of_a_ct_the_middle_slice_is_looked_at() -> None:
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 4, 4)
    assert pictures_of(images, "chest_ct").shape == (1, 4, 4) and pictures_of(images, "chest_ct")[0, 0, 0] == 2
    assert pictures_of(images, "chest_xray").shape == (5, 4, 4)


def test_the_summary_names_the_commonest_reasons() -> None:
    assert summary([Verdict("yes", "")]) == []
    verdicts = [Verdict("no", f"reason {n}") for n in (1, 2, 2, 3, 4, 5)]
    (line,) = summary(verdicts)
    assert (
        line.startswith("6 of 6 studies out of scope") and "2 x reason 2; 1 x reason 1; 1 x reason 3; 2 other" in line
    )
