"""The losses that are added to alignment and category loss (docs/method.md 2.7 to 2.10)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from data_modules.findings import Ontology
from radz.config.dfat import DfatConfig
from radz.config.files import find_resource
from radz.distributed import total, world
from radz.models.encoder import Encoder
from radz.models.extra_loss import Encoded, ExtraLoss, Given
from radz.models.local_similarity import LocalLoss
from radz.models.sentences import Sentences
from radz.models.statements import Statements


class LanguageLoss:
    """The language model goes on foretelling the training texts (docs/method.md 2.7)."""

    def __init__(self, config: DfatConfig) -> None:
        self.weight, self.most = config.lm_weight, config.gradient_cache or None

    def encode(self, encoder: Encoder, given: Given) -> tuple[Tensor, int]:
        """Summed cross-entropy of the texts, and their tokens."""
        return encoder.language_loss(given.texts, self.most)

    def loss(
        self, encoder: Encoder, given: Given, encoded: Encoded, own: tuple[Tensor, int], bias: Tensor
    ) -> Tensor:  # fmt: skip
        """See `ExtraLoss`."""
        foretold, tokens = own
        return world()[1] * foretold / total(foretold.new_tensor(tokens)).clamp(min=1)


def extra_losses(
    config: DfatConfig, findings: Sequence[str], known: Ontology, modalities: Sequence[str]
) -> dict[str, ExtraLoss]:
    """Those that a configuration has a weight for.

    Args:
        findings: of the training bank. modalities: of all corpora, keys of MODALITY_TEXT.
    """
    extras: dict[str, ExtraLoss] = {}
    if config.statements_weight:
        file = find_resource(config.statements)
        extras["statements"] = Statements(file, findings, known, modalities, config.statements_weight)
    if config.local_weight:
        extras["local"] = LocalLoss(config)
    if config.sentences_weight:
        extras["sentences"] = Sentences(config, findings, known, modalities)
    if config.lm_weight:
        extras["language"] = LanguageLoss(config)
    return extras
