"""Many reports: each distinct one once, in several processes where there are many, always with the same result."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from data_modules.findings import ontology
from data_modules.labelling.labeller import Labeller, Proof
from data_modules.parsing import parse_json
from data_modules.progress import Bar
from data_modules.study import Text
from data_modules.workers import crew

TOGETHER = 500
"""reports of one task"""
FEW = 5_000
"""reports from which on further processes pay for their start"""

Labels = dict[str, Proof]
_Task = tuple[str, str, list[str]]


def label_many(
    reports: Text, modality: str, own: Mapping[str, Any] | None = None, terms: Mapping[str, Any] | None = None,
    processes: int | None = None, key: str = "terms",
) -> list[Labels]:  # fmt: skip
    """The labels of reports [N].

    Args:
        own: findings outside the ontology, as `CorpusConfig.findings` has them.
        terms: further terms, as `CorpusConfig.terms` has them; `key` names them in error texts.
        processes: by default as many as there are processors, for more than FEW distinct reports.
    """
    codes, distinct = pd.factorize(reports)
    spec = json.dumps([own or {}, terms or {}, key], sort_keys=True)
    _labeller(modality, spec)  # a fault of the terms is told here, not by a process
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if len(distinct) > FEW and hasattr(os, "sched_getaffinity") else 0
    parts = [list(distinct[start : start + TOGETHER]) for start in range(0, len(distinct), TOGETHER)]
    found: list[Labels] = []
    with (
        Bar(total=len(distinct), desc="labels from reports", unit="report", disable=len(distinct) < FEW) as bar,
        crew(_label, processes, lambda task: f"{len(task[2])} reports") as done,
    ):
        for part in done([(modality, spec, part) for part in parts]):
            found += part
            bar.update(len(part))
    return [found[code] for code in codes]


def _label(task: _Task) -> list[Labels]:
    modality, spec, reports = task
    labeller = _labeller(modality, spec)
    return [labeller.label(report) for report in reports]


@cache
def _labeller(modality: str, spec: str) -> Labeller:
    own, terms, key = parse_json(spec)
    return Labeller(modality, ontology().extended(own, "findings", "table"), terms, key)


def counts(labels: Sequence[Labels], findings: Sequence[str]) -> pd.DataFrame:
    """Reports per finding and state; the index is `findings`."""
    states = ("present", "uncertain", "absent")
    table = np.array([[sum(one[name].state == state for one in labels if name in one) for state in states]
                      for name in findings]).reshape(len(findings), len(states))  # fmt: skip
    frame = pd.DataFrame(table, index=list(findings), columns=list(states))
    frame["unmentioned"] = len(labels) - frame.sum(axis=1)
    return frame
