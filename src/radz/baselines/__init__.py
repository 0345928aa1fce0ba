"""Baselines on the same task and protocol, one file each; `METHODS` names what `method` may be beside `dfat`.

`pixel` (linear on 32 x 32 pixels) is scored in every run. How to add one: docs/add_a_baseline.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_modules.base import StudyDataModule
    from radz.baselines.scored import Scored
    from radz.config import Experiment

METHODS = {"cnn": "cnn_run", "vqa": "vqa", "clip": "clip", "probe": "probe", "finetune": "finetune"}
"""`method` -> file here, which holds `build` as below"""
READS_TEXT = ("vqa", "clip")
"""methods whose training, where there is one, reads the training texts"""


def needs_training_data(experiment: Experiment) -> bool:
    """Whether the method learns from the training split."""
    return experiment.method != "vqa" and not (experiment.method == "clip" and not experiment.clip.train)


def build_baseline(
    experiment: Experiment, data: StudyDataModule, findings: Sequence[str], known: Mapping[str, Any],
    trained: Path | None,
) -> Scored:  # fmt: skip
    """The module of `experiment.method`.

    Args:
        findings: those that are scored.
        known: what training knew, where a trained run is scored on these data; empty otherwise.
        trained: the folder of that run.
    """
    file = import_module(f"radz.baselines.{METHODS[experiment.method]}")
    module: Scored = file.build(experiment, data, tuple(findings), known, trained)
    return module
