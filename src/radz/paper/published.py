"""Numbers of the literature and of the authors' logs, with their sources (published.csv beside this file)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

FILE = Path(__file__).parent / "published.csv"
METRICS = {"auroc": "AUROC", "f1_oracle": "F1 at the best threshold on test", "accuracy_oracle": "accuracy there"}


def published(datasets: Sequence[str]) -> pd.DataFrame:
    """All rows of these data sets: method, variant, dataset, classes, metric, value, source, note."""
    frame = pd.read_csv(FILE, dtype=str, keep_default_na=False)
    frame["value"] = frame.value.astype(float)
    return frame[frame.dataset.isin(datasets)]


def side_by_side(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One line per method and variant, one column per data set and its classes; NaN where nothing was published."""
    chosen = frame[frame.metric == metric]
    columns = chosen.dataset + (", " + chosen.classes).where(chosen.classes != "", "")
    table = chosen.assign(column=columns).pivot_table("value", ["method", "variant"], "column", aggfunc="first")
    return table.sort_index(axis=0).sort_index(axis=1)
