"""`radz rerun`: the same numbers again, or one line that says what changed."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_run import BARE, FEW

from data_modules.errors import InputError
from radz.cli.command_line import main
from radz.config.files import load_experiment
from radz.runs.rerun import differences, rerun
from radz.runs.train import train


def test_a_run_repeats_bit_for_bit(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "again"
    assert main(["rerun", str(trained_run), f"run_dir={out}", "tolerance=0"]) == 0
    told, place = capsys.readouterr().out.strip().splitlines()[-2:]
    assert place == str(out) and told.endswith("repeated bit for bit") and int(told.split()[0].replace(",", "")) > 300
    one, other = (folder / "predictions/phantom_test.csv" for folder in (trained_run, out))
    assert one.read_bytes() == other.read_bytes()
    # Compared again, with a number changed by hand.
    metrics = json.loads((out / "metrics.json").read_text())
    macro = metrics["results"]["phantom/test"]["scorers"]["fused"]["macro"]["auroc"]
    macro["value"] += 0.004
    (out / "metrics.json").write_text(json.dumps(metrics))
    assert main(["rerun", str(trained_run), f"run_dir={out}", "tolerance=0"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "1 of" in line and "results/phantom/test/scorers/fused/macro/auroc/value" in line
    assert rerun(trained_run, out, tolerance=0.005)[1].endswith("repeated within 0.005")
    metrics["measured_later"] = {"count": 3}
    (out / "metrics.json").write_text(json.dumps(metrics))
    assert differences(trained_run, out, 0.005)[1] == ["measured_later/count: 3 is not None"]
    assert differences(trained_run, out, 0.005, more=True)[1] == []
    rows = (out / "metrics.csv").read_text()
    (out / "metrics.csv").write_text(rows + rows.splitlines()[1].replace("0,", "999,", 1) + "\n")
    assert any("step 999" in key for key in differences(trained_run, out, 0.005, more=True)[1])
    (out / "metrics.csv").write_text(rows.replace("\n0,", "\n9,", 1))
    assert len(differences(trained_run, out, 0.005)[1]) > 5


@pytest.mark.parametrize(
    ("key", "words"),
    [("data_digest", "the data"), ("pixel_digest", "the pixels"), ("base_digest", "the backbone")],
)
def test_what_changed_is_named(key: str, words: str, trained_run: Path, tmp_path: Path) -> None:
    run = changed(trained_run, tmp_path, {key: "0" * 12})
    with pytest.raises(InputError, match=f"cannot be repeated, {words} .*{key}: .* is not 000000000000") as fault:
        rerun(run)
    assert "\n" not in str(fault.value)
    assert not (tmp_path / "run-rerun/checkpoints").exists(), "something was trained"


def test_other_settings_or_descriptions_are_refused(trained_run: Path, tmp_path: Path) -> None:
    run = changed(trained_run, tmp_path, {"config_digest": "01234567"})
    with pytest.raises(InputError, match=r"config\.yaml or the descriptions"):
        rerun(run)
    (run / "metrics.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        rerun(run)
    with pytest.raises(InputError, match="is the run itself"):
        rerun(trained_run, trained_run)
    for tolerance in ("much", "nan", "inf", "-1"):
        assert main(["rerun", str(trained_run), f"tolerance={tolerance}"]) == 2


def test_other_packages_are_told_and_allow_a_tolerance(
    trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = changed(trained_run, tmp_path, {"packages": {"torch": "1.0"}, "threads": 64})
    shutil.copytree(trained_run, tmp_path / "run-rerun")
    with caplog.at_level(logging.WARNING):
        assert rerun(run)[1].endswith("repeated within 0.005")
    assert "(was 1.0)" in caplog.text and "(was 64)" in caplog.text


def changed(run: Path, tmp_path: Path, content: dict[str, Any]) -> Path:
    """A copy of a run folder with another environment.json."""
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run/environment.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **content}))
    return tmp_path / "run"


@pytest.mark.slow
def test_anchors_that_are_encoded_again_are_compared_as_they_began(tmp_path: Path, cache_dir: Path) -> None:
    refresh = ["dkam.anchor_refresh=every_n_steps", "dkam.anchor_refresh_steps=2"]
    places = [f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}", "trainer.accelerator=cpu"]
    run = train(load_experiment("demo", [*BARE, FEW, *refresh, *places]))
    assert rerun(run, tmp_path / "again", tolerance=0)[1].endswith("repeated bit for bit")
