"""Faults that can be found before time is spent: first without any data, then without any model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from data_modules.errors import InputError
from radz.backbones.folder import check_folder, reading
from radz.backbones.hub import resolve
from radz.config import Experiment, TrainerConfig
from radz.config_checks import known_findings
from radz.descriptions import load_descriptions
from radz.encode import MODALITY_TEXT
from radz.experiment import find_resource
from radz.run_folder import make_folder
from radz.scoring.prompts import lint, sentences
from radz.sharding import check_launch

FUSED_ANCHORS = 3
"""Similarities to fewer anchors, less their mean, hold no direction."""


def before_data(experiment: Experiment) -> None:
    """InputError for places, devices, backbone files or descriptions that cannot be used."""
    make_folder(Path(experiment.cache_dir).expanduser(), "cache_dir")
    check_launch(experiment.trainer)
    _devices(experiment.trainer)
    if experiment.method == "clip" and experiment.clip.path is None and not experiment.clip.train:
        raise InputError("clip.path: missing; name a CLIP or SigLIP folder, or train the tiny one with clip.train=true")
    labelled = experiment.method in ("probe", "finetune") and experiment.supervised.encoder == "backbone"
    if experiment.method not in ("dfat", "vqa") and not labelled:
        return
    if experiment.backbone.path is not None:
        folder = resolve(experiment.backbone.path)
        check_folder(experiment.backbone, folder)
        _weights(folder)
    if experiment.method == "dfat" and not experiment.dkam.write:
        known = load_descriptions(find_resource(experiment.dkam.descriptions))
        _described(experiment, experiment.dkam.findings, known)


def before_model(experiment: Experiment, scored: Sequence[str], bank: Sequence[str], bank_is_there: bool) -> None:
    """InputError when the anchors or the headline scorer will lack something.

    Args:
        scored: findings to be scored.
        bank: findings of the training bank, which `bank_is_there` says is built already.
    """
    check_prompts(experiment, scored)
    # The backbone describes the findings of the bank and no others.
    written = experiment.dkam.write
    known: Collection[str] = bank if written else load_descriptions(find_resource(experiment.dkam.descriptions))
    if not bank_is_there:
        _described(experiment, bank, known)
    headline = experiment.scoring.headline
    lacking = [name for name in scored if name not in known and not (headline == "anchor" and name in bank)]
    if headline in ("anchor", "description") and lacking:
        raise InputError(
            f"scoring.headline={headline}: {lacking[0]} has no description; add it to {experiment.dkam.descriptions}, "
            "leave it out of scoring.findings, or choose headline prompt or fused"
        )
    if headline == "fused" and len(bank) < FUSED_ANCHORS:
        raise InputError(
            f"scoring.headline=fused: needs {FUSED_ANCHORS} anchors or more, the bank has {len(bank)} "
            f"({', '.join(bank)}); name more in dkam.findings or choose headline prompt"
        )


def check_prompts(experiment: Experiment, scored: Sequence[str]) -> None:
    """InputError for a fault in the sentences of the scored classes, as they will be encoded."""
    known, scoring = known_findings(experiment.data), experiment.scoring
    words = {name: known[name].text if name in known else name.replace("_", " ") for name in scored}
    for modality in sorted({corpus.modality for corpus in experiment.data.corpora}):
        found = sentences(scored, list(words.values()), MODALITY_TEXT[modality], scoring)
        lint(dict(zip(scored, found, strict=True)), words, list(scoring.class_prompts))


def _described(experiment: Experiment, findings: Sequence[str], known: Collection[str]) -> None:
    missing = [name for name in findings if name not in known]
    if missing:
        raise InputError(
            f"dkam.descriptions: {experiment.dkam.descriptions} has no {missing[0]}; add it or write with dkam.write"
        )


def _devices(settings: TrainerConfig) -> None:
    """GPUs that are there; processes on the CPU are as many as asked for."""
    from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

    gpus = torch.cuda.device_count() if CUDAAccelerator.is_available() else int(MPSAccelerator.is_available())
    if settings.accelerator == "gpu" and not gpus:
        raise InputError("trainer.accelerator=gpu: there is no usable GPU here; use cpu or auto")
    if settings.accelerator != "cpu" and 0 < gpus < settings.devices:
        raise InputError(f"trainer.devices={settings.devices}: there are {gpus} GPU(s) here; ask for at most {gpus}")


def _weights(folder: Path) -> None:
    """Open each file of weights: its header says how long it must be."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with reading(folder, file.name), safe_open(file, framework="pt"):
            pass
