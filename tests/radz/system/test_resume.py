"""A run that is stopped, cut short or continued, and the checkpoints it must not accept."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_run import BARE, FEW

from data_modules.errors import InputError
from radz import Radz
from radz.config.files import load_experiment
from radz.methods.dfat import DFAT
from radz.runs.prepare import prepare
from radz.runs.train import Stopped, train
from radz.training import checkpoint_io
from radz.training.checkpoint_io import write_checkpoint
from radz.training.run_folder import load_run
from radz.training.trainer import MONITOR

LORA = ["backbone.train=lora", "backbone.lora_rank=4", "backbone.train_tower=false", "dfat.learning_rate=0.01"]
IDENTIFIER = re.compile(r"(train|val|test)-\d{6}")
"""Study, patient and image identifiers of the phantom hold this."""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lightning switches Ctrl-C off while it shuts down."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.fault(3)
def test_a_run_stopped_by_signals_goes_on_bit_for_bit(
    tmp_path: Path, cache_dir: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, interruptible: None,
) -> None:  # fmt: skip
    """Stopped in the middle of the second epoch by the scheduler and of the third by Ctrl-C: the step is finished and
    saved. No epoch is an improvement on the first; `last` must be the latest all the same. Temperature and
    anchors change as the weights do."""
    log, step, stop = DFAT.log, DFAT.training_step, {"term": -1, "interrupt": -1}

    def falling(self: DFAT, name: str, value: Any, **settings: Any) -> None:
        log(self, name, 1 / (2 + self.current_epoch) if name == MONITOR else value, **settings)

    def stopping(self: DFAT, batch: Any, batch_idx: int) -> Any:
        if self.global_step == stop["term"]:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.global_step == stop["interrupt"]:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DFAT, "log", falling)
    monkeypatch.setattr(DFAT, "training_step", stopping)

    def run(name: str) -> Path:
        places = [f"run_dir={tmp_path / name}", f"cache_dir={cache_dir}", "trainer.max_epochs=3"]
        moving = ["dfat.learn_temperature=true", "dfat.temperature_warmup=0.5", "dfat.projector_warmup_steps=6"]
        moving += ["dkam.anchor_refresh=every_n_steps", "dkam.anchor_refresh_steps=2"]
        return train(load_experiment("demo", [*BARE, FEW, *LORA, *moving, *places]))

    with caplog.at_level(logging.INFO):
        whole = run("whole")
        stop["term"] = 4
        with pytest.raises(Stopped, match="repeat the command to resume"):
            run("resumed")
        resumed = tmp_path / "resumed"
        assert torch.load(resumed / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 5
        stop.update(term=-1, interrupt=6)
        with pytest.raises(Stopped, match="repeat the command to resume"):
            run("resumed")
        assert torch.load(resumed / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 7
        assert torch.load(resumed / "checkpoints/previous.ckpt", weights_only=True)["global_step"] == 6
        assert torch.load(resumed / "checkpoints/best.ckpt", weights_only=True)["global_step"] == 3
        assert not (resumed / "metrics.json").exists()
        interrupted = pd.read_csv(resumed / "metrics.csv")
        stop["interrupt"] = -1
        run("resumed")
    assert [f"resuming {resumed} after step {n}" in caplog.text for n in (5, 7)] == [True, True]
    assert not IDENTIFIER.search(caplog.text)

    for name in ("best", "last"):
        one, other = (torch.load(f / f"checkpoints/{name}.ckpt", weights_only=True) for f in (whole, resumed))
        assert one["global_step"] == other["global_step"] == {"best": 3, "last": 9}[name]
        assert one["state_dict"].keys() == other["state_dict"].keys()
        assert [k for k, v in one["state_dict"].items() if not torch.equal(v, other["state_dict"][k])] == []
    first, second = (pd.read_csv(f / "metrics.csv") for f in (whole, resumed))
    assert first.step.tolist() == second.step.tolist() == list(range(9))
    assert interrupted.step.tolist() == list(range(7))
    columns = [name for name in first.columns if name != "pairs_per_second"]
    pd.testing.assert_frame_equal(first[columns], second[columns])
    for split in ("val", "test"):
        name = f"predictions/phantom_{split}.csv"
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    # A run that lost nothing but its results scores again and trains no further.
    (resumed / "metrics.json").unlink()
    stop["interrupt"] = 9
    run("resumed")
    assert (whole / name).read_bytes() == (resumed / name).read_bytes()


@pytest.mark.parametrize(("steps", "validated"), [(2, [2]), (4, [3, 4])])
@pytest.mark.slow
def test_a_run_may_end_by_steps(tmp_path: Path, cache_dir: Path, steps: int, validated: list[int]) -> None:
    """Three steps are an epoch: two end within the first, four one step behind it, and the end is validated too."""
    places = [f"run_dir={tmp_path / 'run'}", f"cache_dir={cache_dir}"]
    limits = ["trainer.max_epochs=null", f"trainer.max_steps={steps}"]
    run = train(load_experiment("demo", [*BARE, *LORA, *places, *limits]))
    rows = pd.read_csv(run / "metrics.csv").dropna(subset=MONITOR)
    assert [step + 1 for step in rows.step] == validated
    best = int(rows.step[rows[MONITOR].idxmax()]) + 1
    for name, step in (("best", best), ("last", steps)):
        assert torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)["global_step"] == step
    assert (run / "metrics.json").is_file() and np.isfinite(Radz.from_pretrained(run).embed_texts(["edema"])).all()


@pytest.fixture(scope="module")
def module(trained_run: Path) -> DFAT:
    """The trained module of a run; what is refused leaves it as it is."""
    module: DFAT = prepare(load_run(trained_run), trained_run, trained=True).module
    return module


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["radz"].update(base_digest="0" * 12), "another backbone"),
        (lambda c: c["radz"].update(findings=["edema"]), "other findings"),
        (lambda c: c["state_dict"].pop("encoder.heads.text.weight"), "encoder.heads.text.weight"),
        (lambda c: c["state_dict"].update(extra=torch.zeros(1)), "extra"),
        (lambda c: c.pop("radz"), "another backbone"),
        (lambda c: c["radz"].update(image_tokens=9), r"dfat.image_tokens=9 where this run has \d"),
        (lambda c: c["radz"].update(text_tokens=9), r"dfat.text_tokens=9 where this run has \d"),
        (
            lambda c: c["state_dict"].update({"encoder.heads.text.weight": torch.zeros(48, 32)}),
            r"encoder.heads.text.weight is \[48, 32\] there and \[32, 32\]",
        ),
    ],
)
@pytest.mark.fault(7)
def test_a_foreign_checkpoint_is_refused(
    module: DFAT, trained_run: Path, tmp_path: Path, change: Any, message: str
) -> None:
    content = torch.load(trained_run / "checkpoints/best.ckpt", weights_only=True)
    change(content)
    write_checkpoint(content, tmp_path / "x.ckpt")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputError, match=message) as fault:
        checkpoint_io.load_weights(module, tmp_path / "x.ckpt")
    assert "\n" not in str(fault.value)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items()), "half loaded"


class Evil:
    """A pickle that runs code when it is opened carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.fault(16)
def test_a_checkpoint_never_runs_code(module: DFAT, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "radz": Evil(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    (tmp_path / "junk.ckpt").write_bytes(b"PK\x03\x04 junk")
    for name in ("evil", "junk", "absent"):
        with pytest.raises(InputError) as fault:
            checkpoint_io.load_weights(module, tmp_path / f"{name}.ckpt")
        assert "\n" not in str(fault.value) and name in str(fault.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.fault(7)
def test_a_resume_from_a_damaged_checkpoint_is_one_line(trained_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_run, tmp_path / "damaged")
    (folder / "metrics.json").unlink()
    for name in ("last", "previous"):
        (folder / f"checkpoints/{name}.ckpt").write_bytes(b"half")
    with pytest.raises(InputError, match="not a readable checkpoint") as fault:
        train(load_experiment(str(folder / "config.yaml"), [f"run_dir={folder}"]))
    assert "\n" not in str(fault.value)
