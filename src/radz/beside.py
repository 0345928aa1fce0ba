"""What stands in metrics.json beside the scores: subgroups, retrieval, cost, and the protocol in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_modules.base import StudyDataModule
from radz.config import Experiment
from radz.scoring.kept import Kept
from radz.scoring.retrieval import retrieval
from radz.scoring.samples import RULES
from radz.scoring.subgroups import UNKNOWN, age_bands, subgroups
from radz.scoring.table import ScoreTable
from radz.scoring.zero_shot import pair_similarity

NOT_PROTOCOL = ("pixel_baseline", "cases", "retrieval", "age_bands", "subgroup_least")
"""Keys of `scoring` that add numbers and change none."""


def protocol(experiment: Experiment, data: StudyDataModule, scored: Sequence[ScoreTable]) -> dict[str, Any]:
    """All that decides how scores and their metrics are made of features: corpora and splits, classes and their label
    policies, prompts, scorers, threshold rules, resampling, pixels."""
    settings = asdict(experiment.scoring)
    return {
        "scored": {table.key: list(table.findings) for table in scored},
        "scoring": {key: value for key, value in settings.items() if key not in NOT_PROTOCOL},
        "scorers": sorted({scorer for table in scored for scorer in table.scores}),
        "threshold_rules": list(RULES),
        "policies": [asdict(corpus.policy) for corpus in experiment.data.corpora],
        "pixels": data.recipe.settings(data.modalities),
    }


def digest(content: dict[str, Any]) -> str:
    """12 hex digits over a protocol."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def within_subgroups(
    experiment: Experiment, data: StudyDataModule, table: ScoreTable, headline: str, primary: Sequence[str]
) -> dict[str, Any]:
    """The headline scorer by sex, age band, view and whatever else the study table holds."""
    settings = experiment.scoring
    found = {}
    for name, column in data.table.attributes.items():
        values = [str(column[row]).strip() for row in table.rows]
        if name == "age":
            found["age"] = age_bands(values, settings.age_bands)
        else:
            found[name] = [value or UNKNOWN for value in values]
    return subgroups(
        table, headline, found, primary, settings.subgroup_least, settings.replicates, settings.seed
    )  # fmt: skip


def retrieved(experiment: Experiment, kept: Kept | None, table: ScoreTable) -> dict[str, Any] | None:
    """Retrieval among the studies of one table that have a report; None when fewer than two distinct reports."""
    part = kept.take(table.rows) if kept is not None else None
    if part is None or len(part.text.overall) < 2:
        return None
    place = {row: number for number, row in enumerate(table.rows.tolist())}
    patients = [table.patient[place[row]] for row in part.rows.tolist()]
    settings = experiment.scoring
    found = retrieval(
        part.image, part.text, part.owner, patients,
        lambda image, text: pair_similarity(image, text, settings.prompt_features, experiment.dfat),
        settings.replicates, settings.seed,
    )  # fmt: skip
    return {"features": settings.prompt_features, **found}


def cost(module: Any) -> dict[str, Any] | None:
    """Time from pixels on the device to scores, of this process; None for a module that takes no time."""
    timed = getattr(module, "timed", [])
    if not timed:
        return None
    # The first batch warms up: it counts only when it is alone.
    images, seconds = np.array(timed[1:] or timed).sum(axis=0)
    return {"images": int(images), "latency_ms_per_image": 1e3 * seconds / images, "device": str(module.device)}
