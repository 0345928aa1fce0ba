"""Run folders and exports that an earlier radz wrote go on: tests/fixtures/old_folders, made at commit 56e578e.

`finished` and `stopped` are one experiment; `stopped` got SIGTERM in its fifth step. `scores.csv` is what
`radz predict` said then. Sums of floats may differ between processors: numbers are compared to four digits, not to the
bit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from radz.cli import main
from radz.runs.rerun import differences

OLD = Path(__file__).parents[2] / "fixtures" / "old_folders"
SETTINGS = (
    "data.corpora.0.phantom.studies={train: 24, val: 12, test: 16}", "data.corpora.0.phantom.image_px=64",
    "data.corpora.0.phantom.voxels=48", "data.image_size=64", "data.batch_size=8", "data.workers=0",
    "backbone.tiny.patch_size=16", "backbone.tiny.vision_width=32", "backbone.tiny.width=32", "backbone.tiny.layers=6",
    "backbone.tiny.vocabulary=400", "backbone.train=lora", "backbone.lora_rank=4", "backbone.lora_alpha=8",
    "trainer.max_epochs=2", "trainer.log_every_steps=1", "trainer.progress_bar=false", "trainer.accelerator=cpu",
    "scoring.replicates=100", "scoring.cases=0", "wandb.mode=disabled", "cache_dir=cache",
    "dfat.statements_weight=0",  # the demo has had it since, and five prompts
    "scoring.prompts=['Findings: {Finding}. Impression: {Finding}.']",
    "scoring.negative_prompts=['Findings: No {finding}. Impression: No acute finding.']",
)  # fmt: skip
PREDICTIONS = "predictions/phantom_test.csv"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with copies of the old folders; their cache stands beside them."""
    folder = tmp_path_factory.mktemp("old")
    shutil.copytree(OLD, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def same_scores(one: Path | str, other: Path | str) -> None:
    """Numbers alone: hashed ids are salted by the cache."""
    numbers = [pd.read_csv(file).select_dtypes("number") for file in (one, other)]
    assert len(numbers[0].columns) >= 2
    # The regression on pixels ends its search at other digits on another processor. A later radz may write more.
    for digits, pixels in ((1e-4, False), (5e-3, True)):
        columns = [name for name in numbers[0].columns if name.startswith("pixel32") == pixels]
        pd.testing.assert_frame_equal(*(table[columns] for table in numbers), atol=digits, rtol=0)


def test_a_stopped_run_resumes_and_ends_as_the_one_that_was_not_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "demo", *SETTINGS, "run_dir=stopped"]) == 0
    shown = capsys.readouterr().err
    assert "resuming stopped after step 5" in shown, shown[-3000:]
    same_scores(OLD / "finished" / PREDICTIONS, f"stopped/{PREDICTIONS}")
    steps = pd.read_csv("stopped/metrics.csv")["step"]
    assert steps.is_monotonic_increasing and steps.iloc[-1] == 5


def test_a_finished_run_is_found_finished_scored_again_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("finished/metrics.json").read_bytes()
    assert main(["report", "finished"]) == 0
    assert main(["train", "demo", *SETTINGS, "run_dir=finished"]) == 0, "the folder of the same digest"
    assert Path("finished/metrics.json").read_bytes() == before
    capsys.readouterr()
    assert main(["eval", "demo", *SETTINGS, "run=finished", "run_dir=again"]) == 0
    same_scores(OLD / "finished" / PREDICTIONS, f"again/{PREDICTIONS}")
    old, new = (json.loads(Path(name, "metrics.json").read_text()) for name in ("finished", "again"))
    scorers = [entry["results"]["phantom/test"]["scorers"] for entry in (old, new)]
    assert {name: of["macro"]["auroc"]["value"] for name, of in scorers[0].items() if name != "pixel32"} == {
        name: pytest.approx(of["macro"]["auroc"]["value"], abs=1e-4)
        for name, of in scorers[1].items() if name != "pixel32"
    }  # fmt: skip


@pytest.mark.parametrize("folder", ["finished", "export"])
def test_an_old_run_and_an_old_export_predict_what_they_did(folder: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    y, x = np.mgrid[:64, :64]
    for number in (1, 2):
        Image.fromarray(((x * number * 3 + y * 2) % 251).astype(np.uint8)).save(images / f"{number}.png")
    out = tmp_path / "scores.csv"
    assert main(["predict", folder, f"input={images}", f"out={out}", "findings=[nodule,mass,edema]"]) == 0
    same_scores(OLD / "scores.csv", out)
    found = pd.read_csv(out)
    told = json.loads(out.with_suffix(".json").read_text())["findings"]["chest_xray"]
    assert set(found["edema/call"]) <= {0, 1} and told["mass"]["why_none"]
    if folder == "finished":  # the predictions on validation are there
        slope, intercept = json.loads(Path(folder, "metrics.json").read_text())["results"]["phantom/test"][
            "calibration"
        ]["parameters"]["anchor"]["edema"]
        expected = 1 / (1 + np.exp(-slope * found["edema"] - intercept))
        np.testing.assert_allclose(found["edema/probability"], expected, rtol=1e-5)  # six digits
    else:
        assert "exported by an earlier radz, without fits" in told["edema"]["why_none"]
        assert found["edema/probability"].isna().all()


@pytest.mark.slow
def test_an_old_run_is_trained_again() -> None:
    """Every value that was there is the same. Since then numbers were added, and intervals are None without spread."""
    assert main(["rerun", "finished"]) == 2
    _, differing = differences(Path("finished"), Path("finished-rerun"), 0.005)
    before = [one for one in differing if not one.endswith("is not None")]
    assert [one for one in before if one.split(":")[0].rsplit("/", 1)[-1] not in ("low", "high", "p", "p_holm")] == []
