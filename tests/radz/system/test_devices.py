"""Where a model computes and in which type: GPUs are feigned, what would be put on them is looked at."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch

from data_modules.errors import InputError
from radz import Radz
from radz.backbones.generation import whole_logits
from radz.config.files import load_experiment
from radz.inference.export import export_run
from radz.methods.export_folder import load_export
from radz.models import factory
from radz.training.environment import usable_device


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has two GPUs."""
    for name, value in (("is_available", True), ("is_bf16_supported", True), ("device_count", 2)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("overrides", "dtype"),
    [([], "bfloat16"), (["gpu"], "bfloat16"), (["cpu"], "float32"), (["cpu", "bfloat16"], "bfloat16")],
)
def test_frozen_weights_have_the_type_of_the_device_that_computes(overrides: list[str], dtype: str) -> None:
    keys = ("trainer.accelerator", "backbone.dtype")
    pairs = [f"{key}={value}" for key, value in zip(keys, overrides, strict=False)]
    settings = load_experiment("demo", pairs)
    assert factory.on_device(settings.backbone, settings.trainer.accelerator).dtype == dtype


def test_a_model_on_the_cpu_is_float32_though_there_is_a_gpu(
    trained_run: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = export_run(str(trained_run), str(tmp_path / "model"))
    request.getfixturevalue("gpu")
    types = {weight.dtype for weight in Radz.from_pretrained(trained_run, "cpu").encoder.parameters()}
    assert types == {torch.float32}
    loaded = load_export(out, accelerator="cpu")[1]
    assert {weight.dtype for weight in loaded.encoder.parameters()} == {torch.float32}


def test_the_device_is_the_gpu_that_is_there(request: pytest.FixtureRequest) -> None:
    if not torch.cuda.is_available():
        assert usable_device(None) == "cpu"
        with pytest.raises(InputError, match=r"device=cuda: 0 GPU"):
            usable_device("cuda")
    request.getfixturevalue("gpu")
    assert usable_device(None) == "cuda"
    assert [usable_device(name) for name in ("cpu", "cuda:1")] == ["cpu", "cuda:1"]
    for name in ("cuda:2", "gpu", "meta"):
        with pytest.raises(InputError, match=f"^device={name}: "):
            usable_device(name)


def test_findings_outside_the_bank_load_no_weights_again(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = [], factory.load_backbone
    monkeypatch.setattr(factory, "load_backbone", lambda *args, **kwargs: loads.append(1) or load(*args, **kwargs))
    engine = Radz.from_pretrained(trained_run, "cpu")
    image, outside = torch.zeros(1, 1, 64, 64, dtype=torch.uint8), ["mass", "tuberculosis"]
    assert not set(outside) & set(engine.bank.names)
    for names in (outside[:1], outside[1:]):
        assert engine.score_images([image], ["chest_xray"], names, "anchor").shape == (1, 1)
    assert loads == [1]


@torch.no_grad()
@pytest.mark.parametrize("around", [False, True], ids=["plain", "autocast"])
def test_logits_of_words_are_float32(around: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(32, 40_000, bias=True).bfloat16()
    states = torch.randn(3, 2, 32, generator=generator).bfloat16() * 8
    with torch.autocast("cpu", torch.bfloat16, enabled=around):
        found = whole_logits(head, states)
    expected = states.double() @ head.weight.double().T + head.bias.double()
    assert found.dtype == torch.float32 and found.shape == (3, 2, 40_000)
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_an_export_of_a_run_on_four_bits_says_so(
    trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    config = run / "config.yaml"
    assert config.read_text().count("quantize: none") == 1
    config.write_text(config.read_text().replace("quantize: none", "quantize: 4bit"))
    with caplog.at_level(logging.WARNING):
        out = export_run(str(run), str(tmp_path / "model"))
    assert "was trained on 4-bit weights" in caplog.text
    assert "features were trained on 4-bit weights" in (out / "README.md").read_text()


def test_descriptions_of_the_bank_are_read_in_training(trained_run: Path) -> None:
    """What a description names is no unseen finding."""
    from radz.models.anchor_bank import AnchorBank
    from radz.training.run_folder import read_environment

    seen, bank = read_environment(trained_run)["seen"], AnchorBank.load(trained_run / "anchors")
    assert "opacity" in "\n".join(bank.descriptions).lower() and "lung_opacity" in seen["text"]
