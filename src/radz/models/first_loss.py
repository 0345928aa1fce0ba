"""Where a run starts: the loss of chance, whatever backbone the features come from (docs/method.md 5).

Cosines of a pretrained decoder spread in a way that the configured temperature was not made for: divided by .025 they
are logits of tens, and the first steps would undo that rather than learn.
Shapes: B studies on this rank, G of all ranks, K anchors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radz.distributed import gather, total
from radz.models.losses import Features, cosine, trained_pairs

SPREAD = 0.5
"""standard deviation of the first logits: as independent normal ones they add half its square, .125 nats, to chance"""


class FirstLoss(nn.Module):
    """How the cosines of the first step lie, and the temperature and bias that follow. Part of the checkpoint."""

    spread: Tensor
    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("spread", torch.zeros(()))
        self.register_buffer("level", torch.zeros(()))

    def temperature(self, configured: float | Tensor, done: float) -> float | Tensor:
        """The temperature when a share `done` of its way to the configured one lies behind."""
        wide = (self.spread / SPREAD / configured).clamp(min=1)
        return configured * wide ** (1 - min(done, 1.0))

    @torch.no_grad()
    def measure(self, image: Features, text: Features, usable: Tensor, anchors: Tensor, labels: Tensor, loss: str,
                global_weight: float) -> Tensor:  # fmt: skip
        """Note mean and spread of the cosines of a step over all ranks.

        Args:
            image, text: features of the studies; `usable` bool [B]: those that have a text.
            anchors: features [K, d], or sets of them. labels: [B, K], NaN where unknown.
            loss, global_weight: as in `losses.trained_pairs`.

        Returns:
            Logit [] of the share of present findings among the known pairs, from which the sigmoid's bias starts.
        """
        known = ~labels.isnan()
        sides = ((cosine(image.overall, anchors), known), (cosine(text.overall, anchors), known & usable[:, None]))
        self.level.copy_(_mean(torch.cat([a for a, _ in sides]), torch.cat([b for _, b in sides])))
        spreads = [_mean((cosines - self.level).square(), used).sqrt() for cosines, used in sides]

        def rows_spread(first: Tensor, second: Tensor) -> Tensor:
            columns = gather(usable)[None, :] & usable[:, None]
            cosines = cosine(first, gather(second))
            of_row = (cosines * columns).sum(1, keepdim=True) / columns.sum(1, keepdim=True).clamp(min=1)
            return _mean((cosines - of_row).square(), columns).sqrt()

        spreads.append(trained_pairs(rows_spread, image, text, loss, global_weight))
        spreads.append(trained_pairs(lambda a, b: rows_spread(b, a), image, text, loss, global_weight))
        self.spread.copy_(torch.stack(spreads).amax())
        present, every = total((labels == 1).sum()), total(known.sum())
        return torch.log((present + 1.0) / (every - present + 1.0))


class FirstPairs(nn.Module):
    """Mean cosine of images and texts in the first step, from which the sigmoid alignment loss counts. In checkpoints.

    A learned bias moves by its rate in each step: started far off, a few thousand small steps would not bring it there.
    """

    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.zeros(()))

    @torch.no_grad()
    def measure(
        self, image: Features, text: Features, pairs: Tensor, usable: Tensor, loss: str, global_weight: float
    ) -> Tensor:
        """Note the level over all ranks; arguments as in `losses.alignment`.

        Returns:
            Logit [] of the share of matches among all pairs, where the bias starts.
        """
        used = gather(usable)[None, :] & usable[:, None]

        def level(first: Tensor, second: Tensor) -> Tensor:
            return _mean(cosine(first, gather(second)), used)

        self.level.copy_(trained_pairs(level, image, text, loss, global_weight))
        matches = total(torch.where(used, pairs, torch.zeros_like(pairs)).sum())
        return torch.log((matches + 1.0) / (total(used.sum()) - matches + 1.0))


def _mean(values: Tensor, used: Tensor) -> Tensor:
    """Mean [] over the places of all ranks where `used`."""
    return total(torch.where(used, values, torch.zeros_like(values)).sum()) / total(used.sum()).clamp(min=1)
