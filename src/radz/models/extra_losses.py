"""The losses that are added to alignment and category loss (docs/method.md 2.7 to 2.12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from data_modules.findings import Ontology
from radz.config.dfat import DfatConfig
from radz.config.files import find_resource
from radz.distributed import total, world
from radz.models.anchor_bank import AnchorBank
from radz.models.encoder import Encoder
from radz.models.extra_loss import Encoded, ExtraLoss, Given
from radz.models.keep_loss import KeptTexts, texts_to_keep
from radz.models.local_similarity import LocalLoss
from radz.models.reconstruction import Reconstruction
from radz.models.sentences import Sentences
from radz.models.statements import Statements

ADDED = "added."
"""begins the names of what `DFAT` holds for losses with weights of their own"""


class LanguageLoss:
    """The language model goes on foretelling the training texts (docs/method.md 2.7)."""

    def __init__(self, config: DfatConfig) -> None:
        self.weight, self.most = config.lm_weight, config.gradient_cache or None

    def reads(self, texts: Sequence[str]) -> list[str]:
        """Nothing else."""
        return []

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
    config: DfatConfig, encoder: Encoder, bank: AnchorBank, known: Ontology, modalities: Sequence[str]
) -> dict[str, ExtraLoss]:
    """Those that a configuration has a weight for.

    Args:
        encoder: with the weights that training begins with. bank: of the training.
        modalities: of all corpora, keys of MODALITY_TEXT.
    """
    extras: dict[str, ExtraLoss] = {}
    if config.statements_weight:
        file = find_resource(config.statements, "dfat.statements")
        extras["statements"] = Statements(file, bank.names, known, modalities, config.statements_weight)
    if config.local_weight:
        extras["local"] = LocalLoss(config)
    if config.sentences_weight:
        extras["sentences"] = Sentences(config, bank.names, known, modalities)
    if config.lm_weight:
        extras["language"] = LanguageLoss(config)
    if config.keep_weight:
        texts = texts_to_keep(bank.descriptions, bank.names, known)
        extras["keep"] = KeptTexts(texts, encoder.backbone.hidden_size, config)
    if config.reconstruction_weight:
        extras["reconstruction"] = Reconstruction(encoder, config)
    return extras


def without_losses(weights: Mapping[str, Tensor], extras: Mapping[str, ExtraLoss]) -> dict[str, Tensor]:
    """The weights of a checkpoint, without those of losses where the module has none, since it only scores."""
    return {name: weight for name, weight in weights.items() if extras or not name.startswith(ADDED)}
