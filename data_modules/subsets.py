"""Other views of a study table: fewer studies, and pairs torn apart as a negative control."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from data_modules.corpus_config import SPLITS
from data_modules.study import StudyTable

log = logging.getLogger(__name__)


def limited(table: StudyTable, limits: dict[str, int | None], seed: int) -> StudyTable:
    """Keep at most so many studies per split and corpus, drawn by the seed, in table order."""
    kept = []
    for c, corpus in enumerate(table.corpora):
        for s, (split, limit) in enumerate(limits.items()):
            rows = table.rows(split, corpus)
            if limit is not None and limit < len(rows):
                rows = np.random.default_rng([seed, c, s]).choice(rows, limit, replace=False)
            kept.append(rows)
    rows = np.sort(np.concatenate(kept))
    return table if len(rows) == len(table) else table.take(rows)


def shuffled(table: StudyTable, seed: int) -> StudyTable:
    """Return the table with reports and labels together permuted against the images, inside each corpus and split."""
    source = np.arange(len(table))
    for c, corpus in enumerate(table.corpora):
        for s, split in enumerate(SPLITS):
            rows = table.rows(split, corpus)
            source[rows] = np.random.default_rng([seed, c, s]).permutation(rows)
    log.warning("data.shuffle_pairs: reports and labels no longer belong to their images (negative control)")
    return replace(table, reports=[table.reports[i] for i in source], states=table.states[source])
