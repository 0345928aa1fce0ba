"""`radz train EXPERIMENT --dry-run`: what would be trained on what."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from radz import checks
from radz.backbones.adapt import trainable_table
from radz.config import Experiment
from radz.config_checks import known_findings
from radz.descriptions import FIELDS, Description, save_descriptions
from radz.run import prepare
from radz.run_folder import run_folder


def dry_run(experiment: Experiment) -> list[str]:
    """Build data and model, train nothing, write nothing but caches; lines to print."""
    checks.before_data(experiment)
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
    if parts.bank is not None:
        lines.append(f"anchors: {len(parts.bank.names)} of dimension {parts.bank.vectors.shape[1]}")
    steps = len(parts.data.table.rows("train")) // (experiment.data.batch_size * experiment.trainer.processes)
    lines.append(f"steps per epoch: {steps}; run folder: {run_folder(experiment)}")
    return lines


def _stand_ins(experiment: Experiment, file: Path) -> Experiment:
    """The experiment with a file of descriptions in which each finding is described by its name."""
    words = {finding.name: finding.text for finding in known_findings(experiment.data)}
    save_descriptions(file, {name: Description(name, *[text] * len(FIELDS)) for name, text in words.items()})
    return replace(experiment, dkam=replace(experiment.dkam, write=False, descriptions=str(file)))
