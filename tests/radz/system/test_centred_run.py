"""A whole run whose features lose their mean: what it writes, and that run, export and a stop in between agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import SMALL

from radz import Radz
from radz.cli.command_line import main
from radz.config.files import load_experiment
from radz.runs.prepare import prepare

CENTRED = [*SMALL, "dfat.token_norm=unit", "scoring.headline=fused"]
FINDINGS = ["edema", "pleural_effusion", "tuberculosis"]


@pytest.fixture(scope="module", params=["running", pytest.param("whiten", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(kind: str, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("centred") / "run"
    assert main(["train", "demo", *CENTRED, f"dfat.centre={kind}", f"run_dir={folder}", f"cache_dir={cache_dir}"]) == 0
    return folder


def test_the_run_tells_how_its_features_lie(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())["geometry"]
    assert set(found) == {"image", "text", "anchor", "prompt"}
    for of in found.values():
        assert set(of) == {"raw", "centred"} and of["raw"]["count"] == of["centred"]["count"] > 3
        assert of["centred"]["mean_cosine"] < of["raw"]["mean_cosine"]
        assert of["centred"]["effective_rank"] > of["raw"]["effective_rank"]
    report = (run / "report.html").read_text()
    assert "anchor, less their mean" in report


def test_the_means_are_part_of_checkpoint_and_export(run: Path, cache_dir: Path, tmp_path: Path) -> None:
    saved = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    means = {name: value for name, value in saved.items() if name.startswith("encoder.centre.")}
    assert len(means) in (6, 10) and all(value.abs().sum() > 0 for value in means.values())
    assert main(["export", str(run), f"out={tmp_path / 'export'}"]) == 0
    heads = load_file(tmp_path / "export" / "heads.safetensors")
    for name, value in means.items():
        assert torch.equal(heads[name.removeprefix("encoder.")], value)
    assert "`centre.image_overall` of heads.safetensors" in (tmp_path / "export" / "README.md").read_text()
    trained, exported = Radz.from_pretrained(run), Radz.from_pretrained(tmp_path / "export")
    images = sorted((cache_dir / "phantom").glob("*/images/test*.dcm"))[:3]
    for one, other in (
        (trained.embed_images(images), exported.embed_images(images)),
        (trained.embed_texts(["Edema.", "Normal."]), exported.embed_texts(["Edema.", "Normal."])),
        (trained.score(images, FINDINGS).to_numpy(), exported.score(images, FINDINGS).to_numpy()),
    ):
        assert np.allclose(one, other, atol=1e-5)
    alone = np.concatenate([trained.embed_images([image]) for image in images])
    assert np.allclose(alone, trained.embed_images(images), atol=1e-5)


def test_the_means_are_those_of_the_weights_of_the_checkpoint(kind: str, run: Path, cache_dir: Path) -> None:
    """Of training studies that are encoded anew; running ones would lag behind weights that moved."""
    experiment = load_experiment(str(run / "config.yaml"), [f"cache_dir={cache_dir}"])
    parts = prepare(experiment, run, trained=True)
    module, centre = parts.module.eval(), parts.module.encoder.centre
    raw = {"image": [], "text": []}
    with torch.no_grad():
        for batch in parts.data.rows_dataloader(parts.data.table.rows("train")):
            studies = module.modalities[0]
            counts = batch.image_counts
            raw["image"].append(module.encoder.encode_images(batch.pixels, counts, [studies] * len(counts), raw=True))
            raw["text"].append(module.encoder.encode_texts([text for text in batch.reports if text], raw=True))
    for side, of in raw.items():
        for part in ("overall", "local"):
            rows = torch.cat([getattr(features, part) for features in of])
            assert torch.allclose(centre.mean(f"{side}_{part}"), rows.mean(0), atol=1e-5)
            if kind == "whiten":
                second = centre.get_buffer(f"{side}_{part}_second")
                assert torch.allclose(second, rows.T @ rows / len(rows), atol=1e-4)
