"""Progress of a run whose output is no terminal: one bar over all steps, one over each scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks.progress.progress_bar import get_standard_metrics
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from data_modules import progress
from radz.config.files import load_experiment
from radz.training.callbacks.csv_logger import CsvLog
from radz.training.callbacks.progress import DrawnProgress, LogProgress
from radz.training.trainer import make_trainer


def test_a_log_has_a_line_for_each_tenth_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    trainer = pl.Trainer(
        max_epochs=4, limit_train_batches=5, limit_test_batches=1, limit_val_batches=0,
        accelerator="cpu", callbacks=[LogProgress()],
        logger=False, enable_checkpointing=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(BoringModel())
    trainer.test(BoringModel(), verbose=False)
    out, told = capsys.readouterr()
    lines = [line for line in told.splitlines() if "batch/s" in line]
    assert lines[-2].startswith("training: 100% 20/20") and "epoch=3" in lines[-2]
    assert lines[-1].startswith("scoring: 100% 1/1")
    assert len(lines) <= 11 and "%" not in out and "\r" not in told


def test_lightnings_bars_are_for_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, kind in ((True, DrawnProgress), (False, LogProgress)):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal, raising=False)
        trainer = make_trainer(load_experiment("demo").trainer, tmp_path, [CsvLog(tmp_path / "m.csv")])
        assert type(trainer.progress_bar_callback) is kind


@pytest.mark.parametrize("kind", [DrawnProgress, LogProgress])
def test_no_bar_shows_four_letters_of_the_run_id(kind: Any, tmp_path: Path) -> None:
    trainer = pl.Trainer(logger=CSVLogger(tmp_path, version="4e10ab"), callbacks=[kind()], accelerator="cpu")
    assert "v_num" in get_standard_metrics(trainer)
    assert kind().get_metrics(trainer, BoringModel()) == {}
