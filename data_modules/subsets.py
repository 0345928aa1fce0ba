"""Other views of a study table: fewer studies, and pairs torn apart as a negative control."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from data_modules.corpus_config import SPLITS
from data_modules.study import StudyTable, offsets

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


def fraction_of_patients(table: StudyTable, share: float, seed: int) -> StudyTable:
    """Keep a share of the training patients of each corpus, at least one, and all of their training studies.

    Corpora that share their patients count as one. Patients stand in an order of their own for each seed, made of
    hashes of seed, corpus (or shared name) and patient, and the first are kept: what a smaller share keeps, a larger
    one keeps too, and other patients or another order of the table change nothing in it.
    """
    if share == 1:
        return table
    kept = np.ones(len(table), dtype=bool)
    numberings = np.array(table.numberings, dtype=object)
    for name in dict.fromkeys(table.numberings):
        rows = np.flatnonzero((table.split == "train") & (numberings[table.corpus] == name))
        patients = sorted(set(table.patient[rows]), key=lambda patient: rank(seed, name, patient))
        chosen = set(patients[: max(1, round(share * len(patients)))])
        kept[rows] = [patient in chosen for patient in table.patient[rows]]
        log.info("data.fraction=%g: %d of %d training patients of %s", share, len(chosen), len(patients), name)
    return table.take(np.flatnonzero(kept))


def rank(seed: int, corpus: str, patient: str) -> tuple[bytes, str]:
    """Return what sorts the patients of a corpus, or shared name, for a seed; the number settles equal hashes."""
    return hashlib.blake2b(f"{seed}\0{corpus}\0{patient}".encode(), digest_size=16).digest(), patient


def by_image(table: StudyTable, splits: Collection[str]) -> StudyTable:
    """Return the table with every image of these splits as a row of its own, under its study's labels and report."""
    counts = np.where(np.isin(table.split, list(splits)), np.diff(table.image_offsets), 1)
    rows = np.repeat(np.arange(len(table)), counts)
    images = np.where(np.isin(table.split, list(splits)), 1, np.diff(table.image_offsets))[rows]
    each = table.take(rows)
    # `take` repeats all images of a study; here they are dealt out, in order, which leaves the list as it was.
    return replace(
        each, image_paths=table.image_paths, image_ids=table.image_ids, image_views=table.image_views,
        rescale=table.rescale, image_offsets=offsets(images),
    )  # fmt: skip


def shuffled(table: StudyTable, seed: int) -> StudyTable:
    """Return the table with reports and labels together permuted against the images, inside each corpus and split."""
    source = np.arange(len(table))
    for c, corpus in enumerate(table.corpora):
        for s, split in enumerate(SPLITS):
            rows = table.rows(split, corpus)
            source[rows] = np.random.default_rng([seed, c, s]).permutation(rows)
    log.warning("data.shuffle_pairs: reports and labels no longer belong to their images (negative control)")
    reports, told = ([texts[i] for i in source] for texts in (table.reports, table.told))
    return replace(table, reports=reports, told=told, states=table.states[source])
