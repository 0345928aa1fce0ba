"""A finished run reads the descriptions that it was trained with, whatever becomes of their file."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_run import BARE, FEW

from radz.config.dkam import DkamConfig
from radz.config.files import find_resource, load_experiment
from radz.methods.trained import load_trained
from radz.runs.evaluate import evaluate_run
from radz.training.run_folder import keep_descriptions, load_run, with_kept

SHIPPED = "descriptions/chest_xray.yaml"


@pytest.fixture
def edited(trained_run: Path, tmp_path: Path) -> Path:
    """The run, of a file of descriptions that was edited since."""
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    other = tmp_path / "other.yaml"
    other.write_text(find_resource(SHIPPED, "").read_text().replace("heart", "heap").replace("lung", "lump"))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"descriptions: {SHIPPED}", f"descriptions: {other}"))
    return run


@pytest.mark.slow
def test_a_run_is_scored_with_its_own_descriptions(
    edited: Path, trained_run: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert (trained_run / "descriptions.yaml").read_bytes() == find_resource(SHIPPED, "").read_bytes()
    assert load_trained(edited)[1].file == edited / "descriptions.yaml"
    with caplog.at_level(logging.WARNING, "radz"):
        out = evaluate_run(load_experiment("demo", [*BARE, FEW, f"run={edited}", f"cache_dir={cache_dir}"]))
    assert "is not that of the run" not in caplog.text
    found, expected = (pd.read_csv(folder / "predictions/phantom_test.csv") for folder in (out, trained_run))
    scores = [name for name in found.columns if name.startswith(("description/", "anchor/"))]
    np.testing.assert_allclose(found[scores], expected[scores], atol=1e-6)
    assert scores
    # An earlier radz kept no copy: the edited file is read then, and that is said.
    (edited / "descriptions.yaml").unlink()
    with caplog.at_level(logging.WARNING, "radz"):
        assert load_trained(edited)[1].file.name == "other.yaml"
    assert "other.yaml) is not that of the run" in caplog.text


def test_sources_are_kept_beside_them(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.yaml" for name in ("one", "two", "three")]
    for file in files:
        file.write_text(f"{file.stem}: {{}}\n")
    config = DkamConfig(descriptions=str(files[0]), sources=[str(file) for file in files[1:]])
    run = tmp_path / "run"
    run.mkdir()
    assert with_kept(config, run) == config
    keep_descriptions(config, files[0], run)
    for file in files:
        file.write_text("edited")
    keep_descriptions(config, files[0], run)
    kept = with_kept(config, run)
    read = [Path(name).read_text() for name in (kept.descriptions, *kept.sources)]
    assert read == ["one: {}\n", "two: {}\n", "three: {}\n"]
    assert with_kept(DkamConfig(write=True), run).descriptions == DkamConfig().descriptions, "the backbone's own"


def test_the_experiment_of_a_folder_names_the_copy(edited: Path) -> None:
    assert load_run(edited).dkam.descriptions == str(edited / "descriptions.yaml")
