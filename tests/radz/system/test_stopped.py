"""Faults 3, 4, 8, 9, 10: signals, SLURM's warning, numbers that are not finite, a process that is gone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from processes import free_port
from small_run import SMALL
from survival import DROPOUT, global_step, run
from torch import nn

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.methods import dfat
from radz.methods.dfat import DFAT
from radz.runs.prepare import Parts, prepare
from radz.training.callbacks.csv_logger import CsvLog
from radz.training.callbacks.finite import stop_unless_finite
from radz.training.callbacks.signals import Stopped, requeue
from radz.training.trainer import make_trainer

SLURM = {
    "SLURM_NTASKS": "1", "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "radz", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "1",
}  # fmt: skip


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM job without SLURM; the file that the stand-in for scontrol writes its arguments to."""
    calls = tmp_path / "calls"
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    return calls


@pytest.mark.fault(4)
def test_slurms_warning_saves_and_requeues_once(
    scontrol: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with deterministic operators."""
    plain = DFAT.training_step

    def warned(self: DFAT, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(DFAT, "training_step", warned)
    try:
        with pytest.raises(Stopped, match=r"resume from .*last\.ckpt, SLURM job 4711 is requeued"):
            run(tmp_path / "run", cache_dir, "trainer.deterministic=true")
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert scontrol.read_text() == "requeue 4711\n"
    assert global_step(tmp_path / "run") == 3
    assert not list((tmp_path / "run").glob("hpc_ckpt*"))


@pytest.mark.fault(4)
def test_only_the_id_of_a_job_is_requeued(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("", "1;rm x", "--help", "12 13"):
        monkeypatch.setenv("SLURM_JOB_ID", bad)
        assert "not requeued" in requeue()
    assert not scontrol.exists()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue() == ", SLURM job 12_3 is requeued" and scontrol.read_text() == "requeue 12_3\n"
    script = scontrol.parent / "bin/scontrol"
    script.write_text("#!/bin/sh\necho no such job >&2\nexit 1\n")
    assert requeue() == ", not requeued: scontrol ended with 1 (no such job)"
    monkeypatch.setenv("PATH", str(scontrol.parent / "nowhere"))
    assert "not requeued: scontrol failed (FileNotFoundError)" in requeue()


@pytest.mark.fault(3)
def test_a_second_ctrl_c_stops_within_the_step(parts: Parts, tmp_path: Path, cache_dir: Path, monkeypatch: Any) -> None:
    """The first one waits for the step, which may hang; the second does not."""
    went_on = []

    def stuck(self: DFAT, batch: Any, batch_idx: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        went_on.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        went_on.append(2)
        raise AssertionError("the step went on")

    monkeypatch.setattr(DFAT, "training_step", stuck)
    experiment = load_experiment("demo", [*SMALL, *DROPOUT, f"cache_dir={cache_dir}"])
    handler = signal.getsignal(signal.SIGINT)  # Lightning switches Ctrl-C off while it shuts down
    try:
        with pytest.raises(Stopped):
            make_trainer(experiment.trainer, tmp_path, [CsvLog(tmp_path / "metrics.csv")]).fit(
                parts.module, datamodule=parts.data
            )
    finally:
        signal.signal(signal.SIGINT, handler)
    assert went_on == [1]


# ---- Numbers that are not finite -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Parts:
    """Data and model of the small demo."""
    experiment = load_experiment("demo", [*SMALL, *DROPOUT, f"cache_dir={cache_dir}"])
    return prepare(experiment, None)


class Spoilt(torch.autograd.Function):
    """A number as it is, with an infinite gradient."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * float("inf")


FAULTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "nan": lambda loss: loss * float("nan"),
    "inf": lambda loss: loss + float("inf"),  # with a gradient that is finite
    "gradient": Spoilt.apply,
}


