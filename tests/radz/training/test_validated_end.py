"""What is trained last is validated too, wherever the run ends, so that best.ckpt can be of it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel, RandomDataset
from torch.utils.data import DataLoader

from radz.config.trainer import TrainerConfig
from radz.metrics.monitor import MONITOR
from radz.training.callbacks.checkpointing import usable_checkpoint
from radz.training.trainer import make_trainer

STEPS = 5
"""of an epoch"""
ENDS = {
    "epochs": ({"max_epochs": 5, "validate_every_epochs": 3}, [15, 25]),
    "the last epoch is due": ({"max_epochs": 4, "validate_every_epochs": 2}, [10, 20]),
    "before the first is due": ({"max_epochs": 2, "validate_every_epochs": 3}, [10]),
    "steps within an epoch": ({"max_steps": 7}, [5, 7]),
    "a step into an epoch": ({"max_steps": 6}, [5, 6]),
    "steps before the first": ({"max_steps": 3}, [3]),
    "steps at the end of an epoch": ({"max_steps": 10}, [5, 10]),
    "steps and epochs": ({"max_steps": 12, "validate_every_epochs": 3}, [12]),
    "steps at the end of an epoch that is not due": ({"max_steps": 10, "validate_every_epochs": 3}, [10]),
}


class Counted(BoringModel):
    """Better with every step; fails in training or validation at step `stop`."""

    def __init__(self, stop: tuple[str, int] | None) -> None:
        super().__init__()
        self.stop, self.validated = stop, []

    def train_dataloader(self) -> Any:
        return DataLoader(RandomDataset(32, STEPS))

    def val_dataloader(self) -> Any:
        return DataLoader(RandomDataset(32, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self._look("train")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._look("val")

    def on_validation_epoch_end(self) -> None:
        self.validated.append(self.global_step)
        self.log(MONITOR, float(self.global_step))

    def _look(self, at: str) -> None:
        if (at, self.global_step) == self.stop:
            raise KeyError("stopped")


def fit(
    folder: Path, settings: dict[str, Any], stop: tuple[str, int] | None = None, start: Path | None = None
) -> list[int]:
    """Steps at which a run was validated, until it stops."""
    module = Counted(stop)
    trainer = make_trainer(TrainerConfig(accelerator="cpu", progress_bar=False, **settings), folder, [])
    with nullcontext() if stop is None else pytest.raises(KeyError, match="stopped"):
        trainer.fit(module, ckpt_path=start, weights_only=True)
    return module.validated


def steps(folder: Path) -> dict[str, int]:
    files = {name: folder / f"checkpoints/{name}.ckpt" for name in ("best", "last")}
    return {name: torch.load(file, weights_only=True)["global_step"] for name, file in files.items()}


@pytest.mark.parametrize("case", ENDS)
def test_the_end_is_validated_once(tmp_path: Path, case: str) -> None:
    settings, validated = ENDS[case]
    assert fit(tmp_path, settings) == validated
    assert steps(tmp_path) == {"best": validated[-1], "last": validated[-1]}
    # A run that was trained to its end, and lost its results, trains and validates no more.
    found = usable_checkpoint(tmp_path / "checkpoints")
    assert found is not None and fit(tmp_path, settings, start=found[0]) == []


@pytest.mark.parametrize("case", ENDS)
def test_a_stop_in_the_last_validation_costs_one_step(tmp_path: Path, case: str) -> None:
    settings, validated = ENDS[case]
    fit(tmp_path, settings, ("val", validated[-1]))
    found = usable_checkpoint(tmp_path / "checkpoints")
    assert found is not None and found[1] == validated[-1] - 1
    assert fit(tmp_path, settings, start=found[0]) == validated[-1:]
    assert steps(tmp_path) == {"best": validated[-1], "last": validated[-1]}


@pytest.mark.parametrize("case", ["epochs", "a step into an epoch", "steps and epochs"])
@pytest.mark.parametrize("every", [None, 1])
def test_a_run_stopped_at_one_of_its_last_steps_is_validated_where_it_would_have_been(
    tmp_path: Path, case: str, every: int | None
) -> None:
    settings, validated = ENDS[case]
    settings = {**settings, "checkpoint_every_n_steps": every}
    for stop in range(max(validated[-1] - 7, 1), validated[-1]):
        folder = tmp_path / str(stop)
        before = fit(folder, settings, ("train", stop))
        found = usable_checkpoint(folder / "checkpoints")
        start, step = found or (None, 0)
        after = fit(folder, settings, start=start)
        assert ([n for n in before if n <= step] + after, steps(folder)["best"]) == (validated, validated[-1]), stop
