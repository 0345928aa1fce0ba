"""Faults that can be found before time is spent, without any data."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from data_modules.errors import InputError
from radz.backbones.assembly.packaged import PACKAGED
from radz.backbones.folder import check_folder, reading
from radz.backbones.hub import resolve
from radz.config.files import find_resource
from radz.config.schema import Experiment, TrainerConfig
from radz.methods import registry
from radz.methods.dkam import check_described
from radz.models.descriptions import load_descriptions
from radz.training.run_folder import make_folder


def before_data(experiment: Experiment) -> None:
    """InputError for places, devices, backbone files or descriptions that cannot be used."""
    make_folder(Path(experiment.cache_dir).expanduser(), "cache_dir")
    check_launch(experiment.trainer)
    _devices(experiment.trainer)
    registry.check_weights(experiment.method, experiment.clip)
    if registry.has_backbone(experiment.method, experiment.supervised) and experiment.backbone.path is not None:
        folder = resolve(experiment.backbone.path)
        if not folder.is_dir() and folder.parent.name == "backbones" and folder.name in PACKAGED:
            raise InputError(f"backbone.path: {folder}: no such folder; run make backbone NAME={folder.name}")
        check_folder(experiment.backbone, folder)
        _weights(folder)
    if registry.has_anchors(experiment.method) and not experiment.dkam.write:
        known = load_descriptions(find_resource(experiment.dkam.descriptions))
        check_described(experiment.dkam, experiment.dkam.findings, known)


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

    for file in sorted(folder.glob("*.safetensors")):
        with reading(folder, file.name), safe_open(file, framework="pt"):
            pass
