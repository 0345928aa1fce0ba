"""Pixel baseline: one logistic regression per finding on 32 x 32 pixels. What it reaches is no credit to a network."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

logger = logging.getLogger(__name__)

SIDE = 32
STRENGTHS = (0.003, 0.01, 0.03, 0.1)
"""Inverse regularisation strengths C, for standardised pixels."""
FALLBACK = 0.01
"""C when validation cannot choose (no finding there has both labels)."""

Pixels = NDArray[np.uint8]
Scores = NDArray[np.float32]


def fit_predict(
    train_pixels: Pixels,
    train_labels: Scores,
    val_pixels: Pixels,
    val_labels: Scores,
    test_pixels: Pixels,
    strengths: Sequence[float] = STRENGTHS,
) -> Scores:
    """Fit on training, choose one C for all findings by macro AUROC on validation, score the test images.

    Args:
        train_pixels, val_pixels, test_pixels: uint8 [N, S, S], any S; averaged down to 32 x 32.
        train_labels, val_labels: float32 [N, K], 1 present, 0 absent, NaN unknown (left out).
        strengths: values of C to choose from.

    Returns:
        Probabilities float32 [T, K]; a column of NaN for a finding without both labels in training.
    """
    assert len(train_pixels) == len(train_labels) and len(val_pixels) == len(val_labels)
    fitted = [k for k in range(train_labels.shape[1]) if _both(train_labels[:, k])]
    if len(fitted) < train_labels.shape[1]:
        left_out = train_labels.shape[1] - len(fitted)
        logger.warning("pixel baseline: %d finding(s) lack one of the two labels in training; not scored", left_out)
    if not fitted:
        return np.full((len(test_pixels), train_labels.shape[1]), np.nan, np.float32)
    train, val, test = (_shrink(pixels) for pixels in (train_pixels, val_pixels, test_pixels))
    mean, spread = train.mean(0), train.std(0)
    spread[spread == 0] = 1.0  # collimated corners are constant
    train, val, test = ((pixels - mean) / spread for pixels in (train, val, test))

    # Every C is scored on both sets while its fit is at hand: a fit costs more than scoring.
    val_scores = np.full((len(strengths), len(val), train_labels.shape[1]), np.nan, np.float32)
    test_scores = np.full((len(strengths), len(test), train_labels.shape[1]), np.nan, np.float32)
    for k in fitted:
        known = ~np.isnan(train_labels[:, k])
        targets = (val, val_scores[..., k]), (test, test_scores[..., k])
        _fit_path(train[known], train_labels[known, k], strengths, *targets)
    best = _choose(val_scores, val_labels, strengths)
    return test_scores[best]


def _fit_path(x: Scores, y: Scores, strengths: Sequence[float], *targets: tuple[Scores, Scores]) -> None:
    """Fit one finding for every C and write its probabilities into row c of each (pixels [N, P], scores [C, N])."""
    from sklearn.linear_model import LogisticRegression  # slow to import, and only this baseline needs it
    from threadpoolctl import threadpool_limits

    # From strong to weak regularisation each fit starts at the last one; float32 halves the time (11 x 2,400: 8 s).
    model = LogisticRegression(solver="lbfgs", max_iter=500, warm_start=True)
    # Products this small gain nothing from threads, and on a busy machine waiting for each other costs fifty times.
    with threadpool_limits(1):
        for c in np.argsort(strengths):
            model.set_params(C=strengths[c]).fit(x, y)
            for pixels, scores in targets:
                if len(pixels):
                    scores[c] = model.predict_proba(pixels)[:, 1]


def _choose(scores: Scores, labels: Scores, strengths: Sequence[float]) -> int:
    """Index of the C with the best macro AUROC on validation; the strongest regularisation wins a tie."""
    from sklearn.metrics import roc_auc_score

    usable = [k for k in range(labels.shape[1]) if _both(labels[:, k]) and not np.isnan(scores[0, :, k]).any()]
    order = [int(c) for c in np.argsort(strengths)]
    if not usable:
        chosen = min(order, key=lambda c: abs(np.log(strengths[c] / FALLBACK)))
        logger.warning("pixel baseline: no finding has both labels in validation; C = %g, not tuned", strengths[chosen])
        return chosen
    macro: dict[int, float] = {}
    for c in order:
        known = ((k, ~np.isnan(labels[:, k])) for k in usable)
        macro[c] = float(np.mean([roc_auc_score(labels[rows, k], scores[c, rows, k]) for k, rows in known]))
    best = max(order, key=lambda c: macro[c])  # max keeps the first of equals
    logger.info("pixel baseline: C = %g, validation macro AUROC %.3f", strengths[best], macro[best])
    return best


def _both(labels: Scores) -> bool:
    """Whether a column [N] holds at least one 1 and one 0."""
    return bool((labels == 1).any() and (labels == 0).any())


def _shrink(pixels: Pixels) -> Scores:
    """uint8 [N, S, S] -> float32 [N, 1024] in grey levels, each value the mean of its area."""
    small = np.zeros((len(pixels), SIDE * SIDE), np.float32)
    for row, image in enumerate(pixels):
        small[row] = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()
    return small
