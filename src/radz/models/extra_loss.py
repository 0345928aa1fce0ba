"""What a loss is that `DFAT` adds to alignment and category loss, under a weight of its own (docs/method.md 3.5).

It encodes what it needs of a batch inside the autocast of the step, and is computed outside it, in at least fp32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from data_modules.batch import StudyBatch
from radz.models.encoder import Encoder
from radz.models.losses import Features

SEEDS_APART = 1_000_000_007
"""between the draws of two seeds: odd, since torch reads the lower 32 bits alone, and more than a run has steps"""


@dataclass
class Given:
    """A training step of B studies, before anything is encoded."""

    step: int
    batch: StudyBatch
    texts: Sequence[str]
    """B texts as training reads them, empty where a study has none"""
    modalities: Sequence[str]
    """B keys of MODALITY_TEXT"""
    seed: int = 0
    """of the run"""

    @property
    def draw(self) -> int:
        """The number that random draws of this step begin with, the same on every rank."""
        return self.step + self.seed * SEEDS_APART


@dataclass
class Encoded:
    """The same step with what alignment and category loss are made of; features less their means."""

    image: Features
    text: Features
    usable: Tensor
    """bool [B], studies that have a text"""
    anchors: Tensor
    """[K, e] or sets [K, S, e]"""
    labels: Tensor
    """[B, K], 1 present, 0 absent, NaN unknown"""
    settings: Mapping[str, Any]
    """temperature and bias of the category loss"""
    level: Tensor | float
    """mean cosine with the anchors in the first step (`dfat.temperature_warmup`), else 0"""


class ExtraLoss(Protocol):
    """What `DFAT` adds to its loss."""

    weight: float

    def reads(self, texts: Sequence[str]) -> list[str]:
        """What it may read in any step where training has these texts, beside them and the descriptions of the bank: a
        finding that it names is no unseen one."""

    def encode(self, encoder: Encoder, given: Given) -> Any:
        """What the loss needs beside the features of the step, with its gradient; every rank calls it equally often."""

    def loss(self, encoder: Encoder, given: Given, encoded: Encoded, own: Any, bias: Tensor) -> Tensor:
        """Scalar in nats, a mean over all ranks as in `radz.models.losses`.

        Args:
            own: what `encode` gave.
            bias: learned, where the loss has one in `DFAT`, else empty.
        """
