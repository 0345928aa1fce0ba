"""`radz predict`: studies that the model refuses, parts of a series, and pictures beside one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from csv_rows import rows_of
from PIL import Image
from synthetic_dicom import series

from data_modules.errors import InputError
from radz import Radz
from radz.inference.predict import predict_folder
from radz.models.encoder import Encoder


def test_a_study_that_exceeds_the_context_costs_one_row(
    trained_run: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    for name, count in (("small", 1), ("large", 3)):
        (source / name).mkdir(parents=True)
        for number in range(count):
            shutil.copy(files[0], source / name / f"{number}.dcm")

    def refuse(self: Encoder, most: dict[str, int], side: int) -> None:
        if max(most.values()) > 2:
            raise InputError("too long")

    monkeypatch.setattr(Encoder, "check_images", refuse)
    found = rows_of(predict_folder(str(trained_run), str(source), str(tmp_path / "s.csv"), ["edema"], studies="folder"))
    assert [row["file"] for row in found] == ["large", "small"] and float(found[1]["edema"]) > 0
    assert "large: too long" in found[0]["error"] and found[0]["edema"] == ""


@pytest.mark.parametrize("place", ["check_images", "encode_images"])
def test_a_file_that_the_model_refuses_costs_one_row(
    trained_run: Path, engine: Radz, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A CT volume is one file with many images. What is refused with others beside it is asked again alone."""
    for number, file in enumerate(files):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / f"in/{number}.dcm")
    bad, plain = engine.images(files[1]), getattr(Encoder, place)

    def refuse(self: Encoder, first: Any, *more: Any) -> Any:
        if place == "check_images" and next(asked) == 1:
            raise InputError("too long")
        if place == "encode_images" and any(torch.equal(image, bad[0]) for image in first):
            raise InputError("too long")
        return plain(self, first, *more)

    asked = iter(range(99))
    monkeypatch.setattr(Encoder, place, refuse)
    table = predict_folder(str(trained_run), str(tmp_path / "in"), str(tmp_path / "s.csv"), ["edema"], device="cpu")
    found = rows_of(table)
    assert [bool(row["error"]) for row in found] == [False, True, False] and "too long" in found[1]["error"]
    assert found[1]["edema"] == found[1]["in_scope"] == "" and found[1]["reason"] == "not read, see error"
    monkeypatch.undo()
    assert [float(row["edema"]) for row in found[::2]] == pytest.approx(engine.score(files[::2], ["edema"])["edema"])


def test_folders_that_share_a_series_and_pictures_beside_it(
    trained_run: Path, files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hu, source = np.zeros((4, 4, 4), np.int16), tmp_path / "in"
    source.mkdir()
    shutil.copy(files[0], source / "a.dcm")
    for path in series(source / "p1", hu, SeriesInstanceUID="1.2.3")[:2]:
        (source / "p2").mkdir(exist_ok=True)
        path.rename(source / "p2" / path.name)
    series(source / "s", hu)
    shutil.copytree(source / "s", source / "t")
    Image.fromarray(np.arange(81, dtype=np.uint8).reshape(9, 9)).save(source / "s/key.PNG")
    found = rows_of(predict_folder(str(trained_run), str(source), str(tmp_path / "s.csv"), ["edema"]))
    told = {row["file"]: row["error"] for row in found}
    assert {name for name, error in told.items() if not error} == {"a.dcm", "s/key.PNG"}
    for name, other in (("p1", "p2"), ("p2", "p1")):
        said = "holds a part of a CT series, other slices lie in"
        assert told[name] == f"{source / name}: {said} {other}; put all in one folder"
    assert f"1 copy of CT series that another folder holds too, such as {source / 't'}; each is scored" in caplog.text
    assert "1 picture beside the slices of CT series, each scored as a chest X-ray study" in caplog.text
