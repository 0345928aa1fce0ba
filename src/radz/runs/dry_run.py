"""`radz train EXPERIMENT --dry-run`: what would be trained on what."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from radz.backbones.lora import trainable_table
from radz.config.checks import known_findings
from radz.config.files import run_folder
from radz.config.schema import Experiment
from radz.models.descriptions import FIELDS, Description, save_descriptions
from radz.runs import preflight
from radz.runs.train import Parts, prepare
from radz.training import trial_steps
from radz.training.out_of_memory import is_out_of_memory


def dry_run(experiment: Experiment) -> list[str]:
    """Build data and model, measure three steps, write nothing but caches; lines to print."""
    preflight.before_data(experiment)
    with tempfile.TemporaryDirectory() as scratch:
        lines = []
        if experiment.dkam.write:
            experiment = _stand_ins(experiment, Path(scratch) / "descriptions.yaml")
            lines = ["descriptions: the backbone will write them; the names of the findings stand in for them here"]
        parts = prepare(experiment, None)
    lines = [f"{corpus}: {splits}" for corpus, splits in parts.data.counts().items()] + lines
    seen = parts.seen
    lines += [f"findings scored: {', '.join(f'{name} ({seen[name]})' for name in parts.findings)}"]
    lines += [f"{part:<20} {n:>13,} trainable of {every:>15,}" for part, n, every in trainable_table(parts.module)]
    if bank := parts.module.bank:
        lines.append(f"anchors: {len(bank.names)} of dimension {bank.vectors.shape[-1]}")
    if parts.module.trains:
        lines += _cost(experiment, parts)
    steps = trial_steps.steps_per_epoch(experiment.trainer, parts.data)
    lines.append(f"steps per epoch: {steps}; run folder: {run_folder(experiment)}")
    return lines


def _cost(experiment: Experiment, parts: Parts) -> list[str]:
    """What a few steps on this machine say of the whole training."""
    try:
        step = trial_steps.measure(experiment.trainer, parts.module, parts.data)
    except Exception as error:  # torch has a kind for each device, and some are plain RuntimeErrors
        if not is_out_of_memory(error):
            raise
        return ["FLOPs per pair, memory and hours: unknown, a step does not fit into the memory of this machine"]
    every = trial_steps.steps_of_run(experiment.trainer, parts.data)
    kind = "GPU memory" if torch.cuda.is_available() else "memory of the process"
    return [
        f"FLOPs per pair: {step.flops_per_pair:.3g} (forward and backward, measured)",
        f"peak memory: about {step.memory_gb:.1f} GB ({kind}, one device)",
        f"hours of training: about {every * step.seconds / 3600:.2f}, {every} steps of {step.seconds:.3g} s on this "
        "machine; validation and test come on top",
    ]


def _stand_ins(experiment: Experiment, file: Path) -> Experiment:
    """The experiment with a file of descriptions in which each finding is described by its name."""
    words = {finding.name: finding.text for finding in known_findings(experiment.data)}
    save_descriptions(file, {name: Description(name, *[text] * len(FIELDS)) for name, text in words.items()})
    return replace(experiment, dkam=replace(experiment.dkam, write=False, descriptions=str(file)))
