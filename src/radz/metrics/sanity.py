"""Sanity checks before a score is believed: blank image, shuffled images, swapped prompts, priors without any image.

A score that a blank image reaches owes nothing to the image; one that the prompts of other findings reach owes nothing
to the prompt. Shapes: N scored rows, C findings, B rows scored anew with a blank image.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.datamodule import StudyDataModule
from data_modules.files import write_json
from radz.metrics.ranking import auroc
from radz.metrics.score_table import ScoreTable

log = logging.getLogger(__name__)
Array = NDArray[np.float32]

BLANK_ROWS = 256
"""studies of each corpus that are scored with a blank image"""
SHUFFLES = 50
SAME = 0.01
"""differences of blank scores below this share of the spread of real scores count as none: they come from rounding"""


def macro(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean AUROC of [N, C] over the findings with both labels; NaN without any."""
    values = [auroc(labels[:, k], scores[:, k]) for k in range(labels.shape[1])]
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def swapped(scores: Array, labels: Array) -> float:
    """Macro AUROC when each finding is read from the prompt of another one: the mean over all others. NaN if C < 2."""
    count = labels.shape[1]
    shifts = [macro(np.roll(scores, shift, axis=1), labels) for shift in range(1, count)]
    return float(np.mean(shifts)) if shifts else math.nan


def checks(
    scores: Array, labels: Array, blank: Array, blank_labels: Array, prior: Array | None, seed: int
) -> dict[str, Any]:
    """All checks of one scorer.

    Args:
        scores, labels: [N, C]; labels 1, 0 or NaN.
        blank, blank_labels: [B, C], studies scored with a blank image in place of theirs, and their labels.
        prior: [C], share of training studies with the finding; None without training studies.
        seed: of the shuffling.

    Returns:
        `macro`, `blank` and `swapped`: macro AUROC as it is, with blank images, with swapped prompts; `shuffled`: mean
        and 95 % range with images permuted over the studies; `pooled`: AUROC over all pairs of study and finding at
        once; `pooled_text_prior` and `pooled_label_prior`: the same from the mean blank score of each finding, and from
        its share in training, both without any image. None where undefined.
    """
    # Whole rows are permuted, so that scores of one image stay together as they do in the data.
    generator = np.random.default_rng(seed)
    drawn = [macro(scores[generator.permutation(len(scores))], labels) for _ in range(SHUFFLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])

    def pooled(values: NDArray[Any]) -> float:
        return auroc(labels.ravel(), np.broadcast_to(values, labels.shape).ravel())

    values = {
        "macro": macro(scores, labels),
        "blank": macro(np.where(np.abs(blank - blank[:1]) <= SAME * scores.std(0), blank[:1], blank), blank_labels),
        "swapped": swapped(scores, labels),
        "pooled": pooled(scores),
        "pooled_text_prior": pooled(blank.mean(0)),
        "pooled_label_prior": math.nan if prior is None else pooled(prior),
    }
    shuffled = {"value": float(np.mean(drawn)), "low": float(low), "high": float(high)}
    return {
        **{name: _or_none(value) for name, value in values.items()},
        "shuffled": {name: _or_none(value) for name, value in shuffled.items()},
    }


def warnings(checked: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the macro AUROC of `checks`; empty when nothing speaks against it."""
    said: list[str] = []
    value = checked["macro"]
    if value is None:
        return said
    if checked["shuffled"]["high"] is not None and value <= checked["shuffled"]["high"]:
        said.append("no better than with shuffled images")
    if checked["swapped"] is not None and value <= checked["swapped"]:
        said.append("prompts of other findings do as well")
    if checked["blank"] is not None and abs(checked["blank"] - 0.5) > 0.02:
        said.append("blank images are ranked, so something other than the image enters the score")
    return said


def blank_rows(data: StudyDataModule) -> NDArray[np.int64]:
    """Test rows to be scored with a blank image: at most BLANK_ROWS of each corpus, evenly spaced."""
    chosen = []
    for corpus in data.table.corpora:
        rows = data.table.rows("test", corpus)
        if len(rows):
            chosen.append(rows[np.unique(np.linspace(0, len(rows) - 1, BLANK_ROWS).round().astype(int))])
    return np.concatenate(chosen)


def record(
    metrics: dict[str, Any], data: StudyDataModule, tables: Sequence[ScoreTable], blank: Sequence[ScoreTable],
    headline: str, seed: int, run_dir: Path,
) -> None:  # fmt: skip
    """Add `sanity` (the checks of the headline scorer over its primary findings) to each entry of metrics.json."""
    train = data.loss_labels(data.table.rows("train"))
    # A finding without any known training label has no prior of its own and counts as even.
    known = (~np.isnan(train)).sum(0)
    share = np.where(known > 0, np.nansum(train, axis=0) / np.maximum(known, 1), 0.5).astype(np.float32)
    others = {table.key: table for table in blank}
    for table in tables:
        entry = metrics["results"][table.key]
        scored = entry["scorers"][headline]["findings"]
        names = [name for name in entry["primary"] if name in scored]
        if not names:
            continue
        columns, without = [table.findings.index(name) for name in names], others[table.key]
        prior = share[[data.findings.index(name) for name in names]] if len(train) else None
        why = entry["scorers"][headline].get("not_pooled")
        checked = checks(
            table.scores[headline][:, columns], table.labels[:, columns],
            without.scores[headline][:, columns], without.labels[:, columns], prior, seed,
        )  # fmt: skip
        checked |= {"pooled": None, "pooled_text_prior": None, "not_pooled": why} if why else {}
        entry["sanity"] = {"scorer": headline, "findings": names, **checked, "warnings": warnings(checked)}
        for text in entry["sanity"]["warnings"]:
            log.warning("sanity of %s on %s: %s", headline, table.key, text)
    write_json(run_dir / "metrics.json", metrics)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
