"""Launchers: what torchrun or SLURM started must be what the settings say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from data_modules.errors import InputError
from radz.config.files import digest, load_experiment
from radz.config.schema import TrainerConfig
from radz.distributed import own_device
from radz.runs.preflight import check_launch
from radz.training.fsdp import load_whole, strategy


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)


def test_torchrun_with_another_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_launch(TrainerConfig(devices=2, num_nodes=2))
    with pytest.raises(InputError, match=r"devices=2 trainer.num_nodes=1: that makes 2 processes, and torchrun st"):
        check_launch(TrainerConfig(devices=2))


def test_slurm_with_another_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_JOB_NAME", "radz")
    check_launch(TrainerConfig(devices=4, num_nodes=2))
    with pytest.raises(InputError, match="srun started 8"):
        check_launch(TrainerConfig(devices=4))
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")  # a shell in an allocation, from which radz starts processes
    check_launch(TrainerConfig(devices=4))


def test_several_machines_need_a_launcher() -> None:
    with pytest.raises(InputError, match=r"trainer.num_nodes=2: start one command per node with torchrun or srun"):
        check_launch(TrainerConfig(num_nodes=2))


def test_one_process_takes_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert own_device("auto") == own_device("gpu") == [2] and own_device("cpu") == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert own_device("auto") == 1


def test_strategy_follows_the_number_of_processes() -> None:
    assert strategy(TrainerConfig()) == "auto"
    assert strategy(TrainerConfig(devices=2)) == strategy(TrainerConfig(num_nodes=2)) == "ddp"
    assert strategy(TrainerConfig(strategy="ddp")) == "ddp"
    assert type(strategy(TrainerConfig(devices=2, strategy="fsdp"))).__name__ == "ModelParallelStrategy"


def test_where_a_run_runs_does_not_name_it() -> None:
    places = ["trainer.devices=4", "trainer.num_nodes=2", "trainer.strategy=fsdp"]
    assert digest(load_experiment("demo")) == digest(load_experiment("demo", places))


def test_fsdp_needs_full_fine_tuning() -> None:
    with pytest.raises(InputError, match=r"trainer.strategy: fsdp conflicts with backbone.train"):
        load_experiment("demo", ["backbone.train=lora", "trainer.strategy=fsdp"])


def test_weights_of_a_checkpoint_replace_those_that_it_names() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    kept = module[1].weight.clone()
    load_whole(module, {"0.weight": torch.ones(2, 2)}, strict=False)
    assert torch.equal(module[0].weight, torch.ones(2, 2)) and torch.equal(module[1].weight, kept)
    with pytest.raises(RuntimeError, match=r"1\.weight"):
        load_whole(module, {"0.weight": torch.ones(2, 2)}, strict=True)
