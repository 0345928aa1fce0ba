"""The direction that all features of a side share, taken out before any cosine (docs/method.md 2.4).

States of a pretrained decoder have cosines of .99 with each other, whatever the text says: what tells them apart is the
small rest. Shapes: B studies on this rank, e feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from radz.distributed import gather, total
from radz.models.losses import Features

MOMENTUM = 0.95
"""of the running means: about the last 20 steps count"""
FEWEST = 3
"""rows whose mean may be taken from them: of two, the rests are one direction"""


SHRINK = 0.5
"""share of an even spread in the covariance that is whitened: few features do not know it in every direction"""


class Shared(NamedTuple):
    """What features of one kind share."""

    mean: Tensor
    """[e]"""
    whitening: Tensor | None = None
    """[e, e], symmetric: makes what is left spread alike in all directions"""

    def taken_from(self, features: Tensor) -> Tensor:
        """Features [.., e] without it."""
        rest = features - self.mean
        return rest if self.whitening is None else rest @ self.whitening.to(rest.dtype)

    def given_back(self, features: Tensor) -> Tensor:
        """The opposite."""
        if self.whitening is not None:
            features = torch.linalg.solve(self.whitening.to(features.dtype), features, left=False)
        return features + self.mean

    def cpu(self) -> Shared:
        """The same in memory."""
        return Shared(self.mean.cpu(), None if self.whitening is None else self.whitening.cpu())

    @staticmethod
    def of(rows: Tensor, whiten: bool) -> Shared:
        """Of class texts or anchors [K, e], or sets of them [K, S, e]; nothing of fewer than three."""
        if len(rows) < FEWEST:
            return Shared(rows.new_zeros(rows.shape[-1]))
        flat = rows.flatten(0, -2)
        mean = flat.mean(0)
        rest = (flat - mean).detach()
        return Shared(mean, _whitening(rest.T @ rest / len(flat)) if whiten else None)


def of_tokens(change: Callable[[Tensor], Tensor], tokens: Tensor | None) -> Tensor | None:
    """Features [B, P, e] of tokens, each changed but for the zeros behind the last ones."""
    return None if tokens is None else torch.where(tokens.any(-1, keepdim=True), change(tokens), tokens)


def _whitening(covariance: Tensor) -> Tensor:
    """[e, e] to the inverse root of its mix with an even spread of the same total, scaled to keep that total."""
    even = covariance.diagonal().mean().clamp(min=1e-30)  # of texts that are all the same, rounding leaves less than 0
    values, directions = torch.linalg.eigh(covariance.double())
    mixed = (1 - SHRINK) * values.clamp(min=0) + SHRINK * even
    return ((directions * (even / mixed.clamp(min=1e-30)).sqrt()) @ directions.T).to(covariance.dtype)


class Centre(nn.Module):
    """Running means [e] of the global and local features of images and of reports, over all ranks and steps.

    `whiten` keeps their second moments [e, e] too.
    """

    def __init__(self, width: int, whiten: bool = False) -> None:
        super().__init__()
        for side in ("image", "text"):
            for part in ("overall", "local"):
                self.register_buffer(f"{side}_{part}", torch.zeros(width))
                if whiten:
                    self.register_buffer(f"{side}_{part}_second", torch.zeros(width, width))
            self.register_buffer(f"{side}_weight", torch.zeros(()))
        self.whiten = whiten
        self._whitenings: dict[str, tuple[int, Tensor]] = {}

    def mean(self, name: str) -> Tensor:
        """The mean [e] of `image_overall`, `image_local`, `text_overall` or `text_local`; 0 before the first step."""
        return self._average(name, name)

    def shared(self, name: str) -> Shared:
        """What the features `name`, as in `mean`, share."""
        mean = self.mean(name)
        if not self.whiten:
            return Shared(mean)
        second = self.get_buffer(f"{name}_second")
        known, whitening = self._whitenings.get(name, (-1, mean))
        if known != second._version:
            whitening = _whitening(self._average(f"{name}_second", name) - torch.outer(mean, mean))
            self._whitenings[name] = second._version, whitening
        return Shared(mean, whitening.to(mean.device))

    def _average(self, buffer: str, name: str) -> Tensor:
        weight = self.get_buffer(f"{name.split('_')[0]}_weight")
        # Of a start at zero the first steps still hold a share, which the weight says (Adam, arXiv 1412.6980).
        return self.get_buffer(buffer) / weight.clamp(min=1e-12)

    def forward(self, features: Features, side: str) -> Features:
        """Features of `image` or `text` less what those of training share."""
        overall, local = self.shared(f"{side}_overall"), self.shared(f"{side}_local")
        tokens = of_tokens(local.taken_from, features.tokens)
        return Features(
            overall.taken_from(features.overall), local.taken_from(features.local), features.peak_share, tokens
        )

    def training_step(self, features: Features, side: str, used: Tensor, of_batch: bool) -> Features:
        """Let means and second moments follow the features of a step, and take out what they share.

        Args:
            features: raw, of this rank; `side` is image or text.
            used: bool [B], rows that have this side.
            of_batch: take out the mean of this step alone, with its gradient, instead of the running one.
        """
        count = total(used.sum())
        pace = (1 - MOMENTUM) * (count > 0)  # a step without any text says nothing of their mean
        means = {}

        def follow(name: str, value: Tensor) -> None:
            buffer = self.get_buffer(name)
            buffer.lerp_(value.detach().to(buffer.dtype), pace.to(buffer.dtype))

        for part, values in (("overall", features.overall), ("local", features.local)):
            rows = torch.where(used[:, None], values, torch.zeros_like(values))
            means[part] = (gather(rows) if of_batch else total(rows.detach().sum(0, keepdim=True))).sum(
                0
            ) / count.clamp(min=1)
            follow(f"{side}_{part}", means[part])
            if self.whiten:
                follow(f"{side}_{part}_second", total(rows.detach().T @ rows.detach()) / count.clamp(min=1))
        follow(f"{side}_weight", torch.ones_like(self.get_buffer(f"{side}_weight")))
        if not of_batch:
            return self(features, side)
        tokens = of_tokens(lambda rows: rows - means["local"], features.tokens)
        return Features(
            features.overall - means["overall"], features.local - means["local"], features.peak_share, tokens
        )

    def measure(self, parts: Iterable[tuple[str, Features, Tensor]]) -> None:
        """Put the means (and second moments) of these features in place of the running ones, over all ranks.

        Args:
            parts: side, raw features [B, e], and bool [B] that says which rows have that side.
        """
        sums = {name: torch.zeros_like(buffer) for name, buffer in self.named_buffers()}
        for side, features, used in parts:
            for part, values in (("overall", features.overall), ("local", features.local)):
                rows = torch.where(used[:, None], values, torch.zeros_like(values)).to(sums[f"{side}_{part}"].dtype)
                sums[f"{side}_{part}"] += rows.sum(0)
                if self.whiten:
                    sums[f"{side}_{part}_second"] += rows.T @ rows
            sums[f"{side}_weight"] += used.sum()
        sums = {name: total(value) for name, value in sums.items()}
        for name, buffer in self.named_buffers():
            count = sums[f"{name.split('_')[0]}_weight"]
            if count > 0:
                buffer.copy_(sums[name] / count)
