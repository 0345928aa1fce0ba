"""One logistic regression per finding on given features, its strength chosen on validation.

Sizes: N studies, P features, K findings.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radz.metrics.ranking import macro_auroc, undefined_reason

logger = logging.getLogger(__name__)
Scores = NDArray[np.float32]
Validation = tuple[NDArray[Any], Scores, NDArray[np.integer]]
"""features [N, P], labels [N, K], 1 present, 0 absent, NaN unknown, and the number of the corpus of each study [N]"""
ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""share of its size by which a feature that is constant may move"""
NOISE = 1e-6
"""share of the largest deviation of a feature up to which another's is noise"""


@dataclass
class Linear:
    """Fitted regressions on standardised features."""

    weights: Scores
    """[K, P]; rows of NaN for findings without both labels in training"""
    bias: Scores
    """[K]"""
    mean: Scores
    """[P]"""
    spread: Scores
    """[P], 1 where a feature is constant"""
    strength: float
    """the C that was chosen"""

    def scores(self, features: NDArray[Any]) -> Scores:
        """Probabilities float32 [N, K] of features [N, P]; NaN columns where nothing could be fitted."""
        return _scores(_standard(features, self.mean, self.spread), self.weights, self.bias)


def fit(
    train: NDArray[Any], labels: Scores, val: Validation | None, strengths: Sequence[float], fallback: float, name: str
) -> Linear:  # fmt: skip
    """Fit on training, choose one C for all findings by macro AUROC on validation, over corpora and findings.

    Args:
        train: [N, P].
        labels: float32 [N, K], 1 present, 0 absent, NaN unknown (left out).
        val: None where there is one strength, so that nothing is chosen.
        fallback: the C nearest to it is taken when validation cannot choose.
        name: how the log calls the baseline.
    """
    assert len(train) == len(labels)
    columns = range(labels.shape[1])
    fitted = [k for k in columns if undefined_reason(labels[:, k]) is None]
    if len(fitted) < len(columns):
        left_out = len(columns) - len(fitted)
        logger.warning("%s: %d finding(s) lack one of the two labels in training; not scored", name, left_out)
    mean, spread = mean_and_spread(train)
    standard = _standard(train, mean, spread)
    weights = np.full((len(strengths), len(columns), train.shape[1]), np.nan, np.float32)
    bias = np.full((len(strengths), len(columns)), np.nan, np.float32)
    for k in fitted:
        known = ~np.isnan(labels[:, k])
        _fit_path(standard[known], labels[known, k], strengths, weights[:, k], bias[:, k])
    best = 0
    if fitted and len(strengths) > 1:
        assert val is not None
        seen = _standard(val[0], mean, spread)
        found = np.stack([_scores(seen, w, b) for w, b in zip(weights, bias, strict=True)])
        best = _choose(found, val[1], val[2], strengths, fallback, name)
    return Linear(weights[best], bias[best], mean.astype(np.float32), spread, float(strengths[best]))


def mean_and_spread(train: NDArray[Any]) -> tuple[NDArray[Any], Scores]:
    """Of features [N, P], the mean and the standard deviation [P] each; 1 in place of that of a constant one."""
    low, high, spread = train.min(0), train.max(0), train.std(0)
    # By the range: the deviation of equal fractions is what their sum was rounded by, and 0 by chance.
    constant = high - low <= ROUNDING * np.maximum(np.abs(low), np.abs(high))
    # Noise about 0 beside other features is no feature either.
    constant |= spread <= NOISE * spread.max(where=~constant, initial=0)
    return train.mean(0), np.where(constant, 1.0, spread).astype(np.float32)


def _standard(features: NDArray[Any], mean: NDArray[Any], spread: NDArray[Any]) -> Scores:
    standard: Scores = ((features - mean) / spread).astype(np.float32)
    return standard


def _scores(standard: Scores, weights: Scores, bias: Scores) -> Scores:
    from scipy.special import expit

    found: Scores = expit(standard.astype(np.float64) @ weights.T.astype(np.float64) + bias).astype(np.float32)
    return found


def _fit_path(x: Scores, y: Scores, strengths: Sequence[float], weights: Scores, bias: Scores) -> None:
    """Fit one finding for every C; row c of `weights` [C, P] and `bias` [C] are filled."""
    from sklearn.linear_model import LogisticRegression  # slow to import, and only baselines need it
    from threadpoolctl import threadpool_limits

    # From strong to weak regularisation each fit starts at the last one; float32 halves the time (11 x 2,400: 8 s).
    model = LogisticRegression(solver="lbfgs", max_iter=500, warm_start=True)
    # Products this small gain nothing from threads, and on a busy machine waiting for each other costs fifty times.
    with threadpool_limits(1):
        for c in np.argsort(strengths):
            model.set_params(C=strengths[c]).fit(x, y)
            weights[c], bias[c] = model.coef_[0], model.intercept_[0]


def _choose(
    scores: Scores, labels: Scores, corpus: NDArray[np.integer], strengths: Sequence[float], fallback: float, name: str
) -> int:
    """Index of the C with the best macro AUROC on validation; the strongest regularisation wins a tie."""
    order = [int(c) for c in np.argsort(strengths)]
    usable = ~np.isnan(scores[0]).any(0)
    macro = {c: macro_auroc(labels[:, usable], scores[c][:, usable], corpus) for c in order}
    if np.isnan(macro[order[0]]):
        chosen = min(order, key=lambda c: abs(np.log(strengths[c] / fallback)))
        logger.warning("%s: no finding has both labels in validation; C = %g, not tuned", name, strengths[chosen])
        return chosen
    best = max(order, key=lambda c: macro[c])  # max keeps the first of equals
    logger.info("%s: C = %g, validation macro AUROC %.3f", name, strengths[best], macro[best])
    return best
