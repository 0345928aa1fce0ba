"""Which labels a model doubts: out-of-fold probabilities, and confident learning (Northcutt et al., arXiv 1911.00068).

Sizes: N studies, P features, K findings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
STRENGTH = 0.01
"""C of the regressions: weak, so that a wrong label does not bend them"""
Scores = NDArray[np.float64]


def out_of_fold(features: NDArray[np.float32], labels: Scores, groups: Sequence[object]) -> Scores:
    """Probabilities [N, K] of every study by regressions that saw none of its group, such as its patient.

    Args:
        features: [N, P].
        labels: [N, K], 1, 0 or NaN. A finding with fewer than FOLDS groups of either label has NaN throughout.
    """
    found = np.full(labels.shape, np.nan)
    of = np.asarray(groups)
    for k in range(labels.shape[1]):
        known = np.flatnonzero(~np.isnan(labels[:, k]))
        given = labels[known, k].astype(int)
        if min((len(np.unique(of[known[given == label]])) for label in (0, 1)), default=0) < FOLDS:
            continue
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        for train, held in folds.split(known, given, of[known]):
            if len(np.unique(given[train])) < 2:
                continue
            model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
            model.fit(features[known[train]], given[train])
            found[known[held], k] = model.predict_proba(features[known[held]])[:, 1]
    return found


def suspicion(probabilities: Scores, labels: Scores) -> tuple[Scores, NDArray[np.bool_]]:
    """How far each label [N, K] is doubted, and which are off by confident learning; NaN and False where unknown.

    Of each class, the mean probability of those that are labelled so is what is expected of it. Suspicion is how far
    the other class is above what is expected of it, less the same of the class that is given; a label is off where the
    other class reaches what is expected of it and is the likelier of the two on that scale.
    """
    doubts = np.full(labels.shape, np.nan)
    off = np.zeros(labels.shape, dtype=bool)
    for k in range(labels.shape[1]):
        p, given = probabilities[:, k], labels[:, k]
        known = ~np.isnan(p) & ~np.isnan(given)
        present, absent = known & (given == 1), known & (given == 0)
        if not present.any() or not absent.any():
            continue
        margin = (p - p[present].mean()) - ((1 - p) - (1 - p[absent]).mean())  # above 0: rather present
        doubts[absent, k], doubts[present, k] = margin[absent], -margin[present]
        off[:, k] = np.where(given == 1, 1 - p >= (1 - p[absent]).mean(), p >= p[present].mean()) & (doubts[:, k] > 0)
        off[~known, k] = False
    return doubts, off
