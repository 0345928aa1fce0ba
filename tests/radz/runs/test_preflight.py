"""What can be found before time is spent is found then: no data are read and no model is built."""

from __future__ import annotations

import itertools
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import WandbLogger
from small_run import SMALL

from data_modules.errors import InputError
from radz.cli.command_line import main
from radz.config.files import find_resource, load_experiment
from radz.config.trainer import TrainerConfig
from radz.methods import dkam
from radz.models.factory import backbone_folder
from radz.runs.train import train
from radz.runs.wandb_run import run_loggers
from radz.training.callbacks.csv_logger import CsvLog
from radz.training.trainer import lone_trainer, make_trainer, quiet


class Reached(Exception):
    """The step that should not have been reached."""


BEFORE = {"data_module": "runs.task.data_module", "encoder": "models.factory.encoder"}


def reached(*_: Any, **__: Any) -> None:
    raise Reached


@pytest.fixture
def fault(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The one line of `radz train demo`; it must come before the step named by `before`."""

    def run(*overrides: str, before: str = "data_module") -> str:
        folder = tmp_path / str(next(number))
        with monkeypatch.context() as patch, pytest.raises(InputError) as caught:
            patch.setattr(f"radz.{BEFORE[before]}", reached)
            train(load_experiment("demo", [*SMALL, f"run_dir={folder}", f"cache_dir={cache_dir}", *overrides]))
        assert "\n" not in str(caught.value)
        assert before == "encoder" or not folder.exists()
        return str(caught.value)

    number = itertools.count()
    return run


def test_a_sound_experiment_passes(fault: Any) -> None:
    for step in ("encoder", "data_module"):
        with pytest.raises(Reached):
            fault(before=step)


def test_a_missing_or_poor_descriptions_file(fault: Any, tmp_path: Path) -> None:
    assert "nothing.yaml: no such file" in fault("dkam.descriptions=nothing.yaml")
    text = find_resource("descriptions/chest_xray.yaml", "x").read_text()
    file = tmp_path / "poor.yaml"
    file.write_text(text.replace("\n  nodule:", "\n  mole:"))
    mine = f"dkam.descriptions={file}"
    assert "poor.yaml has no nodule" in fault(mine, "dkam.findings=[no_finding,edema,nodule]")
    assert "poor.yaml has no nodule" in fault(mine, before="encoder")
    file.write_text("findings: [")
    assert "poor.yaml" in fault(mine)


def test_files_of_wordings_are_read_before_training(fault: Any, tmp_path: Path) -> None:
    for key, *more in (
        ("scoring.wordings",), ("dfat.statements", "dfat.statements_weight=1"), ("dkam.descriptions",),
        ("dfat.twins", "dfat.sentences_weight=1"),
    ):  # fmt: skip
        assert f"{key}: nothing.yaml: no such file" in fault(f"{key}=nothing.yaml", *more)
    assert "dkam.sources.0: nothing.yaml: no such file" in fault("dkam.sources=[nothing.yaml]")
    file = tmp_path / "poor.yaml"
    file.write_text("statements: 3")
    assert "must hold `paraphrases" in fault(f"scoring.wordings={file}")
    assert "must hold `statements`" in fault(f"dfat.statements={file}", "dfat.statements_weight=1")


def test_backbone_folders(fault: Any, tiny_path: Path, tmp_path: Path) -> None:
    assert "backbone.path: /nowhere: no such folder" in fault("backbone.path=/nowhere")
    shutil.copytree(tiny_path, tmp_path / "llava")
    weights = tmp_path / "llava/model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", b"junk" * 9, whole[: len(whole) // 2]):
        weights.write_bytes(damaged)
        line = fault(f"backbone.path={tmp_path / 'llava'}")
        assert "backbone.path: " in line and "the model.safetensors cannot be read" in line


def test_a_reader_that_does_not_exist(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the second corpus, while the first has not been read."""
    monkeypatch.setattr("data_modules.corpora.read", reached)
    corpora = "data.corpora=[{reader: phantom}, {reader: phantoom}]"
    places = [f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}"]
    with pytest.raises(InputError, match=r"data\.corpora\.1\.reader: 'phantoom'.*nearest is 'phantom'"):
        train(load_experiment("demo", [corpora, *places]))


def test_devices_that_are_not_there(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for gpus in (0, 2):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        monkeypatch.setattr("lightning.pytorch.accelerators.CUDAAccelerator.is_available", lambda gpus=gpus: gpus > 0)
        monkeypatch.setattr("lightning.pytorch.accelerators.MPSAccelerator.is_available", lambda: False)
        if gpus == 0:
            assert "trainer.accelerator=gpu: there is no usable GPU" in fault("trainer.accelerator=gpu")
        else:
            for accelerator in ("auto", "gpu"):
                line = fault("trainer.devices=3", f"trainer.accelerator={accelerator}")
                assert "trainer.devices=3: there are 2 GPU(s)" in line
            with pytest.raises(Reached):
                fault("trainer.devices=3", "trainer.accelerator=cpu")


def test_a_packaged_backbone_that_is_missing_names_its_command(
    fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = fault(f"backbone.path={tmp_path}/backbones/smollm2", "backbone.train=lora")
    assert line.endswith(f"smollm2: no such folder; run make backbone NAME=smollm2 ARGS=cache_dir={tmp_path}")
    assert fault("backbone.path=.cache/radz/backbones/smollm2").endswith("run make backbone NAME=smollm2")
    assert fault(f"backbone.path={tmp_path}/smollm2").endswith(
        "smollm2: no such folder; give a Hugging Face model folder"
    )


@pytest.mark.fault(17)
def test_without_a_backbone_one_screen_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And names the corpus where that is missing as well; the folder of the environment counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RADZ_BACKBONE", raising=False)
    for verb in ("train", "anchors"):
        assert main([verb, "chexpert"]) == 2
        line, _, screen = capsys.readouterr().err.partition("\n")
        assert line.startswith("radz: backbone.path is not set") and "data.corpora.0.root=FOLDER" in line
        ways = (
            "radz import",
            "make backbone NAME=smollm2",
            "radz assemble",
            "recipes/tiny",
            "radz data check chexpert",
        )
        assert [way for way in ways if way not in screen] == []
    assert main(["train", "chexpert", f"data.corpora.0.root={tmp_path}", "--dry-run"]) == 2
    shown = capsys.readouterr().err
    assert "data.corpora" not in shown and "The corpus" not in shown and list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RADZ_BACKBONE", "/nowhere")
    assert main(["train", "chexpert"]) == 2
    assert capsys.readouterr().err.startswith("radz: backbone.path: /nowhere: no such folder")
    monkeypatch.delenv("RADZ_BACKBONE")
    for items in (["chexpert", "with=recipes/tiny"], ["chexpert", "method=cnn"]):
        assert main(["train", *items, f"cache_dir={tmp_path}"]) == 2
        assert capsys.readouterr().err.startswith("radz: data.corpora.0.root is not set")


@pytest.fixture
def tiny_folder(cache_dir: Path) -> Path:
    """The folder of the tiny backbone of SMALL."""
    small = load_experiment("demo", SMALL)
    return backbone_folder(small.backbone, small.dfat.instruction, small.seed, str(cache_dir))


def test_a_recipe_for_another_family(fault: Any, tiny_folder: Path) -> None:
    path = f"backbone.path={tiny_folder}"
    line = fault(path, "backbone.family=qwen2_5_vl")
    assert "backbone.family: the recipe is for qwen2_5_vl, but" in line and "is of the family llava" in line
    with pytest.raises(Reached):
        fault(path, "backbone.family=llava")


def test_a_rate_of_the_tiny_backbone_on_another(
    fault: Any, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"backbone.path={tiny_folder}"
    said = {}
    for items in ((), (path,), (path, "dfat.learning_rate=2e-4"), (path, "method=finetune", "dfat.learning_rate=9"),
                  (path, "method=finetune", "supervised.learning_rate=1e-3")):  # fmt: skip
        caplog.clear()
        with pytest.raises(Reached):
            fault(*items)
        said[items] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    first, *rest = said.values()
    assert first == rest[1] == rest[2] == []
    assert rest[0][0].startswith("dfat.learning_rate=0.002: ") and "give dfat.learning_rate=0.0002" in rest[0][0]
    assert rest[3][0].startswith("supervised.learning_rate=0.001: ")


@pytest.mark.parametrize("headline", ["anchor", "description"])
def test_a_headline_that_needs_descriptions(fault: Any, tmp_path: Path, headline: str) -> None:
    text = find_resource("descriptions/chest_xray.yaml", "x").read_text()
    file = tmp_path / "poor.yaml"
    file.write_text(text.replace("\n  mass:", "\n  mole:"))
    line = fault(f"dkam.descriptions={file}", f"scoring.headline={headline}", before="encoder")
    assert f"scoring.headline={headline}: mass has no description" in line
    with pytest.raises(Reached):
        fault(f"dkam.descriptions={file}", "scoring.headline=prompt", before="encoder")


def test_written_descriptions_are_those_of_the_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    written = load_experiment("demo", ["dkam.write=true", "backbone.depth=full", "scoring.headline=anchor"])
    monkeypatch.setattr(dkam, "load_descriptions", reached)
    dkam.check_anchors(written.dkam, "anchor", ["edema"], ["no_finding", "edema"], False)
    with pytest.raises(InputError, match="mass has no description"):
        dkam.check_anchors(written.dkam, "anchor", ["edema", "mass"], ["no_finding", "edema"], False)


def test_a_fused_headline_needs_three_anchors(fault: Any) -> None:
    few, fused = "dkam.findings=[no_finding,edema]", "scoring.headline=fused"
    assert "needs 3 anchors or more, the bank has 2 (no_finding, edema)" in fault(few, fused, before="encoder")
    with pytest.raises(Reached):
        fault(few, "scoring.headline=prompt", before="encoder")


def test_a_split_that_fills_no_batch_on_each_process_is_refused_before_they_start(
    tmp_path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dry run says what the run says, and the run says it once."""
    words = [*SMALL, "data.batch_size=16", "trainer.devices=2", "trainer.accelerator=cpu", f"run_dir={tmp_path / 'r'}"]
    said = []
    for more in (["--dry-run"], []):
        assert main(["train", "demo", *words, f"cache_dir={cache_dir}", *more]) == 2
        said.append([line for line in capsys.readouterr().err.splitlines() if line.startswith("radz: ")])
    assert said[0] == said[1] and len(said[0]) == 1
    assert "data.batch_size=16: 24 training studies do not fill one batch on 2 device(s)" in said[0][0]


def test_a_bank_of_fewer_than_three_anchors_is_told(fault: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Reached):
        fault("dkam.findings=[edema]", "scoring.headline=prompt", before="encoder")
    assert "dkam.findings: the bank has 1 anchor (edema); of fewer than 3" in caplog.text


# ---- What the libraries say and send -------------------------------------------------------------------------------


@pytest.fixture
def restored() -> Iterator[None]:
    """Filters and levels as before."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning_fabric", "pytorch_lightning")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_noise_is_silenced_and_warnings_stay(restored: None, caplog: pytest.LogCaptureFixture) -> None:
    from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

    warnings.simplefilter("always")
    quiet()
    with warnings.catch_warnings(record=True) as seen, caplog.at_level(logging.INFO):
        rank_zero_info("GPU available: False, used: False")
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated, use something else.", stacklevel=1)
        rank_zero_warn("Found 3 module(s) in eval mode at the start of training. This may lead to")
        rank_zero_warn("the loss is not a number")
        logging.getLogger("lightning.pytorch").warning("a real one")
    assert [str(warning.message) for warning in seen] == ["the loss is not a number"]
    assert [record.message for record in caplog.records] == ["a real one"]


def test_lightning_praises_no_product(restored: None, caplog: pytest.LogCaptureFixture) -> None:
    """Also not in a program that imports radz and leaves Lightning's other lines on."""
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        lone_trainer("cpu")
        make_trainer(TrainerConfig(accelerator="cpu"), Path("unused"), [])
    said = [record.message for record in caplog.records]
    assert any("GPU available" in line for line in said) and not [
        line for line in said if "Tip" in line or "http" in line
    ]


def test_wandb_gets_neither_console_nor_code(tmp_path: Path) -> None:
    experiment = load_experiment("demo", ["wandb.mode=offline"])
    _, logger = run_loggers(experiment, tmp_path, CsvLog(tmp_path / "metrics.csv"))
    assert isinstance(logger, WandbLogger)
    settings = logger._wandb_init["settings"]
    assert (settings.console, settings.disable_code, settings.save_code) == ("off", True, False)
