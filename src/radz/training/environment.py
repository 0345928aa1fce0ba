"""What a run ran on: package versions, git revision, hardware, digests."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from data_modules.errors import InputError

PACKAGES = (
    "radz", "torch", "lightning", "transformers", "peft", "torchmetrics", "numpy", "pandas", "scikit-learn", "pydicom",
    "pillow", "omegaconf", "safetensors", "wandb",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions, revision and hardware."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {**software(), "threads": torch.get_num_threads(), "gpus": gpus}


@cache
def _threads_of_process() -> int:
    import torch

    return torch.get_num_threads()


def set_threads(tiny: bool) -> None:
    """One thread for a tiny backbone, those of the process for another; OMP_NUM_THREADS, where it is set, for all.

    Tensors of a tiny backbone are so small that threads mostly wait for each other, and on a busy machine for longer
    than they work: docs/results.md, "Threads".
    """
    import torch

    given = _threads_of_process()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1 if tiny else given)


def software() -> dict[str, Any]:
    """Versions, revision and machine, without a look at its GPUs, which takes torch."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_revision": _revision(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": processor(),
    }


def processor() -> str:
    """Name, family, model and stepping of the processor, which decide how sums are rounded."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return " ".join(told[key] for key in ("model name", "cpu family", "model", "stepping") if key in told)


def peak_memory_gb() -> dict[str, float]:
    """Largest resident size of this process so far, and largest GPU allocation, in 1e9 bytes."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    peaks = {"peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if torch.cuda.is_available():
        peaks["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return {name: round(size, 2) for name, size in peaks.items()}


def usable_device(device: str | None) -> str:
    """The device that was asked for, or the first GPU where there is one; InputError for one that is not there."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        return "cuda" if gpus else "cpu"
    try:
        place = torch.device(device)
    except RuntimeError:
        raise InputError(f"device={device}: is none; use cpu, cuda or cuda:N") from None
    if place.type not in ("cpu", "cuda"):
        raise InputError(f"device={device}: use cpu, cuda or cuda:N")
    if place.type == "cuda" and (place.index or 0) >= gpus:
        raise InputError(f"device={device}: {gpus} GPU(s) are visible; use cpu or another number")
    return device


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """Revision of the checkout this code runs from, with a mark when it has been changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
