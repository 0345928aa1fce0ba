"""`radz predict`: a folder in, a CSV out, every file accounted for."""

from __future__ import annotations

import csv
import logging
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from data_modules.errors import InputError
from data_modules.pixels import read_gray
from radz import Radz
from radz.inference.predict import predict_folder


@pytest.fixture(scope="module")
def engine(trained_run: Path) -> Radz:
    return Radz.from_pretrained(trained_run)


@pytest.fixture(scope="module")
def files(phantom_folder: Path) -> list[Path]:
    """DICOM files of the phantom."""
    return sorted(phantom_folder.glob("images/*.dcm"))[:3]


@pytest.fixture
def folder(tmp_path: Path, files: list[Path]) -> Path:
    """DICOM, PNG, a file without suffix in a folder of its own, a broken DICOM, and a text that is no image."""
    target = tmp_path / "in"
    (target / "deeper").mkdir(parents=True)
    shutil.copy(files[0], target / "a.dcm")
    shutil.copy(files[1], target / "deeper/b")
    Image.fromarray(np.arange(80 * 80, dtype=np.uint8).reshape(80, 80)).save(target / "c.PNG")
    (target / "d.dcm").write_bytes(files[2].read_bytes()[:700])
    shutil.copy(files[1], target / "1.2.840.77")  # a UID as name
    (target / "notes.txt").write_text("not an image")
    return target


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predict_scores_what_can_be_read_and_lists_the_rest(
    trained_run: Path, engine: Radz, folder: Path, files: list[Path], tmp_path: Path
) -> None:
    out = predict_folder(str(trained_run), str(folder), str(tmp_path / "out/scores.csv"), ["edema", "mass"])
    found = {row["file"]: row for row in rows(out)}
    assert list(found) == ["1.2.840.77", "a.dcm", "c.PNG", "d.dcm", "deeper/b"]
    assert list(found["a.dcm"]) == ["file", "error", "edema", "mass"]
    assert found["d.dcm"]["error"] and "d.dcm" in found["d.dcm"]["error"] and "\n" not in found["d.dcm"]["error"]
    assert found["d.dcm"]["edema"] == found["d.dcm"]["mass"] == ""
    assert [found[name]["error"] for name in ("a.dcm", "c.PNG", "1.2.840.77")] == ["", "", ""]
    expected = engine.score(files[:2], ["edema", "mass"]).to_numpy()
    scored = [[float(found[name][finding]) for finding in ("edema", "mass")] for name in ("a.dcm", "deeper/b")]
    assert found["1.2.840.77"]["mass"] == found["deeper/b"]["mass"]
    assert np.abs(np.array(scored) - expected).max() < 1e-5
    assert [path.name for path in out.parent.iterdir()] == ["scores.csv"]


def test_predict_takes_the_findings_of_the_bank(trained_run: Path, engine: Radz, folder: Path, tmp_path: Path) -> None:
    (folder / "d.dcm").unlink()
    (found, *_) = rows(predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), []))
    assert [*found][2:] == [name for name in engine.bank.names if name != "no_finding"]


def test_predict_without_one_readable_file_stops(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match=r"none of 1 files.*x\.png") as fault:
        predict_folder(str(trained_run), str(tmp_path / "in"), str(tmp_path / "s.csv"), ["edema"])
    assert "\n" not in str(fault.value) and not (tmp_path / "s.csv").exists()


def changed(source: Path, target: Path, **tags: object) -> None:
    """A copy of a DICOM file with other tags; None removes one."""
    dataset = pydicom.dcmread(source)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(target)


def test_dicom_files_that_are_no_radiograph_are_listed(trained_run: Path, files: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(files[0], source / "a.dcm")
    pixels = pydicom.dcmread(files[0]).PixelData
    changed(files[0], source / "frames.dcm", NumberOfFrames=2, PixelData=pixels * 2)
    changed(files[0], source / "report.dcm", PixelData=None)
    found = rows(predict_folder(str(trained_run), str(source), str(tmp_path / "s.csv"), ["mass"]))
    assert found[0]["error"] == "" and 0 <= float(found[0]["mass"]) <= 1
    assert "2 frames where a radiograph has one" in found[1]["error"] and found[1]["mass"] == ""
    assert "no pixel data" in found[2]["error"] and found[2]["mass"] == ""


def test_every_file_is_decoded_once_and_texts_once(
    trained_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, encoded = [], []
    images, scores = Radz.images, Radz.score_images
    monkeypatch.setattr("radz.inference.predict.BATCH", 2)
    monkeypatch.setattr(Radz, "images", lambda self, path: read.append(path) or images(self, path))

    def spy(self: Radz, *arguments: object) -> np.ndarray:
        found = scores(self, *arguments)
        encoded.append(len(self._classifiers))
        return found

    monkeypatch.setattr(Radz, "score_images", spy)
    predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["edema"])
    assert sorted(path.name for path in read) == ["1.2.840.77", "a.dcm", "b", "c.PNG", "d.dcm"]
    assert encoded == [1, 1, 1]


def test_the_counts_are_told(trained_run: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "radz.inference.predict"):
        predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["effusion"])
    assert "4 of 5 studies scored, 1 unreadable (column error); 1 files of other kinds left out" in caplog.text
    assert list(rows(tmp_path / "s.csv")[0]) == ["file", "error", "pleural_effusion"]


