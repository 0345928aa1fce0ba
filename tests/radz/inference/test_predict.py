"""`radz predict`: a folder in, a CSV out, every file accounted for."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from changed_dicom import changed
from csv_rows import rows_of
from PIL import Image

from data_modules.errors import InputError
from data_modules.pixels import read_gray
from radz import Radz
from radz.cli import main
from radz.inference.predict import predict_folder
from radz.metrics.calibration import fit
from radz.metrics.ranking import best_f1


def test_predict_scores_what_can_be_read_and_lists_the_rest(
    trained_run: Path, engine: Radz, folder: Path, files: list[Path], tmp_path: Path
) -> None:
    out = predict_folder(str(trained_run), str(folder), str(tmp_path / "out/scores.csv"), ["edema", "mass"])
    found = {row["file"]: row for row in rows_of(out)}
    assert list(found) == ["1.2.840.77", "a.dcm", "c.PNG", "d.dcm", "deeper/b"]
    of_finding = [f"{name}{part}" for name in ("edema", "mass") for part in ("", "/probability", "/call", "/answer")]
    assert list(found["a.dcm"]) == ["file", "error", "in_scope", "reason", *of_finding]
    assert found["d.dcm"]["error"] and "d.dcm" in found["d.dcm"]["error"] and "\n" not in found["d.dcm"]["error"]
    assert {found["d.dcm"][name] for name in of_finding} == {""}
    assert [found[name]["error"] for name in ("a.dcm", "c.PNG", "1.2.840.77")] == ["", "", ""]
    expected = engine.score(files[:2], ["edema", "mass"]).to_numpy()
    scored = [[float(found[name][finding]) for finding in ("edema", "mass")] for name in ("a.dcm", "deeper/b")]
    assert found["1.2.840.77"]["mass"] == found["deeper/b"]["mass"]
    assert np.abs(np.array(scored) - expected).max() < 1e-5
    assert sorted(path.name for path in out.parent.iterdir()) == ["scores.csv", "scores.json"]


def test_predict_takes_the_findings_of_the_bank(trained_run: Path, engine: Radz, folder: Path, tmp_path: Path) -> None:
    (folder / "d.dcm").unlink()
    (found, *_) = rows_of(predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), []))
    assert [*found][4::4] == [name for name in engine.bank.names if name != "no_finding"]


def test_dicom_files_that_are_no_radiograph_are_listed(trained_run: Path, files: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(files[0], source / "a.dcm")
    pixels = pydicom.dcmread(files[0]).PixelData
    changed(files[0], source / "frames.dcm", NumberOfFrames=2, PixelData=pixels * 2)
    changed(files[0], source / "report.dcm", PixelData=None)
    found = rows_of(predict_folder(str(trained_run), str(source), str(tmp_path / "s.csv"), ["mass"]))
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
    assert encoded == [1] * 4  # the findings are looked at before the first file


def test_the_counts_are_told(trained_run: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "radz.inference.predict"):
        predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["effusion"])
    assert "4 of 5 studies scored, 1 unreadable (column error); 1 file of another kind left out" in caplog.text
    assert list(rows_of(tmp_path / "s.csv")[0])[2:5] == ["in_scope", "reason", "pleural_effusion"]


def test_places_that_cannot_serve_are_one_line(trained_run: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for source, out, message in (
        (folder, tmp_path, "out: .* is a folder; name a file in it"),
        (folder, tmp_path / "s.json", "out: .*s.json is to be a table; let its name end in .csv"),
        (folder, tmp_path / "s.csv.gz", "^out: .*would be plain text under the name of .gz; let it end in .csv"),
        (folder, tmp_path / "file" / "s.csv", "^out: .*file: not a folder to write to"),
        (folder / "a.dcm", tmp_path / "s.csv", "is a file; give the folder"),
        (tmp_path / "absent", tmp_path / "s.csv", "no such folder"),
    ):
        with pytest.raises(InputError, match=message) as fault:
            predict_folder(str(trained_run), str(source), str(out), ["edema"])
        assert "\n" not in str(fault.value)
    with pytest.raises(InputError, match=r"^heatmaps: .* lies in the folder of input, whose files are all scored"):
        predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["edema"], str(folder / "heat"))
    assert not (folder / "heat").exists()


def test_without_one_readable_file_it_stops_and_an_old_table_stays(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "s.csv").write_text("old")
    for name in ("s.csv", "new.csv"):
        with pytest.raises(InputError, match=r"none of 1 file.*x\.png") as fault:
            predict_folder(str(trained_run), str(tmp_path / "in"), str(tmp_path / name), ["edema"])
        assert "\n" not in str(fault.value)
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
        found = rows_of(predict_folder(str(trained_run), str(source), str(tmp_path / "s.csv"), ["mass"]))
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


@pytest.mark.parametrize("name", ["nopre_1.2.3.4", "plain", "scan.img", "big.img", "1.2.840.9"])
def test_a_file_that_may_be_dicom_has_a_row(trained_run: Path, files: list[Path], tmp_path: Path, name: str) -> None:
    """Without its preamble, under any name; and whatever is called by a UID."""
    (tmp_path / "in").mkdir()
    shutil.copy(files[0], tmp_path / "in/a.dcm")
    cut = {"big.img": b"\0\x08\0\x05CS", "1.2.840.9": b""}.get(name, files[0].read_bytes()[132:])
    (tmp_path / "in" / name).write_bytes(cut)
    (tmp_path / "in/notes.txt").write_text("notes")
    rows = rows_of(predict_folder(str(trained_run), str(tmp_path / "in"), str(tmp_path / "s.csv"), ["mass"]))
    assert {row["file"]: bool(row["error"]) for row in rows} == {name: True, "a.dcm": False}


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

    monkeypatch.setattr("radz.inference.engine.read_gray", vanished)
    predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["mass"], str(tmp_path / "maps"))
    assert len(rows_of(tmp_path / "s.csv")) == 5 and "heatmaps: none is drawn" in caplog.text
    drawn = {path.name for path in (tmp_path / "maps").rglob("*.png")}
    assert drawn == {"1.2.840.77_mass.png", "b_mass.png", "c.PNG_mass.png"}


def beside(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())


def test_probability_and_call_follow_from_the_validation_of_the_run(
    trained_run: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From the prediction file of the run alone: thresholds, Platt's fit, sigmoid, prior odds."""
    wanted = ["edema", "mass", "cardiomegaly"]
    out = predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), wanted, prevalence={"edema": 0.02})
    found, about = pd.read_csv(out).dropna(subset="edema"), beside(out)
    val = pd.read_csv(trained_run / "predictions/phantom_val.csv")
    assert len(found) == 4 and about["scorer"] == "fused" and set(about["findings"]) == {"chest_xray"}
    assert about["run"]["digest"] == json.loads((trained_run / "environment.json").read_text())["config_digest"]
    told = about["findings"]["chest_xray"]
    for name, prevalence in (("edema", 0.02), ("cardiomegaly", None)):
        labels = val[f"label/{name}"].to_numpy()
        ones, zeros = int((labels == 1).sum()), int((labels == 0).sum())
        platt = fit(labels, val[f"fused/{name}"].to_numpy(np.float32))
        odds = np.exp(platt.slope * found[name] + platt.intercept)
        if prevalence is not None:
            odds *= prevalence / (1 - prevalence) * zeros / ones
        np.testing.assert_allclose(found[f"{name}/probability"], odds / (1 + odds), rtol=1e-4)
        threshold = best_f1(labels, val[f"fused/{name}"].to_numpy(np.float32))[0]
        assert found[f"{name}/call"].tolist() == (found[name] >= threshold).astype(int).tolist()
        assert told[name]["threshold"] == threshold and told[name]["rule"] == "validation"
        assert (told[name]["positives"], told[name]["negatives"]) == (ones, zeros)
        assert told[name]["fitted_at"] == ones / (ones + zeros) and told[name]["validation"] == "phantom/val"
        assert told[name]["prevalence"] == (prevalence or ones / (ones + zeros))
    assert val["label/mass"].max() == 0, "the demo holds back masses"
    assert found["mass/probability"].isna().all() and found["mass/call"].isna().all() and found["mass"].notna().all()
    assert told["mass"]["why_none"] == "no positive among 12 known labels in phantom/val"
    assert "no probability for 1 of 3 findings (mass: no positive among 12 known labels in phantom/val)" in caplog.text
    assert "a.dcm" not in out.with_suffix(".json").read_text()


