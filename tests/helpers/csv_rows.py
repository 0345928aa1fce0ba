"""The rows of a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path


def rows_of(path: Path) -> list[dict[str, str]]:
    """{column: cell} of every row."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))
