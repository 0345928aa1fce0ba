"""Patients to splits, where no table says so."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from data_modules.corpus_config import SPLITS, CorpusConfig, SplitFractions
from data_modules.study import Text


def split_patients(
    patients: Text | pd.Series, config: CorpusConfig, fractions: SplitFractions | None = None
) -> Text:  # fmt: skip
    """Return the split of each of these patients [R] by `split_fractions` (or `fractions`) and `split_seed`.

    Patients are ordered by a seeded hash, so that the order of the rows does not matter. Where other corpora have the
    same patients, the hash alone decides, so that a patient falls into one split in all of them.
    """
    fractions, key = fractions or config.split_fractions, config.split_seed.to_bytes(8, "little")
    digests = {p: hashlib.blake2b(p.encode(), key=key).digest() for p in set(patients)}
    shares = np.cumsum([getattr(fractions, split) for split in SPLITS])
    order = sorted(digests, key=digests.__getitem__)
    if config.shares_patients:
        ends = shares * 256.0**8
        at = np.array([int.from_bytes(digests[patient][:8]) for patient in order], dtype=float)
    else:
        ends, at = np.rint(shares * len(order)), np.arange(len(order), dtype=float)
    chosen = np.searchsorted(ends, at, side="right").clip(max=len(SPLITS) - 1)
    split = {patient: SPLITS[k] for patient, k in zip(order, chosen, strict=True)}
    return np.array([split[patient] for patient in patients], dtype=object)
