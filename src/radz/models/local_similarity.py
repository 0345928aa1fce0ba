"""How much single image tokens say of a finding: similarity of a text and an image where they are most alike.

A mean over an image drowns what a few of its tokens show. Here each text looks for its tokens and is compared with what
it finds, as GLoRIA (ICCV 2021), MGCA (arXiv 2210.06044) and RadZero (arXiv 2504.07416) do for words and sentences, and
MLIP (arXiv 2402.02045) for descriptions. Shapes: B studies, P image tokens, K texts, e feature width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radz.config.dfat import DfatConfig
from radz.models.encoder import Encoder
from radz.models.extra_loss import Encoded, Given
from radz.models.losses import known_cross_entropy, normalise


def local_similarity(tokens: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Mean cosine of each text with the tokens of each study, weighed by a softmax of themselves: [B, K] in [-1, 1].

    Args:
        tokens: [B, P, e], zero behind the last one of a study.
        texts: [K, e], or sets of them [K, S, e], of which the nearest counts.
        temperature: of the softmax over the tokens; small ones let the most similar token decide, large ones all alike.
    """
    queries = normalise(texts).flatten(0, -2)
    cosines = torch.einsum("bpe,ke->bkp", normalise(tokens), queries)
    padding = ~tokens.any(-1)[:, None, :]
    weights = (cosines / temperature).masked_fill(padding, float("-inf")).softmax(-1)
    found = (weights * cosines).sum(-1)
    return found.unflatten(1, texts.shape[:-1]).amax(2) if texts.dim() == 3 else found


class LocalLoss:
    """Each described finding looks for its image tokens (docs/method.md 2.9)."""

    def __init__(self, config: DfatConfig) -> None:
        self.weight, self.temperature = config.local_weight, config.local_temperature

    def reads(self, texts: Sequence[str]) -> list[str]:
        """Nothing else."""
        return []

    def encode(self, encoder: Encoder, given: Given) -> None:
        """Nothing: the features of images hold their tokens."""

    def loss(self, encoder: Encoder, given: Given, encoded: Encoded, own: None, bias: Tensor) -> Tensor:
        """See `ExtraLoss`; bias [1]."""
        assert encoded.image.tokens is not None
        found = local_similarity(encoded.image.tokens, encoded.anchors, self.temperature)
        return known_cross_entropy((found - encoded.level) / encoded.settings["temperature"] + bias, encoded.labels)
