"""A whole run where the model lies on another device than the data: what would end the first run on a GPU ends here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from far_device import FAR, FarTensor, Mismatch, far_device
from resumed import whole_and_resumed
from small_run import FEW, SMALL
from torch import nn

from benchmarks import gpu_parts
from benchmarks.shapes import SMALL as SMALLEST
from radz import Radz
from radz.cli import main


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    with far_device(monkeypatch) as device:
        yield device


def test_devices_are_kept_apart_and_values_are_those_of_the_cpu(far: torch.device) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    near_input = torch.randn(3, 4)
    expected = layers(near_input)
    expected.square().sum().backward()
    gradient = layers[0].weight.grad.clone()
    layers.zero_grad()
    layers.to(far)
    found = layers(near_input.to(far))
    assert found.device == layers[0].weight.device == FAR and isinstance(layers[0].weight, nn.Parameter)
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0)
    found.square().sum().backward()
    torch.testing.assert_close(layers[0].weight.grad.cpu(), gradient, rtol=0, atol=0)
    assert found[[2, 0]][:, 1].tolist() == expected[[2, 0]][:, 1].tolist()
    with torch.autocast("cuda", torch.bfloat16):
        assert layers(near_input.to(far)).dtype == torch.bfloat16
    for mixed in (lambda: layers(near_input), lambda: found + torch.ones(3, 2), lambda: found.detach().numpy()):
        with pytest.raises(Mismatch):
            mixed()


RUNS = {
    "dfat": [
        "demo", "dfat.centre=whiten", "dfat.token_norm=unit", "dfat.learn_temperature=true", "scoring.wordings=",
        "scoring.pixel_baseline=false", "data.limit.train=16", FEW,
    ],
    "added losses": [
        "demo", "dfat.gradient_cache=4", "dfat.sentences_weight=.5", "dfat.sentences_by=tokens", "dfat.keep_weight=1",
        "dfat.reconstruction_weight=.5", "dfat.local_weight=.5", "dfat.alignment=sigmoid", "dfat.temperature_warmup=.5",
    ],
    "language": [
        "demo", "dfat.lm_weight=.1", "backbone.depth=full", "backbone.train=lora", "backbone.train_tower=true",
    ],
    "refreshed": ["demo", "dfat.centre=running", "dkam.anchor_refresh=every_n_steps", "dkam.anchor_refresh_steps=2"],
    "network": ["demo_cnn"], "probe": ["demo_probe"], "clip": ["demo_clip"], "vqa": ["demo_vqa"], "ct": ["demo_ct"],
}  # fmt: skip
"""experiments and the options that bring tensors of their own"""


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize(
    "name", [name if name == "dfat" else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_a_run_trains_and_is_scored(name: str, tmp_path: Path, cache_dir: Path, trained_run: Path) -> None:
    """`trained_run` has written the phantom and the tiny backbone: neither lies on the device."""
    assert main(["train", *RUNS[name], *SMALL, f"run_dir={tmp_path}/run", f"cache_dir={cache_dir}"]) == 0
    assert (tmp_path / "run/report.html").is_file()


def test_a_trained_run_serves(trained_run: Path, phantom_folder: Path, far: torch.device) -> None:
    files = sorted(phantom_folder.glob("images/*.dcm"))[:3]
    engine, here = Radz.from_pretrained(trained_run), Radz.from_pretrained(trained_run, "cpu")
    assert all(isinstance(weight, FarTensor) for weight in engine.encoder.parameters())
    for found, expected in (
        (engine.score(files, ["edema", "mass"]), here.score(files, ["edema", "mass"])),
        (engine.embed_images(files), here.embed_images(files)),
        (engine.embed_texts(["edema"]), here.embed_texts(["edema"])),
        (engine.heatmap(files[0], "edema"), here.heatmap(files[0], "edema")),
    ):
        # In float32, in which the run was trained.
        assert np.abs(np.asarray(found, dtype=float) - np.asarray(expected, dtype=float)).max() < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("far")
def test_a_stopped_run_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["dfat.learn_temperature=true", "dfat.centre=running", "dkam.anchor_refresh=every_n_steps"]
    runs = whole_and_resumed(tmp_path, tmp_path / "cache", monkeypatch, 2, *keys)
    one, two = ((run / "predictions/phantom_test.csv").read_text() for run in runs)
    assert one == two


@pytest.mark.slow
@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("name", ["radz", "reference"])
def test_the_benchmark_measures_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "TRAIN", (2,))
    monkeypatch.setattr(gpu_parts, "SHOT", (1,))
    assert all(one["seconds"] for one in gpu_parts.side(SMALLEST, "cuda", 0.0, name, "plain"))
    assert {one["kind"] for one in gpu_parts.parity(SMALLEST, "cuda", 0.0)} == {"images", "reports"}


@pytest.mark.slow
@pytest.mark.usefixtures("far")
def test_commands_on_a_run(trained_run: Path, phantom_folder: Path, tmp_path: Path) -> None:
    out = f"out={tmp_path}/scores.csv"
    assert main(["predict", str(trained_run), f"input={phantom_folder}/images", out, f"heatmaps={tmp_path}/maps"]) == 0
    assert main(["export", str(trained_run), f"out={tmp_path}/model", "merge=true"]) == 0
    assert main(["predict", f"{tmp_path}/model", f"input={phantom_folder}/images", f"out={tmp_path}/again.csv"]) == 0
    assert main(["evidence", str(trained_run)]) == 0
