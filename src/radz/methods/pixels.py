"""Pixel baseline: one logistic regression per finding on 32 x 32 pixels. What it reaches is no credit to a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radz.methods import logistic_regression

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
    val_corpus: NDArray[np.integer],
    test_pixels: Pixels,
    strengths: Sequence[float] = STRENGTHS,
) -> Scores:
    """Fit on training, choose one C for all findings by macro AUROC on validation, score the test images.

    Args:
        train_pixels, val_pixels, test_pixels: uint8 [N, S, S], any S; averaged down to 32 x 32.
        train_labels, val_labels: float32 [N, K], 1 present, 0 absent, NaN unknown (left out).
        val_corpus: [N], number of the corpus of each study.
        strengths: values of C to choose from.

    Returns:
        Probabilities float32 [T, K]; a column of NaN for a finding without both labels in training.
    """
    train, val, test = (_shrink(pixels) for pixels in (train_pixels, val_pixels, test_pixels))
    held = val, val_labels, val_corpus
    return logistic_regression.fit(train, train_labels, held, strengths, FALLBACK, "pixel baseline").scores(test)


def _shrink(pixels: Pixels) -> Scores:
    """uint8 [N, S, S] -> float32 [N, 1024] in grey levels, each value the mean of its area."""
    small = np.zeros((len(pixels), SIDE * SIDE), np.float32)
    for row, image in enumerate(pixels):
        small[row] = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()
    return small