def test_places_that_cannot_serve_are_one_line(trained_run: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for source, out, message in (
        (folder, tmp_path, "out: .* is a folder; name a file in it"),
        (folder, tmp_path / "file" / "s.csv", r"s\.csv: cannot be written"),
        (folder / "a.dcm", tmp_path / "s.csv", "is a file; give the folder"),
        (tmp_path / "absent", tmp_path / "s.csv", "no such folder"),
    ):
        with pytest.raises(InputError, match=message) as fault:
            predict_folder(str(trained_run), str(source), str(out), ["edema"])
        assert "\n" not in str(fault.value)


def test_an_old_table_stays_when_the_new_one_fails(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "s.csv").write_text("old")
    with pytest.raises(InputError, match="none of 1 files"):
        predict_folder(str(trained_run), str(tmp_path / "in"), str(tmp_path / "s.csv"), ["edema"])
    assert (tmp_path / "s.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 2


def test_what_is_no_chest_radiograph_is_listed_and_never_scored(
    trained_run: Path, files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad file, whatever it raises, costs one row; what macOS leaves costs none; a linked folder is entered."""
    source = tmp_path / "in"
    (source / "__MACOSX").mkdir(parents=True)
    shutil.copy(files[0], source / "a.dcm")
    changed(files[0], source / "blank_modality.dcm", Modality="")
    for modality in ("US", "PT", "SEG", "XA", "MG", "SR"):
        changed(files[0], source / f"m_{modality}.dcm", Modality=modality)
    changed(files[0], source / "samples.dcm", SamplesPerPixel=3)
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(source / "blank.png")
    Image.fromarray(np.arange(81, dtype=np.uint8).reshape(9, 9)).save(source / "x.tiff")
    for name in ("._a.dcm", ".DS_Store", "Thumbs.db", "__MACOSX/a.dcm", "DICOMDIR"):
        (source / name).write_bytes(b"Mac OS X")
    (tmp_path / "disk").mkdir()
    shutil.copy(files[1], tmp_path / "disk/b.dcm")
    (source / "linked").symlink_to(tmp_path / "disk")
    (source / "gone.dcm").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.INFO, "radz.inference.predict"):
        found = rows(predict_folder(str(trained_run), str(source), str(tmp_path / "s.csv"), ["mass"]))
    told = {row["file"]: row["error"] for row in found}
    assert all((row["mass"] == "") == bool(row["error"]) for row in found)
    assert {name for name, error in told.items() if not error} == {"a.dcm", "blank_modality.dcm", "linked/b.dcm"}
    for name, part in (
        ("m_US.dcm", "Modality holds US"), ("m_SEG.dcm", "Modality holds SEG"), ("m_XA.dcm", "Modality holds XA"),
        ("m_SR.dcm", "Modality holds SR"), ("samples.dcm", "SamplesPerPixel holds 3"), ("blank.png", "is blank"),
        ("x.tiff", "is a TIFF picture"), ("gone.dcm", "a link that leads nowhere"), ("m_PT.dcm", "holds PT"),
        ("m_MG.dcm", "holds MG"),
    ):  # fmt: skip
        assert part in told.pop(name)
    assert len(told) == 3 and "5 files of the system's own ignored" in caplog.text


def test_a_run_that_knows_ct_does_not_score_a_radiograph(engine: Radz, files: list[Path], tmp_path: Path) -> None:
    changed(files[0], tmp_path / "dx.dcm", Modality="DX")
    ct = object.__new__(Radz)
    vars(ct).update(vars(engine) | {"modalities": ("chest_ct",)})
    with pytest.raises(InputError, match=r"dx\.dcm: is no CT: Modality holds DX"):
        ct.images(tmp_path / "dx.dcm")
    changed(files[0], tmp_path / "ct.dcm", Modality="CT")
    with pytest.raises(InputError, match="is no chest radiograph: Modality holds CT; a CT is read from the folder"):
        engine.images(tmp_path / "ct.dcm")


def test_a_map_that_cannot_be_drawn_does_not_end_the_folder(
    trained_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def vanished(path: Path, **_: object) -> np.ndarray:
        if path.name == "a.dcm":
            raise InputError(f"{path}: cannot be opened")
        return read_gray(path)

    monkeypatch.setattr("radz.inference.predict.read_gray", vanished)
    predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["mass"], str(tmp_path / "maps"))
    assert len(rows(tmp_path / "s.csv")) == 5 and "heatmaps: none is drawn" in caplog.text
    drawn = {path.name for path in (tmp_path / "maps").rglob("*.png")}
    assert drawn == {"1.2.840.77_mass.png", "b_mass.png", "c.PNG_mass.png"}
