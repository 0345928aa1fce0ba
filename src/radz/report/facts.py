"""What the page says beside the scores: cost, subgroups and retrieval as lines and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from radz.report.forest import Bar
from radz.report.page import number, scalar


def read_config(run_dir: Path) -> dict[str, Any]:
    """config.yaml of a run; {} when it is missing or damaged, which the page says elsewhere."""
    path = run_dir / "config.yaml"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def cost(
    metrics: Mapping[str, Any], recorded: Mapping[str, Any], logged: Mapping[str, NDArray[np.float64]],
    config: Mapping[str, Any],
) -> list[tuple[str, str]]:  # fmt: skip
    """Throughput, hours, memory and latency, as far as the run has logged them."""
    found: list[tuple[str, str]] = []
    rate = logged.get("pairs_per_second", np.zeros(0))
    rate = rate[np.isfinite(rate) & (rate > 0)]
    if len(rate):
        found.append(("pairs per second, training, median", number(float(np.median(rate)), 1)))
        steps = np.nanmax(logged["step"])
        batch = config.get("data", {}).get("batch_size")
        if batch:
            pairs = steps * batch * config.get("trainer", {}).get("devices", 1)
            hours = pairs / np.median(rate) / 3600
            found.append(("hours of training steps (pairs / median rate)", number(float(hours), 3)))
    for key, words in (("peak_memory_gb", "peak memory of the process, GB"), ("peak_gpu_memory_gb", "of the GPU, GB")):
        if key in recorded:
            found.append((words, scalar(recorded[key])))
    if timed := metrics.get("cost"):
        words = f"latency per image on {timed['device']}, ms (all scorers, mean of {timed['images']:,} images)"
        found.append((words, number(timed["latency_ms_per_image"], 1)))
    return found


def subgroup_bars(subgroups: Mapping[str, Any]) -> dict[str, list[Bar]]:
    """Macro AUROC of each value, under its attribute."""
    return {
        attribute.replace("_", " "): [
            Bar(f"{value} ({one['rows']:,} rows)", "macro AUROC", **one["macro"]["auroc"]) for value, one in of.items()
        ]
        for attribute, of in subgroups.items()
    }


def small_cells(subgroups: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Attribute, value and what is not measured there, with reasons."""
    found = []
    for attribute, of in subgroups.items():
        for value, one in of.items():
            if one["small"]:
                reasons = "; ".join(f"{name.replace('_', ' ')}: {why}" for name, why in one["small"].items())
                found.append((attribute, value, reasons))
    return found


def retrieval_bars(retrieval: Mapping[str, Any] | None) -> dict[str, Sequence[Bar]]:
    """Recall in both directions, beside that of a random order."""
    if not retrieval:
        return {}
    found: dict[str, Sequence[Bar]] = {}
    for direction, title in (("image_to_report", "image to report"), ("report_to_image", "report to image")):
        bars = []
        for name, chance in retrieval[direction]["chance"].items():
            label = name.replace("recall_", "recall at ")
            bars += [Bar(label, "model", **retrieval[direction][name]), Bar(label, "random order", chance, None, None)]
        found[f"{title}, median rank {retrieval[direction]['median_rank']:.0f}"] = bars
    return found