def test_an_older_run_has_probabilities_out_of_its_predictions(
    trained_run: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = predict_folder(str(trained_run), str(folder), str(tmp_path / "new.csv"), ["edema"])
    run = shutil.copytree(trained_run, tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics.pop("validation")) == {"phantom"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    old = predict_folder(str(run), str(folder), str(tmp_path / "old.csv"), ["edema"])
    assert new.read_bytes() == old.read_bytes() and beside(new)["findings"] == beside(old)["findings"]
    shutil.rmtree(run / "predictions")
    none = predict_folder(str(run), str(folder), str(tmp_path / "none.csv"), ["edema"])
    assert {(row["edema/probability"], row["edema/call"]) for row in rows_of(none)} == {("", "")}
    assert "no probability for 1 of 1 finding (edema: no validation split is at hand for these studies)" in caplog.text
    (run / "metrics.json").write_text(json.dumps(metrics | {"validation": {"phantom": {"split": 3}}}))
    with pytest.raises(InputError, match=r"metrics\.json: validation is damaged"):
        Radz.from_pretrained(run)


def test_probabilities_of_the_engine_are_those_of_the_table(
    trained_run: Path, engine: Radz, folder: Path, tmp_path: Path
) -> None:
    (folder / "d.dcm").unlink()
    found = pd.read_csv(
        predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["effusion", "mass"], prevalence=0.3)
    )
    paths = [folder / name for name in found["file"]]
    table = engine.probabilities(paths, ["effusion", "mass"], 0.3)
    assert list(table.columns) == ["pleural_effusion", "mass"] and list(table.index) == [str(path) for path in paths]
    np.testing.assert_allclose(table["pleural_effusion"], found["pleural_effusion/probability"], rtol=1e-3)
    assert table["mass"].isna().all() and engine.probabilities([], ["edema"]).shape == (0, 1)
    assert (
        (engine.probabilities(paths, ["effusion"], {"pleural_effusion": 0.1}) < table[["pleural_effusion"]])
        .to_numpy()
        .all()
    )


def test_a_study_of_several_files_is_scored_as_one(
    trained_run: Path, engine: Radz, files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the model that training had: all images in one sequence; a file that cannot be read costs its study."""
    source = tmp_path / "in"
    for name in ("p1", "p2", "p3"):
        (source / name).mkdir(parents=True)
    for file, name in zip(files, ("pa.dcm", "lateral.dcm"), strict=False):
        changed(file, source / "p1" / name, PatientID="7", PatientName="")
    shutil.copy(files[2], source / "p2/pa.dcm")
    shutil.copy(files[2], source / "p3/pa.dcm")
    (source / "p3/lateral.png").write_bytes(b"\x89PNG broken")
    out, maps = str(tmp_path / "s.csv"), tmp_path / "maps"
    with caplog.at_level(logging.INFO, "radz.inference.predict"):
        found = {row["file"]: row for row in rows_of(predict_folder(
            str(trained_run), str(source), out, ["edema"], str(maps), studies="folder"
        ))}  # fmt: skip
    assert list(found) == ["p1", "p2", "p3"] and "2 of 3 studies scored, 1 unreadable" in caplog.text
    assert "2 studies of several files, 2 at most" in caplog.text
    assert "lateral.png" in found["p3"]["error"] and found["p3"]["edema"] == found["p3"]["edema/call"] == ""
    together = torch.cat([engine.images(source / "p1" / name) for name in ("lateral.dcm", "pa.dcm")])
    expected = engine.score_images([together], ["chest_xray"], ["edema"])[0, 0]
    alone = engine.score([*files[:2], files[2]], ["edema"])["edema"].to_numpy()
    assert abs(float(found["p1"]["edema"]) - expected) < 1e-5 < abs(expected - alone[:2]).min()
    assert abs(float(found["p2"]["edema"]) - alone[2]) < 1e-5
    drawn = sorted(path.relative_to(maps).as_posix() for path in maps.rglob("*.png"))
    assert drawn == ["p1/lateral.dcm_edema.png", "p1/pa.dcm_edema.png", "p2/pa.dcm_edema.png"]

    (tmp_path / "studies.csv").write_text("file,study\np1/pa.dcm,visit 1\np1/lateral.dcm,visit 1\np2/pa.dcm,visit 2\n")
    table = {row["file"]: row for row in rows_of(predict_folder(
        str(trained_run), str(source), out, ["edema"], studies=str(tmp_path / "studies.csv")
    ))}  # fmt: skip
    assert list(table) == ["p3/lateral.png", "p3/pa.dcm", "visit 1", "visit 2"]
    expected = engine.score_images([together.flip(0)], ["chest_xray"], ["edema"])[0, 0]
    assert abs(float(table["visit 1"]["edema"]) - expected) < 1e-5 and table["visit 2"]["edema"] == found["p2"]["edema"]


def test_a_run_of_single_images_warns_of_studies(
    trained_run: Path, files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, source = shutil.copytree(trained_run, tmp_path / "run"), tmp_path / "in"
    config = (run / "config.yaml").read_text()
    assert "unit: study" in config
    (run / "config.yaml").write_text(config.replace("unit: study", "unit: image"))
    source.mkdir()
    for number in range(2):
        changed(files[number], source / f"{number}.dcm", PatientID="7", PatientName="")
    predict_folder(str(run), str(source), str(tmp_path / "s.csv"), ["edema"])
    assert "was validated on single images" not in caplog.text
    predict_folder(str(run), str(source), str(tmp_path / "s.csv"), ["edema"], studies="folder")
    assert "was validated on single images" in caplog.text and [row["file"] for row in rows_of(tmp_path / "s.csv")] == [
        "."
    ]


def test_neither_table_nor_json_is_written_where_one_cannot_be(
    trained_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.csv").write_text("old")
    monkeypatch.setattr("radz.inference.predict._about", lambda *_: {"x": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        predict_folder(str(trained_run), str(folder), str(tmp_path / "s.csv"), ["edema"])
    assert (tmp_path / "s.csv").read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["in", "s.csv"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["prevalence=2"], "prevalence=2: must be a share above 0 and below 1"),
        (["prevalence=[edema=0.1,edema=0.2]"], "must name each finding once"),
        (["prevalence=[edema]"], "must be a share"),
        (["prevalence=[mass=0.1]"], "prevalence: 'mass' is not among the findings that are scored"),
        (["corpus=other"], "corpus: 'other' has no validation split in this run"),
        (["studies=nowhere.csv"], "studies: there is no file nowhere.csv"),
    ],
)
def test_wrong_keys_are_one_line(
    trained_run: Path, folder: Path, tmp_path: Path, fails: Callable[..., str], keys: list[str], words: str
) -> None:
    out = tmp_path / "s.csv"
    assert words in fails("predict", str(trained_run), f"input={folder}", f"out={out}", "findings=edema", *keys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_the_command_takes_prevalences_by_finding(trained_run: Path, folder: Path, tmp_path: Path) -> None:
    keys = [f"input={folder}", f"out={tmp_path / 's.csv'}", "findings=[edema,effusion]", "corpus=phantom"]
    assert main(["predict", str(trained_run), *keys, "prevalence=[edema=0.1,effusion=0.01]"]) == 0
    told = beside(tmp_path / "s.csv")["findings"]["chest_xray"]
    assert {name: one["prevalence"] for name, one in told.items()} == {"edema": 0.1, "pleural_effusion": 0.01}