@pytest.mark.fault(8)
@pytest.mark.parametrize("kind", list(FAULTS))
def test_what_is_not_finite_stops_before_the_update(
    kind: str, parts: Parts, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, loss, module, seen = DFAT.training_step, dfat.alignment, parts.module, {}

    def step(self: DFAT, batch: Any, batch_idx: int) -> Any:
        seen["weights"] = {name: value.clone() for name, value in self.state_dict().items()}
        seen["rows"] = batch.rows.tolist()
        return plain(self, batch, batch_idx)

    def spoilt(*features: Any, **settings: Any) -> Any:
        value = loss(*features, **settings)
        return FAULTS[kind](value) if module.global_step == 1 else value

    monkeypatch.setattr(DFAT, "training_step", step)
    monkeypatch.setattr(dfat, "alignment", spoilt)
    experiment = load_experiment("demo", [*SMALL, *DROPOUT, f"cache_dir={cache_dir}"])
    trainer = make_trainer(experiment.trainer, tmp_path, [CsvLog(tmp_path / "metrics.csv")])
    with pytest.raises(InputError, match="at step 1, process 0 of 1; no weight was changed") as fault:
        trainer.fit(module, datamodule=parts.data)
    text = str(fault.value)
    assert all(torch.equal(value, seen["weights"][name]) for name, value in module.state_dict().items())
    assert all(name in text for name in parts.data.named(seen["rows"])) and "\n" not in text
    assert re.search(r"phantom row \d+ \([0-9a-f]{12}\)", text) and not re.search(r"train-\d", text)
    assert not (tmp_path / "checkpoints/last.ckpt").exists()


class Names:
    """Stands for the DataModule."""

    def named(self, rows: list[int]) -> list[str]:
        return [f"corpus row {row} (hash)" for row in rows]


def worker(rank: int, port: int, folder: Path) -> None:
    """Steps 1 and 2 are bad on rank 1 only; then rank 1 dies and rank 0 waits for it.

    The infinite loss of step 1 has a finite gradient, so that rank 0 has it from rank 1 alone; the NaN of step 2 comes
    to rank 0 with the averaged gradient as well.
    """
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=30))
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    told = []
    for step in range(3):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3) * (float("nan") if (rank, step) == (1, 2) else 1.0)).mean()
        loss = loss + (float("inf") if (rank, step) == (1, 1) else 0.0)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        before = [p.detach().clone() for p in model.parameters()]
        try:
            stop_unless_finite(norm, loss, torch.arange(9) + 100 * rank, Names(), step)
        except InputError as fault:
            same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
            told.append(f"{step} {same} {fault}\n")
        else:
            optimizer.step()
    (folder / f"{rank}").write_text("".join(told))
    dist.barrier()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    begun = time.monotonic()
    try:
        dist.all_reduce(torch.zeros(1))
    except RuntimeError:
        (folder / "left").write_text(str(time.monotonic() - begun))
        os._exit(5)


@pytest.mark.fault(9)
@pytest.mark.fault(10)
def test_one_bad_process_stops_all_and_a_dead_one_is_not_waited_for(tmp_path: Path) -> None:
    port = free_port()
    context = mp.get_context("fork")
    processes = [context.Process(target=worker, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [5, -signal.SIGKILL]
    for rank in range(2):
        lines = (tmp_path / str(rank)).read_text().splitlines()
        assert [line.split(" ", 2)[:2] for line in lines] == [["1", "True"], ["2", "True"]]
        for told in lines:
            assert "process 1 of 2" in told and "corpus row 100 (hash)" in told and " and 1 more" in told
            assert "corpus row 0 " not in told
    assert float((tmp_path / "left").read_text()) < 30


@pytest.mark.fault(10)
def test_the_timeout_reaches_the_processes(tmp_path: Path) -> None:
    more = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.timeout_minutes=0.5", "trainer.overfit_batches=1"]
    trainer = make_trainer(load_experiment("demo", [*SMALL, *more]).trainer, tmp_path, [])
    assert trainer.strategy._timeout == timedelta(seconds=30) and trainer.limit_train_batches == 1


@pytest.mark.slow
@pytest.mark.fault(10)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_ends_when_a_process_is_dead_or_hangs(number: int, tmp_path: Path, cache_dir: Path) -> None:
    """The whole command on two processes; the second one is killed, or answers no more."""
    command, child = two_processes(tmp_path, cache_dir)
    try:
        os.kill(child, number)
        told = command.communicate(timeout=25 if number == signal.SIGKILL else 300)[1]
    finally:
        command.kill()
        subprocess.run(["kill", "-9", str(child)], check=False, capture_output=True)
    last = told.splitlines()[-1]
    assert command.returncode == 2 and "Traceback" not in told, told[-2000:]
    if number == signal.SIGKILL:
        assert last.startswith(f"radz: process 2 of 2 of the run (process {child}) was killed by SIGKILL"), last
    else:
        assert last.startswith("radz: another process of the run is gone or silent ("), last


@pytest.mark.slow
@pytest.mark.fault(21)
def test_no_process_outlives_a_killed_command(tmp_path: Path, cache_dir: Path) -> None:
    command, child = two_processes(tmp_path, cache_dir)
    command.kill()
    command.wait()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the second process went on")


@pytest.mark.slow
@pytest.mark.fault(3)
def test_a_signal_stops_two_processes_between_two_steps(tmp_path: Path, cache_dir: Path) -> None:
    command, _ = two_processes(tmp_path, cache_dir)
    command.terminate()
    told = command.communicate(timeout=300)[1]
    assert command.returncode == 3 and told.splitlines()[-1].startswith("radz: stopped; repeat the command"), told[
        -5000:
    ]
    assert global_step(tmp_path / "run") > 0


def two_processes(tmp_path: Path, cache_dir: Path) -> tuple[subprocess.Popen[str], int]:
    """A running command on two processes that has logged a step, and its second process."""
    more = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.timeout_minutes=0.8", "trainer.max_epochs=9999"]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")}
    command = subprocess.Popen(
        [sys.executable, "-m", "radz", "train", "demo", *SMALL, *DROPOUT, f"cache_dir={cache_dir}",
         f"run_dir={tmp_path / 'run'}", *more],
        cwd=tmp_path, env={**environment, "OMP_NUM_THREADS": "1"}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    for _ in range(600):
        if (tmp_path / "run/metrics.csv").is_file() or command.poll() is not None:
            break
        time.sleep(0.3)
    assert command.poll() is None, command.communicate()[1][-2000:]
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    ranks = [int(c) for c in children if b"radz" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return command, ranks[0]
