"""What is scored: studies, by their images together or one by one, or single images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.metrics.score_table import ScoreTable
from radz.models.pooling import over_images
from radz.runs.evaluate import evaluate_run


def test_scores_over_the_images_of_a_study() -> None:
    values = torch.rand(6, 3)
    values[:, 2] = float("nan")
    counts = torch.tensor([1, 3, 2])
    parts = values.split(counts.tolist())
    for how, plain in (("mean", lambda part: part.mean(0)), ("max", lambda part: part.amax(0))):
        found = over_images({"anchor": values}, counts, how)["anchor"]
        torch.testing.assert_close(found, torch.stack([plain(part) for part in parts]), equal_nan=True)


@pytest.fixture
def two_views(tmp_path: Path) -> Path:
    """Twelve test studies of two pictures each."""
    rng = np.random.default_rng(0)
    rows = []
    for study in range(12):
        for view in range(2):
            name = f"s{study}_{view}.png"
            Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / name)
            rows.append({"file": name, "study": f"S{study}", "patient": f"P{study}", "split": "test",
                         "view": ("PA", "L")[view], "edema": study % 2, "pneumothorax": int(study < 5)})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "two_views.yaml").write_text(
        """\
base: demo
data:
  image_size: 64
  corpora:
    - reader: table
      csv: metadata.csv
      columns: {image: file, study: study, patient: patient, split: split, view: view}
      labels:
        edema: {column: edema, numeric: {1: present, 0: absent}}
        pneumothorax: {column: pneumothorax, numeric: {1: present, 0: absent}}
scoring: {primary: all, replicates: 100, pixel_baseline: false}
"""
    )
    return tmp_path


def scored(two_views: Path, run: Path, cache_dir: Path, *keys: str) -> tuple[ScoreTable, dict]:
    places = [f"data.corpora.0.root={two_views}", f"cache_dir={cache_dir}", f"run={run}", "wandb.mode=disabled"]
    out = two_views / "-".join(["out", *keys]).replace("scoring.", "")
    small = ["data.image_size=64", "trainer.progress_bar=false", f"run_dir={out}"]
    evaluate_run(load_experiment(str(two_views / "two_views.yaml"), [*places, *small, *keys]))
    (file,) = (out / "predictions").glob("*.csv")
    return ScoreTable.read_csv(file), json.loads((out / "metrics.json").read_text())


@pytest.mark.slow
def test_units_and_aggregates_agree(two_views: Path, trained_run: Path, cache_dir: Path) -> None:
    joint, first = scored(two_views, trained_run, cache_dir)
    mean, _ = scored(two_views, trained_run, cache_dir, "scoring.aggregate=mean")
    most, _ = scored(two_views, trained_run, cache_dir, "scoring.aggregate=max")
    image, last = scored(two_views, trained_run, cache_dir, "scoring.unit=image")
    assert (len(joint), len(mean), len(most), len(image)) == (12, 12, 12, 24)
    assert joint.image_id == [""] * 12 and len(set(image.image_id)) == 24
    assert not any("s0_" in name for name in image.image_id), "an image goes by its hash"
    assert image.study_id == [name for name in joint.study_id for _ in range(2)]
    for scorer in ("anchor", "prompt"):
        pairs = image.scores[scorer].reshape(12, 2, -1)
        np.testing.assert_allclose(mean.scores[scorer], pairs.mean(1), atol=2e-6)
        np.testing.assert_allclose(most.scores[scorer], pairs.max(1), atol=2e-6)
        assert not np.allclose(joint.scores[scorer], pairs.mean(1), atol=1e-4)
    assert first["protocol_digest"] != last["protocol_digest"]
    (result,) = last["results"].values()
    column = image.findings.index("edema")
    assert {view: one["rows"] for view, one in result["subgroups"]["view"].items()} == {"L": 12, "PA": 12}
    found = result["scorers"]["anchor"]["findings"]["edema"]
    assert (found["rows"], found["studies"], found["patients"]) == (24, 12, 12)
    expected = roc_auc_score(image.labels[:, column], image.scores["anchor"][:, column])
    assert found["auroc"]["value"] == pytest.approx(expected, abs=1e-6)


def test_what_conflicts_is_one_line() -> None:
    with pytest.raises(InputError, match=r"scoring\.aggregate: max conflicts with scoring\.unit=image"):
        load_experiment("demo", ["scoring.unit=image", "scoring.aggregate=max"])
    with pytest.raises(InputError, match=r"scoring\.unit: image conflicts with chest_ct"):
        load_experiment("demo_ct", ["scoring.unit=image"])
