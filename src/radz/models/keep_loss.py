"""The loss of `dfat.keep_weight`: the untrained decoder finds descriptions and names as alike as before.

Training on one corpus bends this space to the findings that it labels, and those that it does not are scored by it.
The similarities, not the vectors, are held: relations may move as a whole (relational distillation: RKD, arXiv
1904.05068; similarity-preserving distillation, arXiv 1907.09682).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_modules.errors import InputError
from data_modules.findings import Ontology
from radz.config.dfat import DfatConfig
from radz.models.centre import FEWEST
from radz.models.encoder import Encoder
from radz.models.extra_loss import Encoded, Given
from radz.models.gradient_cache import Compute, cached
from radz.models.losses import cosine
from radz.models.statements import names

DRAWN = 16
"""texts of a step at most: 120 pairs"""


class KeptTexts(nn.Module):
    """Texts stay as alike as they were before training (docs/method.md 2.11). Part of the checkpoint.

    Held is the decoder's state before any head, which is what an anchor is: a head may turn and scale its side as the
    images need it.
    """

    first: Tensor

    def __init__(self, texts: Sequence[str], width: int, config: DfatConfig) -> None:
        """`texts`: N different ones; `width`: of the decoder.

        Raises:
            InputError: fewer texts than have similarities beyond their mean.
        """
        super().__init__()
        if len(texts) < FEWEST:
            raise InputError(
                f"dfat.keep_weight: needs {FEWEST} texts on the findings, the bank has {len(texts)}; name more in "
                "dkam.findings"
            )
        self.texts, self.weight, self.most = tuple(texts), config.keep_weight, config.gradient_cache
        self.register_buffer("first", torch.zeros(len(texts), width))

    def reads(self, texts: Sequence[str]) -> list[str]:
        """All that are kept."""
        return [*self.texts]

    def draw(self, number: int) -> list[int]:
        """The texts of a step; `number`: see `Given.draw`."""
        return sorted(random.Random(number).sample(range(len(self.texts)), min(DRAWN, len(self.texts))))

    @torch.no_grad()
    def measure(self, encoder: Encoder) -> None:
        """Note the states [N, d] of the weights of now, without dropout, in the precision of a step."""
        training = encoder.training
        encoder.eval()
        self.first.copy_(encoder.encode_descriptions(list(self.texts), "decoder"))
        encoder.train(training)
        # Weights that autocast has cast without a graph must not serve a later layer that needs one.
        torch.clear_autocast_cache()

    def encode(self, encoder: Encoder, given: Given) -> Tensor:
        """Raw means [n, d] at the modality tokens behind the texts of this step; the first one measures before."""
        if given.step == 0:
            self.measure(encoder)
        texts = [self.texts[place] for place in self.draw(given.draw)]
        if not self.most:
            return encoder.encode_descriptions(texts, "decoder")

        def of_part(start: int) -> Compute:
            return lambda: (encoder.encode_descriptions(texts[start : start + self.most], "decoder"),)

        computed = [of_part(start) for start in range(0, len(texts), self.most)]
        return torch.cat([part for (part,) in cached(computed, encoder.backbone.device, encoder)])

    def loss(self, encoder: Encoder, given: Given, encoded: Encoded, own: Tensor, bias: Tensor) -> Tensor:
        """See `ExtraLoss`; from 0 to 4, no nats. Every rank has the same texts, and so the same loss."""
        return similarity_change(own, self.first[self.draw(given.draw)].to(own))


def similarity_change(now: Tensor, then: Tensor) -> Tensor:
    """Mean squared difference of the cosines of n texts with each other, now and then, each less the mean of the n.

    Squares, which have no temperature to choose and count a pair drawn together as one drawn apart. Of states of a
    pretrained decoder, with cosines of .99, the rest alone tells texts apart.

    Args:
        now, then: [n, d].
    """
    sides = [states - states.mean(0) for states in (now, then)]
    of_now, of_then = (cosine(side, side) for side in sides)
    # On the diagonal both are 1.
    return (of_now - of_then).square().sum() / (len(now) * (len(now) - 1))


def texts_to_keep(descriptions: Sequence[str], findings: Sequence[str], known: Ontology) -> list[str]:
    """Each description of the findings of a bank, and each of their names in a sentence.

    Args:
        descriptions: of the bank, those of one finding on lines of their own. known: as for `names`.
    """
    described = [line for description in descriptions for line in description.split("\n") if line]
    named = [f"There is {name}." for finding in findings for name in names(known, finding)]
    return list(dict.fromkeys([*described, *named]))
