"""Steps that are tried are planned as the first ones of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import BARE, FEW

from radz.cli import main

PROJECTOR = "dfat.projector_warmup_steps=5"


@pytest.mark.parametrize("trial", ["--dry-run", "trainer.fast_dev_run=true"])
def test_a_warm_up_longer_than_the_trial_is_that_of_the_run(tmp_path: Path, cache_dir: Path, trial: str, fails) -> None:
    """Three steps are measured of the fifty that it has; of one with four the same is said as by the run."""
    keys = [*BARE, FEW, PROJECTOR, f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}"]
    assert main(["train", "demo", trial, *keys, "trainer.max_steps=50", "trainer.max_epochs=null"]) == 0
    told = fails("train", "demo", trial, *keys, "trainer.max_steps=4", "trainer.max_epochs=null")
    assert told.startswith(f"radz: {PROJECTOR}: needs") and told.endswith("this one has 4")
    told = fails("train", "demo", trial, *keys)
    assert told.endswith("this one has 3")
