"""Faults 1, 2, 3, 5, 6, 7: a run that is killed, or whose checkpoint cannot be written or read, goes on bit for bit."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from survival import STEPS, assert_same, global_step, killed, run

from data_modules.errors import InputError
from radz.methods.dfat import DFAT
from radz.training.callbacks.checkpointing import keep_previous, random_states, set_random_states, usable_checkpoint
from radz.training.callbacks.signals import Stopped
from radz.training.checkpoint_io import read_checkpoint, write_checkpoint

EVERY = "trainer.checkpoint_every_n_steps=2"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A run that nothing interrupts, without workers."""
    return run(tmp_path_factory.mktemp("whole") / "run", cache_dir)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The same, killed in the middle of the second epoch; steps 8 and 6 are saved."""
    folder = tmp_path_factory.mktemp("broken") / "run"
    killed(STEPS + 3, folder, cache_dir, EVERY)
    assert (global_step(folder), global_step(folder, "previous")) == (8, 6)
    return folder


@pytest.mark.fault(1)
@pytest.mark.fault(2)
def test_a_killed_run_goes_on_bit_for_bit_with_workers(
    whole: Path, broken: Path, tmp_path: Path, cache_dir: Path
) -> None:
    folder = shutil.copytree(broken, tmp_path / "run")
    run(folder, cache_dir, EVERY, "data.workers=2", "trainer.profiler=simple")
    assert_same(whole, folder)
    assert "run_training_batch" in (folder / "profile/fit-simple.txt").read_text()


@pytest.mark.slow
@pytest.mark.fault(1)
@pytest.mark.fault(2)
@pytest.mark.parametrize(("step", "workers"), [(1, 0), (3, 1), (5, 2), (6, 1), (11, 0)])
def test_wherever_it_is_killed(step: int, workers: int, whole: Path, tmp_path: Path, cache_dir: Path) -> None:
    """Also in the first step of an epoch, in its last, and before anything is saved."""
    folder, more = tmp_path / "run", [EVERY, f"data.workers={workers}"]
    killed(step, folder, cache_dir, *more)
    run(folder, cache_dir, *more)
    assert_same(whole, folder)


@pytest.mark.slow
@pytest.mark.fault(1)
def test_a_run_by_steps_is_killed_twice(tmp_path: Path, cache_dir: Path) -> None:
    limits = ["trainer.max_epochs=null", "trainer.max_steps=10", "trainer.checkpoint_every_n_steps=1"]
    whole = run(tmp_path / "whole", cache_dir, *limits)
    for step in (6, 8):  # after the end of an epoch, then within the next
        killed(step, tmp_path / "run", cache_dir, *limits)
    assert_same(whole, run(tmp_path / "run", cache_dir, *limits))


@pytest.mark.fault(3)
@pytest.mark.slow
def test_a_stop_during_validation_repeats_one_step(
    whole: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(DFAT, "on_validation_start", lambda self: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped, match=r"resume from .*last\.ckpt"):
            run(folder, cache_dir)
    assert global_step(folder) == STEPS - 1 and not (folder / "checkpoints/best.ckpt").exists()
    assert_same(whole, run(folder, cache_dir))


@pytest.mark.fault(7)
@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    how: str, broken: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(broken / "checkpoints", tmp_path / "checkpoints")
    damage(folder / "last.ckpt", how)
    with caplog.at_level(logging.WARNING):
        assert usable_checkpoint(folder) == (folder / "previous.ckpt", 6)
    assert f"{folder / 'last.ckpt'}: " in caplog.text and str(folder / "damaged.ckpt") in caplog.text
    assert (folder / "damaged.ckpt").is_file() and not (folder / "last.ckpt").exists()
    damage(folder / "previous.ckpt", how)
    with pytest.raises(InputError, match=r"previous\.ckpt") as fault:
        usable_checkpoint(folder)
    assert "\n" not in str(fault.value)


def damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "truncated":
        file.write_bytes(data[: len(data) // 2])
        return
    weights = torch.load(file, weights_only=True)["state_dict"]
    needle = max(weights.values(), key=torch.numel).numpy().tobytes()[:64]
    data[data.index(needle) + 5] ^= 0x40
    file.unlink()  # last and previous may be one file
    file.write_bytes(data)


@pytest.mark.slow
@pytest.mark.fault(7)
def test_a_run_goes_on_from_the_one_before(whole: Path, broken: Path, tmp_path: Path, cache_dir: Path) -> None:
    folder = shutil.copytree(broken, tmp_path / "run")
    damage(folder / "checkpoints/last.ckpt", "flipped")
    assert_same(whole, run(folder, cache_dir, EVERY))


@pytest.mark.fault(5)
def test_a_kill_while_a_checkpoint_is_written(broken: Path, tmp_path: Path, cache_dir: Path) -> None:
    """A slow disk: the process dies with half of the file written. Both checkpoints are whole, no part is taken."""
    folder = shutil.copytree(broken, tmp_path / "run")
    child = os.fork()
    if not child:
        try:

            def slow(content: Any, file: Any, *rest: Any, **more: Any) -> None:
                file.write(b"PK half of it")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)

            torch.save = slow
            run(folder, cache_dir, EVERY)
        finally:
            os._exit(7)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (global_step(folder), global_step(folder, "previous")) == (8, 8)  # step 8 was being replaced by step 10
    assert usable_checkpoint(folder / "checkpoints") == (folder / "checkpoints/last.ckpt", 8)


@pytest.mark.fault(6)
def test_a_full_disk_is_one_line_and_keeps_the_checkpoint(
    broken: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(broken, tmp_path / "run")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"No space left.* bytes") as fault:
        run(folder, cache_dir, EVERY)
    assert str(folder / "checkpoints/last.ckpt") in str(fault.value) and "\n" not in str(fault.value)
    monkeypatch.undo()
    assert usable_checkpoint(folder / "checkpoints") == (folder / "checkpoints/last.ckpt", 8)


def test_the_one_before_is_kept_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_previous(tmp_path)
    assert not list(tmp_path.iterdir()) and usable_checkpoint(tmp_path) is None

    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "last.ckpt").write_bytes(b"x")
    keep_previous(tmp_path)
    (tmp_path / "last.ckpt").write_bytes(b"y")
    assert (tmp_path / "previous.ckpt").read_bytes() == b"x"


def test_another_number_of_processes_is_refused(broken: Path, tmp_path: Path, cache_dir: Path) -> None:
    folder = shutil.copytree(broken, tmp_path / "run")
    for name in ("last", "previous"):
        content = read_checkpoint(folder / f"checkpoints/{name}.ckpt")
        content["random"] *= 2
        write_checkpoint(content, folder / f"checkpoints/{name}.ckpt")
    with pytest.raises(InputError, match=r"trainer\.devices: the run was stopped with 2 process"):
        run(folder, cache_dir, EVERY)


def test_random_states_come_back() -> None:
    import random

    before = random_states()
    drawn = [random.random(), np.random.rand(), torch.rand(3).tolist()]
    set_random_states(before)
    assert [random.random(), np.random.rand(), torch.rand(3).tolist()] == drawn
