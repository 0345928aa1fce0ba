"""The verb evidence, behind `radz.cli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def evidence(run: str, keys: Sequence[str]) -> None:
    """`radz evidence RUN only=heatmaps,layers key=value ..`."""
    from radz.trainer import quiet

    quiet()
    from radz.evidence.verb import evidence as compute

    sys.stdout.write(f"{compute(Path(run).expanduser(), list(keys))}\n")
