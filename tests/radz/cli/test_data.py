"""`radz data check` and `radz data cache` from the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from radz.cli.command_line import main
from radz.training.run_folder import check_empty

LAYOUT = "corpus=vindr_cxr"


@pytest.fixture
def ours(tmp_path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """VinDr-CXR of a few phantom studies, as `radz data phantom` writes it."""
    out = tmp_path / "vindr_cxr"
    sizes = ["train=16", "val=4", "test=8", "image_px=64"]
    assert main(["data", "phantom", LAYOUT, f"out={out}", f"cache_dir={cache_dir}", *sizes]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    return out


def keys(ours: Path, cache_dir: Path, *more: str) -> list[str]:
    return ["vindr_cxr", f"data.corpora.0.root={ours}", f"cache_dir={cache_dir}", "data.image_size=64", *more]


def test_cache_prints_where_it_lies(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    assert main(["data", "cache", *keys(ours, cache)]) == 0
    told, folder, *size = capsys.readouterr().out.strip().rsplit(" ", 3)
    assert told == "vindr_cxr: 28 images, store" and size == ["0.1", "MiB"]
    assert (Path(folder) / "pixels.u8").stat().st_size == 28 * 64 * 64
    assert Path(folder).is_relative_to(cache)


def test_check_writes_into_the_run_folder_which_can_still_train(
    ours: Path, tmp_path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for more, run in (([], "runs/vindr_cxr/seed0-*"), (["run_dir=own"], "own")):
        assert main(["data", "check", *keys(ours, cache_dir, *more)]) == 0
        shown = capsys.readouterr().out
        (folder,) = Path().glob(f"{run}/audit")
        check_empty(folder.parent)
        assert shown.endswith(f"written: {folder}\n") and "vindr_cxr/test: 8 studies" in shown
        assert sorted(p.name for p in folder.iterdir()) == ["audit.json", "thumbnails.csv", "thumbnails.png"]
        found = json.loads((folder / "audit.json").read_text())
        assert found["counts"]["vindr_cxr"]["test"]["published_images"] == 3000
        assert found["same_pixels"] == [] and found["unreadable"] == []
        assert Image.open(folder / "thumbnails.png").mode == "L"


def test_check_finds_planted_leaks_and_broken_files(
    ours: Path, tmp_path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training, tests = (sorted((ours / split).iterdir()) for split in ("train", "test"))
    shutil.copy(training[0], tests[0])
    tests[1].write_bytes(b"")
    twice = f"data.corpora=[{{reader: vindr_cxr, root: {ours}}}, {{reader: vindr_cxr, root: {ours}, name: again}}]"
    more = [f"run_dir={tmp_path / 'run'}", twice]
    assert main(["data", "check", *keys(ours, cache_dir)[:1], *keys(ours, cache_dir, *more)[2:]]) == 0
    shown = capsys.readouterr().out
    # Validation is held out of the training folder, so the source may lie in either.
    leak = r"same pixels: 1 picture\(s\) both in vindr_cxr/test and in vindr_cxr/(train|val), such as row \d+ \(image "
    assert len(re.findall(leak, shown)) == 1
    assert "7 picture(s) both in again/test and in vindr_cxr/test" in shown
    assert "unreadable images: 2" in shown
    text = (tmp_path / "run/audit/audit.json").read_text() + shown
    assert not any(path.stem in text for path in (*training, *tests))


def test_a_patient_in_two_splits_ends_with_two(
    ours: Path, cache_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = next((ours / "train").iterdir())
    shutil.copy(image, ours / "test")
    table = ours / "annotations/image_labels_test.csv"
    lines = table.read_text().splitlines()
    lines[1] = image.stem + lines[1][lines[1].index(",") :]
    table.write_text("\n".join(lines) + "\n")
    assert main(["data", "check", *keys(ours, cache_dir)]) == 2
    shown = capsys.readouterr().err
    assert "in more than one split" in shown and image.stem not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek", "demo"], "radz: data chek: no such action; nearest is 'check'"),
        (["check"], "radz: data check: name the experiment behind the action, such as radz data check demo"),
        (["cache", "seed=1", "demo"], "radz: data cache: name the experiment behind the action"),
        (["check", "demmo"], "radz: experiment 'demmo': no such file or name; nearest is 'demo'"),
        (["cache", "demo", "seeed=1"], "nearest is 'seed'"),
        (["check", "vindr_cxr"], "radz: data.corpora.0.root is not set"),
    ],
)
def test_faults_are_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.out == "" and "Traceback" not in shown.err


def test_the_thumbnails_go_where_one_may_write(ours: Path, tmp_path: Path, cache_dir: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert main(["data", "check", *keys(ours, cache_dir, f"run_dir={tmp_path / 'file'}")]) == 2
    assert "radz: run_dir: " in capsys.readouterr().err


def test_label_writes_the_table_and_says_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reports.csv").write_text("id,report\n1,Small effusion.\n2,No edema.\n")
    assert main(["data", "label", "csv=reports.csv", "text=report", "out=new/labels.csv", "findings=[edema,mass]"]) == 0
    shown = capsys.readouterr().out
    assert Path("new/labels.csv").read_text() == "id,report,edema,mass\n1,Small effusion.,,\n2,No edema.,0,\n"
    assert "2 reports, 1 of 2 findings are spoken of" in shown and "new/labels_proofs.csv" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["label", "csv=reports.csv", "text=report"], "out"),
        (["label", "csv=none.csv", "text=report", "out=o.csv"], "none.csv"),
        (["label", "csv=reports.csv", "text=reports", "out=o.csv"], "nearest is 'report'"),
        (["label", "csv=reports.csv", "text=report", "out=o.csv", "modality=mri"], "modality: 'mri' is not one of"),
        (["label", "csv=reports.csv", "text=report", "out=new/o.csv.gz"], "out: new/o.csv.gz would be plain text"),
        (
            ["denoise", "nowhere", "out=o.XLSX"],
            "out: o.XLSX would be plain text under the name of .XLSX; let it end in",
        ),
        (["denoise"], "name the run"),
        (["denoise", "nowhere"], "nowhere"),
        (["denoise", "nowhere", "ask=-1"], "ask"),
        (["lable"], "nearest is 'label'"),
    ],
)
def test_faults_of_label_and_denoise_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reports.csv").write_text("id,report\n1,Small effusion.\n")
    assert main(["data", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and "\n" not in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reports.csv"]


def test_a_pipe_stays_what_it_is(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reports.csv").write_text("id,report\n1,Small effusion.\n")
    os.mkfifo("pipe.csv")
    os.mkfifo("labels_proofs.csv")
    for out, named in (("pipe.csv", "pipe.csv"), ("labels.csv", "labels_proofs.csv")):
        assert main(["data", "label", "csv=reports.csv", "text=report", f"out={out}"]) == 2
        assert f"{named}: cannot be written (it is a pipe)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels_proofs.csv", "pipe.csv", "reports.csv"]
