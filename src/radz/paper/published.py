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


def by_set(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{data set: one line per method, variant and classes, one column per metric}; NaN where nothing was published."""
    keys = ["method", "variant", "classes"]
    return {
        str(name): part.pivot_table("value", keys, "metric", aggfunc="first")
        .reindex(columns=list(METRICS))
        .sort_index()
        for name, part in frame.groupby("dataset")
    }
