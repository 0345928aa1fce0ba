"""A run of every family on the phantom: trained, interrupted and resumed, used for prediction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from csv_rows import rows_of
from resumed import whole_and_resumed
from small_run import SMALL

from data_modules.errors import InputError
from radz import Radz
from radz.config.files import load_experiment
from radz.inference.predict import predict_folder
from radz.runs.train import train

FAMILIES = ["qwen2_5_vl", "llava_next", "gemma3", "qwen3_vl", "llava_onevision", "internvl", "smolvlm"]
LORA = ["backbone.train=lora", "backbone.lora_rank=4", "dfat.learning_rate=0.01", "scoring.pixel_baseline=false"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_resumes_and_predicts(
    family: str, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"backbone.tiny.family={family}", *LORA, "trainer.max_epochs=2"]
    whole, resumed = whole_and_resumed(tmp_path, cache_dir, monkeypatch, 4, *keys)
    one, other = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (whole, resumed)
    )
    assert one.keys() == other.keys() and any("lora_B" in name and value.abs().max() > 0 for name, value in one.items())
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    table = pd.read_csv(resumed / "predictions/phantom_test.csv")
    places = cache_dir.glob("phantom/[!.]*/images")
    images = next(place for place in places if (place / f"{table.study_id[0]}.dcm").is_file())
    found = Radz.from_pretrained(resumed).score([images / f"{name}.dcm" for name in table.study_id[:3]], ["edema"])
    assert np.abs(found["edema"] - table["anchor/edema"][:3].to_numpy()).max() < 1e-5
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.dcm").symlink_to(images / f"{table.study_id[0]}.dcm")
    (row,) = rows_of(predict_folder(str(resumed), str(tmp_path / "in"), str(tmp_path / "x.csv"), ["edema"]))
    assert float(row["edema"]) == pytest.approx(found["edema"].iloc[0], abs=1e-5)
    assert json.loads((resumed / "metrics.json").read_text())["headline_scorer"] == "anchor"
    with pytest.raises(InputError, match="another backbone"):
        _swapped(resumed, "llava" if family == "llava_next" else "llava_next")


def _swapped(run: Path, family: str) -> None:
    """Load the run with a backbone of another family."""
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("family: ", f"family: {family} # "))
    Radz.from_pretrained(run)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_on_the_slices_of_ct(family: str, tmp_path: Path, cache_dir: Path) -> None:
    own = [f"backbone.tiny.family={family}", f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}"]
    few = ["data.ct.slices=4", "backbone.image_pool=4"]
    run = train(load_experiment("demo_ct", [*SMALL, *few, *own]))
    assert set(json.loads((run / "metrics.json").read_text())["results"]) == {"phantom_ct/test"}
