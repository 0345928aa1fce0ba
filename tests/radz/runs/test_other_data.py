"""A command repeated on other data: a begun run refuses them, a moved folder of the same data goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.runs.train import train

Again = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty-four images of as many patients, a third of them in each split."""
    folder, shade = tmp_path / "data", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = ["file,patient,split,edema"]
    for i in range(24):
        Image.fromarray(shade.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"images/{i}.png")
        rows.append(f"{i}.png,p{i},{('train', 'val', 'test')[i // 8]},{i % 2}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def again(root: Path, tmp_path: Path, cache_dir: Path) -> Again:
    """The same command each time, but for overrides that are given."""
    corpus = {
        "reader": "table", "name": "tab", "root": str(root), "csv": "table.csv", "image_folder": "images",
        "columns": {"image": "file", "patient": "patient", "split": "split"},
        "labels": {"edema": {"column": "edema", "numeric": {0: "absent", 1: "present"}}},
    }  # fmt: skip
    content = {
        "base": "demo_cnn", "data": {"image_size": 32, "batch_size": 4, "corpora": [corpus]}, "cnn": {"width": 4},
        "trainer": {"max_epochs": 1, "progress_bar": False, "accelerator": "cpu"},
        "scoring": {"replicates": 100, "cases": 0, "pixel_baseline": False}, "wandb": {"mode": "disabled"},
        "run_dir": str(tmp_path / "run"), "cache_dir": str(cache_dir),
    }  # fmt: skip
    file = tmp_path / "tab.yaml"
    file.write_text(yaml.safe_dump(content))
    return lambda *overrides: train(load_experiment(str(file), overrides))


def turned(root: Path) -> None:
    """Every label turned round, and patients of training become those of test."""
    table = root / "table.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    swap = {"train": "test", "test": "train"}
    other = [f"{file},{who},{swap.get(split, split)},{1 - int(label)}" for file, who, split, label in lines[1:]]
    table.write_text("\n".join([",".join(lines[0]), *other]) + "\n")


def test_a_begun_run_does_not_go_on_with_other_data(root: Path, again: Again, tmp_path: Path) -> None:
    run = again()
    (run / "metrics.json").unlink()
    before = {name: (run / name).read_bytes() for name in ("environment.json", "config.yaml", "checkpoints/last.ckpt")}
    moved = Path(shutil.copytree(root, tmp_path / "moved"))
    kept = (root / "table.csv").read_bytes()
    turned(root)
    with pytest.raises(InputError, match=r"run: cannot go on, the data .* changed since .*data_digest") as fault:
        again()
    assert "\n" not in str(fault.value) and "run_dir" in str(fault.value)
    with pytest.raises(InputError, match="cannot go on"):
        again(f"data.corpora.0.root={root}/../data")
    assert {name: (run / name).read_bytes() for name in before} == before
    (root / "table.csv").write_bytes(kept)
    assert again(f"data.corpora.0.root={moved}") == run, "moved, and the same by their digest"
    assert (run / "metrics.json").is_file()
    assert load_experiment(str(run / "config.yaml")).data.corpora[0].root == str(moved)


def test_a_finished_run_is_not_that_of_another_root(root: Path, again: Again, tmp_path: Path) -> None:
    run = again()
    before = (run / "metrics.json").read_bytes()
    moved = Path(shutil.copytree(root, tmp_path / "moved"))
    assert again(f"data.corpora.0.root={moved}") == run
    turned(moved)
    with pytest.raises(InputError, match=r"holds the results of other data: the data .* changed"):
        again(f"data.corpora.0.root={moved}")
    with pytest.raises(InputError, match="nowhere"):
        again("data.corpora.0.root=/nowhere")
    assert (run / "metrics.json").read_bytes() == before
