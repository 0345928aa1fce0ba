"""P12: how long commands take that answer at once, beside the imports that a command line at the top level would do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks import common
from benchmarks.common import Result

IMPORTS = "import torch, lightning.pytorch, transformers, peft, torchmetrics, sklearn.metrics, pydicom"
PHANTOM = ["data.corpora.0.phantom.studies={train: 32, val: 8, test: 8}", "data.corpora.0.phantom.image_px=64"]
ROUNDS = 5


def run() -> Iterator[Result]:
    """Each in a fresh process, its files in the page cache."""
    with tempfile.TemporaryDirectory() as place:
        dry = ["train", "demo", "--dry-run", *PHANTOM, "scoring.headline=prompt", f"cache_dir={place}/cache"]
        for what, arguments in (
            ("radz --help", ["--help"]),
            ("radz train demo --print-config", ["train", "demo", "--print-config"]),
            ("radz train demo --dry-run, 48 studies, data cached", dry),
        ):
            _command([sys.executable, "-m", "radz", *arguments], place)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(common.seconds(lambda a=arguments: _command([sys.executable, "-m", "radz", *a], place)))
                theirs.append(common.seconds(lambda: _command([sys.executable, "-c", IMPORTS], place)))
            yield common.of_costs("P12", f"{what} against importing all libraries", "s", ours, theirs)


def _command(command: list[str], place: str) -> None:
    roots = [str(common.CHECKOUT / "src"), str(common.CHECKOUT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots))}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
