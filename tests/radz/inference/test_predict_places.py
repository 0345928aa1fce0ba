"""`radz predict` where a folder, a run or a file's name is not as it should be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from csv_rows import rows_of
from rights import shut

from data_modules.errors import InputError
from radz import Radz
from radz.cli import main
from radz.inference.predict import predict_folder


def test_a_folder_that_may_not_be_entered_is_one_row(trained_run: Path, folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "scores.csv")
    with shut(folder / "deeper"):
        predict_folder(str(trained_run), str(folder), out, ["edema"])
    found = {row["file"]: row for row in rows_of(Path(out))}
    assert found["a.dcm"]["edema"] and not found["deeper"]["edema"]
    assert found["deeper"]["error"] == f"{folder}/deeper: the folder cannot be listed (Permission denied)"
    with shut(folder), pytest.raises(InputError, match=rf"^input: {folder}: the folder cannot be listed \(Permission"):
        predict_folder(str(trained_run), str(folder), out, ["edema"])


@pytest.mark.parametrize(
    "part, named",
    [
        ("", "radz.json"),
        ("checkpoints", "checkpoints/best.ckpt"),
        ("checkpoints/best.ckpt",) * 2,
        ("anchors", "anchors/anchors.json"),
        ("scope.safetensors",) * 2,
    ],
)
def test_a_run_that_may_not_be_read_is_one_line(
    trained_run: Path, folder: Path, tmp_path: Path, part: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    with shut(run / part):
        assert main(["predict", str(run), f"input={folder}", f"out={tmp_path / 'scores.csv'}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"radz: {run}/{named}: cannot be opened (Permission denied); see to the rights of it")


def test_names_that_are_no_text_stay_apart(trained_run: Path, files: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in (b"x\xe8.dcm", b"x\xe9.dcm"):
        shutil.copy(files[0], source / os.fsdecode(name))
    out = predict_folder(str(trained_run), str(source), str(tmp_path / "scores.csv"), ["edema"])
    assert [row["file"] for row in rows_of(out)] == [r"x\xe8.dcm", r"x\xe9.dcm"]


def test_every_place_is_looked_at_before_the_model_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Radz, "from_pretrained", lambda *_: pytest.fail("the model was loaded"))
    (tmp_path / "file").touch()
    for key in ("heatmaps", "sr"):
        with pytest.raises(InputError, match=f"^{key}: .*file/maps"):
            place = {key: str(tmp_path / "file/maps")}
            predict_folder("run", str(folder), str(tmp_path / "scores.csv"), ["edema"], **place)


def test_a_run_that_is_not_there(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone, out = tmp_path / "gone", f"out={tmp_path / 'out'}"
    for words in (
        ["predict", str(gone), f"input={folder}", out], ["compare", str(gone), str(gone), out], ["report", str(gone)],
        ["export", str(gone), out], ["rerun", str(gone)], ["evidence", str(gone)], ["view", str(gone)],
        ["eval", "demo", f"run={gone}"],
    ):  # fmt: skip
        assert main(words) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"radz: {gone}: no such folder", words
    with pytest.raises(InputError, match="gone: no such folder"):
        Radz.from_pretrained(gone)
