"""The reports of a corpus, and labels that are read from them (`labels: {from_report: rules}`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules import reports as texts
from data_modules.copied_text import garbled
from data_modules.corpus_config import FROM_REPORT, CorpusConfig
from data_modules.counting import counted
from data_modules.errors import InputError, nearest
from data_modules.findings import STATE_NAMES, UNMENTIONED, Ontology
from data_modules.labelling.many import Labels, label_many
from data_modules.labelling.selected import select
from data_modules.study import Text

log = logging.getLogger(__name__)


def read_reports(cells: Text, wanted: list[str], name: str) -> tuple[Text, Text]:
    """Return of the reports [R] of a corpus the training texts, and what labels are read from; equal ones once.

    UTF-8 that was decoded wrongly is mended and told.
    """
    codes, distinct = pd.factorize(cells)
    wrong = sum(map(garbled, cells)) if any(map(garbled, distinct)) else 0
    if wrong:
        log.warning(
            "%s: %s with UTF-8 that was read as another encoding (\u00c3\u00bc for \u00fc); mended where that is "
            "sure, but export the table anew as UTF-8", name, counted(wrong, "report"),
        )  # fmt: skip
    read = [(select(cell, wanted), texts.kept(cell)) for cell in distinct]  # both read the sections of `sections`
    selected, kept = (np.array([pair[part] for pair in read], dtype=object)[codes] for part in (0, 1))
    return selected, kept


def of_reports(
    config: CorpusConfig, reports: Text, ontology: Ontology, given: Sequence[str], name: str, key: str
) -> tuple[list[str], NDArray[np.int8]]:
    """Findings whose labels the reports give, and their states int8 [R, K].

    With `labels.from_report` these are all findings of which some report says that one is present; a finding that has
    a column of its own (`given`) keeps that.

    Raises:
        InputError: no report column, an unknown finding, or terms that are none.
    """
    if config.columns.report is None:
        raise InputError(f"{key}.labels.{FROM_REPORT}: needs {key}.columns.report, the column of the report text")
    for typed in (name for name in config.labels if name != FROM_REPORT and name not in ontology):
        raise InputError(f"{key}.labels.{typed}: unknown finding{nearest(typed, ontology.names)}")
    labels = label_many(reports, config.modality, config.findings, config.terms, key=f"{key}.terms")
    chosen = [ontology[typed].name for typed, rule in config.labels.items()
              if typed != FROM_REPORT and rule.from_report is not None]  # fmt: skip
    if FROM_REPORT in config.labels:
        taken = {ontology[finding].name for finding in given}
        seen = {finding for one in labels for finding, proof in one.items() if proof.state == "present"}
        chosen += [finding for finding in ontology.names
                   if finding in seen and finding not in taken and finding not in chosen]  # fmt: skip
        if both := sorted(taken & seen):
            log.info("%s: labels of %s come from their columns, not from the reports", name, ", ".join(both))
    states = _states(labels, chosen)
    empty = sum(not one for one in labels)
    log.info(
        "%s: labels of %d finding(s) are read from the reports by rules: %d times present, %d absent, %d in doubt; "
        "%d of %d report(s) say nothing of any", name, len(chosen),
        *((states == STATE_NAMES.index(state)).sum() for state in ("present", "absent", "uncertain")),
        empty, len(labels),
    )  # fmt: skip
    silent = [report for report, one in zip(reports, labels, strict=True) if not one and texts.clean(report)]
    if untold := sum(not texts.told(report) for report in silent):
        log.warning("%s: %d report(s) %s; every finding is unmentioned there", name, untold, texts.UNTOLD)
    if not chosen:
        raise InputError(
            f"{key}.labels.{FROM_REPORT}: no report speaks of a finding as present; columns.report must hold reports "
            "in English, German, French, Spanish, Italian or Portuguese"
        )
    return chosen, states


def _states(labels: Sequence[Labels], findings: Sequence[str]) -> NDArray[np.int8]:
    states = np.full((len(labels), len(findings)), UNMENTIONED, dtype=np.int8)
    place = {finding: k for k, finding in enumerate(findings)}
    for row, one in enumerate(labels):
        for finding, proof in one.items():
            if finding in place:
                states[row, place[finding]] = STATE_NAMES.index(proof.state)
    return states
