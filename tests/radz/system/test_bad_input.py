"""Faults of data, backbone and run folder as the user meets them: exit code 2 and one line, or counted and listed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from small_run import SMALL

from radz.cli.command_line import main

# ---- The user's own data ---------------------------------------------------------------------------------


class Ours:
    """A corpus of twenty PNG images with labels, and the experiment that reads it."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.file = root / "ours", root / "ours.yaml"
        (self.root / "images").mkdir(parents=True)
        header = "file,patient,notes,view,edema,mass\n"
        lines = [f"i{i}.png,0{i},Report number {i}.,PA,{i % 2},0\n" for i in range(20)]
        self.table = self.root / "table.csv"
        self.table.write_text(header + "".join(lines))
        shade = np.random.default_rng(0)
        for i in range(20):
            Image.fromarray(shade.integers(0, 255, (40, 40), dtype=np.uint8)).save(self.root / f"images/i{i}.png")
        coding = {0: "absent", 1: "present"}
        corpus = {
            "reader": "table", "root": str(self.root), "csv": "table.csv", "image_folder": "images",
            "columns": {"image": "file", "patient": "patient", "report": "notes", "view": "view"},
            "labels": {n: {"column": n, "numeric": coding} for n in ("edema", "mass")},
            "split_fractions": {"train": 0.5, "val": 0.25, "test": 0.25},
        }  # fmt: skip
        tiny = {"image_size": 64, "vision_width": 32, "width": 32}
        content = {
            "data": {"image_size": 64, "batch_size": 4, "corpora": [corpus]},
            "backbone": {"tiny": tiny, "lora_rank": 4, "lora_alpha": 8},
            "trainer": {"max_epochs": 1, "progress_bar": False},
            "scoring": {"replicates": 100, "pixel_baseline": False, "wordings": ""},
            "wandb": {"mode": "disabled"},
        }
        self.file.write_text(yaml.safe_dump(content))
        self.arguments = [str(self.file), f"run_dir={root / 'run'}", f"cache_dir={cache}"]


@pytest.fixture
def ours(tmp_path: Path, cache_dir: Path) -> Ours:
    return Ours(tmp_path, cache_dir)


def test_missing_image(ours: Ours, fails: Callable[..., str]) -> None:
    (ours.root / "images/i3.png").unlink()
    line = fails("train", *ours.arguments)
    assert "table.csv row 5" in line and "no image file" in line and "on_missing_image=skip" in line
    assert "i3.png" not in line  # identifiers stay out of error texts


def test_unreadable_dicom(ours: Ours, fails: Callable[..., str]) -> None:
    (ours.root / "images/i3.png").rename(ours.root / "images/i3.dcm")
    (ours.root / "images/i3.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x01" * 40)
    ours.table.write_text(ours.table.read_text().replace("i3.png", "i3.dcm"))
    line = fails("train", *ours.arguments)
    assert "row 5" in line and "on_unreadable_image=skip" in line and "i3.dcm" not in line


def test_table_without_a_named_column(ours: Ours, fails: Callable[..., str]) -> None:
    line = fails("train", *ours.arguments, "data.corpora.0.columns.report=note")
    assert "note" in line and "table.csv" in line and "data.corpora.0.columns.report" in line and "notes" in line


def test_label_outside_its_coding(ours: Ours, fails: Callable[..., str]) -> None:
    ours.table.write_text(ours.table.read_text().replace("number 7.,PA,1", "number 7.,PA,7"))
    line = fails("train", *ours.arguments)
    assert "row 9" in line and "data.corpora.0.labels.edema" in line and "'7'" in line


def test_no_study_is_left(ours: Ours, fails: Callable[..., str]) -> None:
    line = fails("train", *ours.arguments, "data.corpora.0.keep={view: [LATERAL]}")
    assert "data.corpora.0.keep" in line and "LATERAL" not in line.partition("leaves no row")[0] and "'PA'" in line


def test_missing_corpus(ours: Ours, fails: Callable[..., str]) -> None:
    line = fails("train", *ours.arguments, "data.corpora.0.root=/nowhere/ours")
    assert "data.corpora.0.root=/nowhere/ours" in line
    line = fails("train", *ours.arguments, "data.corpora.0.root=null")
    assert "data.corpora.0.root" in line


def test_patient_in_two_splits(ours: Ours, fails: Callable[..., str]) -> None:
    splits = "file,split\n" + "".join(f"i{i}.png,{('train', 'val', 'test')[i % 3]}\n" for i in range(20))
    (ours.root / "split.csv").write_text(splits)
    ours.table.write_text(ours.table.read_text().replace(",01,", ",00,"))
    line = fails("train", *ours.arguments, "data.corpora.0.split_csv={file: split.csv, key: file}")
    assert "patient" in line and "split" in line


