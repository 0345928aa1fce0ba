"""What a run ran on: package versions, git revision, hardware, digests."""

from __future__ import annotations

import hashlib
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "radz", "torch", "lightning", "transformers", "peft", "torchmetrics", "numpy", "pandas", "scikit-learn", "pydicom",
    "pillow", "omegaconf", "safetensors", "wandb",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions, revision and hardware."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_revision": _revision(),
        "system": platform.system(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def peak_memory_gb() -> dict[str, float]:
    """Largest resident size of this process so far, and largest GPU allocation, in 1e9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)}
    if torch.cuda.is_available():
        found["peak_gpu_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return found


def folder_digest(folder: Path, token_ids: list[int]) -> str:
    """12 hex digits over the weights and tokenizer files of a backbone folder and the modality token ids."""
    digest = hashlib.blake2b(str(token_ids).encode(), digest_size=6)
    files = [*folder.glob("*.safetensors"), *folder.glob("tokenizer.*"), *folder.glob("config.json")]
    for file in sorted(files):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


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
