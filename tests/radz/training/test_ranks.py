"""Ranks draw other dropout masks, each the same ones in every run; heads and losses are computed in full float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.training.callbacks import checkpointing
from radz.training.callbacks.checkpointing import LastCheckpoint, random_states
from radz.training.trainer import make_trainer


def drawn(rank: int, monkeypatch: pytest.MonkeyPatch, seed: int, stored: list | None = None) -> torch.Tensor:
    """What the first step of a rank drops."""
    monkeypatch.setattr(checkpointing, "world", lambda: (rank, 2))
    torch.manual_seed(seed)
    callback = LastCheckpoint(Path(), None)
    callback._random = stored or []
    callback.on_train_start(None, None)
    return torch.nn.functional.dropout(torch.ones(64))


def test_each_rank_drops_its_own_features(monkeypatch: pytest.MonkeyPatch) -> None:
    every = [drawn(rank, monkeypatch, seed) for rank in (0, 1) for seed in (0, 1)]
    assert all(not torch.equal(a, b) for n, a in enumerate(every) for b in every[:n])
    assert torch.equal(every[2], drawn(1, monkeypatch, 0))


def test_a_resumed_rank_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    states = [None, random_states()]
    expected = torch.nn.functional.dropout(torch.ones(64))
    assert torch.equal(drawn(1, monkeypatch, 0, states), expected)


@pytest.mark.parametrize("saved", [1, 3])
def test_a_checkpoint_of_another_number_of_processes_is_refused(saved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "world", lambda: (0, 2))
    callback, states = LastCheckpoint(Path(), None), [random_states()]
    callback.on_load_checkpoint(None, None, {"random": states * 2, "global_step": 4})
    with pytest.raises(
        InputError, match=rf"^trainer\.devices: .* stopped with {saved} process\(es\) .* with 2; resume"
    ):
        callback.on_load_checkpoint(None, None, {"random": states * saved, "global_step": 4})


def test_training_and_scoring_compute_float32_in_full(tmp_path: Path) -> None:
    """TF32 products of float32 would tie cosines near 1; it is off however the process came here."""
    torch.set_float32_matmul_precision("high")
    make_trainer(load_experiment("demo", ["trainer.accelerator=cpu"]).trainer, tmp_path, [])
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
