"""Which scorer is the headline: as configured, or with `scoring.headline: validation` the best one on validation.

The choice is made once, with the best checkpoint, and never on test (docs/method.md 4). Whoever uses the run later
reads it from its metrics.json.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from data_modules.files import read_json
from radz.metrics.ranking import macro_auroc
from radz.metrics.results_file import AGAIN, headline_in
from radz.metrics.score_table import ScoreTable

log = logging.getLogger(__name__)
BY_VALIDATION = "validation"
MEANWHILE = "prompt"
"""scorer of the monitor until the choice is made, and the choice where validation cannot make one"""


def monitored(headline: str) -> str:
    """The scorer by which epochs are compared."""
    return MEANWHILE if headline == BY_VALIDATION else headline


def best_on_validation(tables: Sequence[ScoreTable], findings: Collection[str]) -> str:
    """The scorer of the highest `macro_auroc` on validation tables, one for each corpus, over `findings`.

    One that cannot score each of these findings is left out; the first of equals wins.
    """
    names = tables[0].findings if tables else ()
    columns = [column for column, name in enumerate(names) if name in findings]
    macro: dict[str, float] = {}
    for scorer in tables[0].scores if tables else ():
        labels, scores = (
            np.concatenate(parts)[:, columns]
            for parts in ([table.labels for table in tables], [table.scores[scorer] for table in tables])
        )
        value = macro_auroc(labels, scores, np.repeat(np.arange(len(tables)), [len(table) for table in tables]))
        if not math.isnan(value):
            macro[scorer] = value
    if not macro:
        log.warning(
            "scoring.headline=validation: validation has no finding of scoring.primary with both labels; %s is taken",
            MEANWHILE,
        )
        return MEANWHILE
    best = max(macro, key=lambda scorer: macro[scorer])
    listed = ", ".join(f"{scorer} {value:.3f}" for scorer, value in macro.items())
    log.info("headline scorer: %s, chosen by macro AUROC on validation (%s)", best, listed)
    return best


def chosen(headline: str, folder: Path) -> str:
    """The headline of a finished run: the choice that its metrics.json holds, else as configured."""
    file = folder / "metrics.json"
    if headline != BY_VALIDATION or not file.is_file():
        return monitored(headline)
    return headline_in(read_json(file, AGAIN) or {}, folder)