def test_a_protocol_that_asks_for_what_no_label_reaches(
    ours: Ours, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Said and listed as excluded while something is left to score; refused when nothing is."""
    arguments = [*ours.arguments, "dkam.findings=[no_finding,edema,nodule]", "scoring.primary=all"]
    line = fails("train", *arguments, "scoring.findings=[pneumothorax]")
    assert "scoring.findings: nothing can be scored" in line and "pneumothorax: no label of these data" in line
    arguments.append("overwrite=true")
    line = fails("train", *arguments, "scoring.class_prompts={edema: {positive: [There is not no finding.]}}")
    assert "scoring.class_prompts.edema.positive" in line and "negates 'no finding'" in line
    assert main(["train", *arguments, "scoring.findings=[edema, pneumothorax]", "scoring.retrieval=true"]) == 0
    assert "scoring.findings: pneumothorax: no label of these data maps to it; not scored" in capsys.readouterr().err
    metrics = json.loads((ours.file.parent / "run/metrics.json").read_text())
    result = metrics["results"]["ours/test"]
    assert result["scorers"]["fused"]["excluded"] == {"pneumothorax": "no label of these data maps to it"}
    assert result["primary"] == ["edema"] and metrics["protocol"]["scored"] == {"ours/test": ["edema"]}
    assert result["retrieval"]["images"] == result["coverage"]["studies"] and metrics["cost"]["images"] > 0


def test_a_class_without_positives_is_listed_not_fatal(ours: Ours, capsys: pytest.CaptureFixture[str]) -> None:
    """`mass` is 0 in every study. Without positives there is no anchor of it either, which is said as well."""
    arguments = [*ours.arguments, "dkam.findings=[no_finding,edema,nodule]", "scoring.primary=all"]
    assert main(["train", *arguments]) == 0
    shown = capsys.readouterr()
    assert "no positive study in train for: mass" in shown.err and str(ours.file.parent / "run") in shown.out
    result = json.loads((ours.file.parent / "run/metrics.json").read_text())["results"]["ours/test"]
    assert set(result["scorers"]["fused"]["excluded"]) == {"mass"}
    assert set(result["scorers"]["fused"]["findings"]) == {"edema"}


def test_a_training_split_that_teaches_a_pixel_nothing(ours: Ours, capsys: pytest.CaptureFixture[str]) -> None:
    """edema is present in every study of training and validation: no pixel baseline and no monitor, but a run."""
    lines = ours.table.read_text().splitlines()
    changed = [line.replace(".,PA,0", ".,PA,1") if i <= 14 else line for i, line in enumerate(lines)]
    ours.table.write_text("\n".join(changed) + "\n")
    splits = [f"i{i}.png,{'train' if i < 10 else 'val' if i < 14 else 'test'}" for i in range(20)]
    (ours.root / "split.csv").write_text("\n".join(["file,split", *splits]) + "\n")
    own_split = "data.corpora.0.split_csv={file: split.csv, key: file}"
    arguments = [own_split, "dkam.findings=[no_finding,edema,nodule]", "scoring.pixel_baseline=true"]
    assert main(["train", *ours.arguments, *arguments]) == 0
    shown = capsys.readouterr().err
    assert "val/auroc_macro is undefined" in shown and "2 finding(s) lack one of the two labels" in shown
    scorers = json.loads((ours.file.parent / "run/metrics.json").read_text())["results"]["ours/test"]["scorers"]
    assert set(scorers["fused"]["findings"]) == {"edema"} and not scorers["pixel32"]["findings"]
    assert scorers["pixel32"]["excluded"]["edema"] == "scorer not available for this finding"


# ---- Backbone and run folder -----------------------------------------------------------------------------


def small(cache_dir: Path, folder: Path, *overrides: str) -> list[str]:
    return ["train", "demo", *SMALL, f"cache_dir={cache_dir}", f"run_dir={folder}", *overrides]


def test_backbone_without_tokenizer(
    tiny_path: Path, tmp_path: Path, cache_dir: Path, fails: Callable[..., str]
) -> None:
    shutil.copytree(tiny_path, tmp_path / "llava")
    (tmp_path / "llava/tokenizer.json").unlink()
    line = fails(*small(cache_dir, tmp_path / "run", f"backbone.path={tmp_path / 'llava'}"))
    assert "backbone.path" in line and "tokenizer" in line
    line = fails(*small(cache_dir, tmp_path / "run2", "backbone.path=/nowhere"))
    assert "backbone.path: /nowhere: no such folder" in line


def test_damaged_backbone_weights(tiny_path: Path, tmp_path: Path, cache_dir: Path, fails: Callable[..., str]) -> None:
    shutil.copytree(tiny_path, tmp_path / "llava")
    weights = tmp_path / "llava/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:900])
    line = fails(*small(cache_dir, tmp_path / "run", f"backbone.path={tmp_path / 'llava'}"))
    assert "backbone.path" in line and "header" in line and str(tmp_path) in line


@pytest.mark.parametrize("layer", ["9", "-7", "0"])
def test_feature_layer_beyond_the_decoder(layer: str, tmp_path: Path, cache_dir: Path, fails: Any) -> None:
    line = fails(*small(cache_dir, tmp_path / "run", f"backbone.feature_layer={layer}"))
    assert "backbone.feature_layer" in line and layer in line and "6 layers" in line


def test_run_folder_of_another_experiment(trained_run: Path, tmp_path: Path, cache_dir: Path, fails: Any) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run/metrics.json").unlink()
    line = fails(*small(cache_dir, tmp_path / "run", "seed=7"), alone=True)
    assert "run_dir" in line and "another experiment" in line and "overwrite=true" in line


def test_bank_of_another_backbone(trained_run: Path, tmp_path: Path, fails: Any) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run/metrics.json").unlink()
    bank = tmp_path / "run/anchors/anchors.json"
    bank.write_text(re.sub(r'("base_digest": )"[\w-]+"', r'\1"000000000000"', bank.read_text()))
    line = fails("train", str(tmp_path / "run/config.yaml"), f"run_dir={tmp_path / 'run'}")
    assert "another backbone" in line and "000000000000" in line


def test_predict_on_a_folder_without_images(trained_run: Path, tmp_path: Path, fails: Any) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    line = fails("predict", str(trained_run), f"input={tmp_path}", f"out={tmp_path / 'x.csv'}")
    assert "no DICOM, PNG, JPEG, NIfTI or npz" in line and not (tmp_path / "x.csv").exists()


def test_predict_with_a_folder_that_is_no_run(tmp_path: Path, fails: Any) -> None:
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "x.png")
    line = fails("predict", str(tmp_path), f"input={tmp_path}", f"out={tmp_path / 'x.csv'}")
    assert "not a run folder" in line
