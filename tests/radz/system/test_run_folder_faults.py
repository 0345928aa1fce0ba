"""Run folders that belong to somebody or something else stay as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_run import SMALL

from data_modules.errors import InputError
from data_modules.files import replacing
from radz.cli.command_line import main
from radz.config.files import find_resource, load_experiment
from radz.runs.train import anchors, train


def test_a_finished_run_of_another_experiment_is_not_this_one(trained_run: Path, tmp_path: Path) -> None:
    config = str(trained_run / "config.yaml")
    with pytest.raises(InputError, match="holds another experiment"):
        train(load_experiment(config, [f"run_dir={trained_run}", "seed=5"]))
    # The same settings with an edited text are another experiment as well.
    text = find_resource("descriptions/chest_xray.yaml", "x").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    same = [f"run_dir={trained_run}", f"dkam.descriptions={file}"]
    assert train(load_experiment(config, same)) == trained_run
    file.write_text(text.replace("heart", "cardiac"))
    with pytest.raises(InputError, match="the descriptions file counts too"):
        train(load_experiment(config, same))


@pytest.mark.parametrize("change", ["foreign file", "foreign folder", "other config"])
def test_overwrite_deletes_only_what_radz_wrote(trained_run: Path, tmp_path: Path, change: str) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "again")
    experiment = load_experiment(str(folder / "config.yaml"), [f"run_dir={folder}", "overwrite=true"])
    if change == "foreign file":
        (folder / "thesis.docx").write_text("years of work")
    elif change == "foreign folder":
        (folder / "images").mkdir()
    else:
        (folder / "config.yaml").write_text("server: {port: 80}")
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match="overwrite: ") as fault:
        train(experiment)
    assert "\n" not in str(fault.value) and sorted(folder.rglob("*")) == before


def test_a_folder_that_cannot_be_one_is_named(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for key in ("run_dir", "cache_dir"):
        places = {"run_dir": tmp_path / "run", "cache_dir": tmp_path / "cache", key: tmp_path / "file"}
        with pytest.raises(InputError, match=f"{key}: .*file: not a folder to write to"):
            train(load_experiment(str(trained_run / "config.yaml"), [f"{k}={v}" for k, v in places.items()]))


def test_the_old_bank_stays_until_the_new_one_is_there(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "again")
    experiment = load_experiment(str(folder / "config.yaml"), [f"run_dir={folder}"])
    tensors = folder / "anchors/anchors.safetensors"
    before = tensors.read_bytes()

    def fails(*_: Any) -> None:
        raise InputError("no bank")

    with monkeypatch.context() as patch:
        patch.setattr("radz.methods.dkam.build_bank", fails)
        with pytest.raises(InputError, match="no bank"):
            anchors(experiment)
    assert tensors.read_bytes() == before
    tensors.write_bytes(b"")
    assert anchors(experiment) == folder and len(load_file(tensors)["vectors"]) == 12
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_draft_replaces_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.json"
    with replacing(target) as draft:
        draft.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), replacing(target) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert target.read_text() == "first" and [p.name for p in target.parent.iterdir()] == ["x.json"]


def test_a_dry_run_of_writing_writes_nothing(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = [*SMALL, "dkam.write=true", "backbone.depth=full", f"cache_dir={cache_dir}"]
    assert main(["train", "demo", "--dry-run", *overrides]) == 0
    shown = capsys.readouterr().out
    assert "the backbone will write them" in shown and "anchors: 12" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["folder", "file/scores.csv"])
def test_scores_need_a_place(trained_run: Path, tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    assert main(["predict", str(trained_run), f"input={tmp_path}", f"out={tmp_path / out}"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("radz: out: ") and shown.count("\n") == 1


def test_the_environment_says_what_training_knew(trained_run: Path) -> None:
    found = json.loads((trained_run / "environment.json").read_text())
    assert {"edema", "cardiomegaly"} <= set(found["seen"]["label"]) and "mass" in found["findings"]
    assert not {"mass", "tuberculosis", "hiatal_hernia"} & {*found["seen"]["label"], *found["seen"]["text"]}
    assert len(found["config_digest"]) == 8
