"""metrics.csv: one row per logged step, appended, so that a resumed run continues its own file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from data_modules.files import read_rows, replacing


class CsvLog(Logger):
    """Writes every logged metric to `path`. Lightning's own CSV logger deletes the file of an earlier attempt."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {int(row["step"]): row for row in read_rows(path)}

    @property
    def name(self) -> str:
        """Name of the log."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one log per run folder."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Merge into the row of `step`; a repeated step (after a resume) is overwritten."""
        row = self.rows.setdefault(int(step or 0), {})
        row.update(metrics)
        if "epoch" in row:
            row["epoch"] = int(float(row["epoch"]))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Settings stand in config.yaml."""

    @rank_zero_only
    def cut_from(self, step: int) -> None:
        """Forget the rows from `step` on, which a resume will write again."""
        self.rows = {key: row for key, row in self.rows.items() if key < step}

    @rank_zero_only
    def save(self) -> None:
        """Write the file as a whole, atomically."""
        first = ["epoch", "train/loss", "train/loss_alignment", "train/loss_category", "val/auroc_macro", "lr"]
        keys = {key for row in self.rows.values() for key in row} - {"step"}
        header = ["step", *(key for key in first if key in keys), *sorted(keys - set(first))]
        with replacing(self.path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            for step in sorted(self.rows):
                writer.writerow({"step": step, **self.rows[step]})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()
