"""Gradient caching: the loss of a big batch with the memory of a small one (Gao et al. 2021, arXiv 2101.06983).

All chunks are encoded without a graph; the loss is taken on their features, against the negatives of the whole batch.
When the gradient reaches the features, each chunk is encoded again with the random numbers of its first time, now with
a graph, and differentiated. To autograd, and so to Lightning, the precision plugin and DDP, this is one function of the
trainable parameters: every parameter receives its gradient once, and ranks reduce it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from radz.models.encoder import Encoder
from radz.models.losses import Features

Encode = Callable[[], Features]
Compute = Callable[[], tuple[Tensor, ...]]
WORTH = 4
"""texts of a group at least: a chunk is of like length already, and a decoder call for fewer costs more than padding"""


def cached_features(
    encoder: Encoder, pixels: Tensor, counts: Tensor, modalities: Sequence[str], texts: Sequence[str], size: int
) -> tuple[Features, Features]:
    """Image and text features [B, e] of B studies, as `encode_images` and `encode_texts` give them, raw.

    Args:
        encoder: its trainable parameters receive the gradient.
        pixels, counts, modalities: as for `Encoder.encode_images`.
        texts: B texts; each distinct one is encoded once, next to those of like length.
        size: studies, or distinct texts, in a chunk.
    """
    distinct = _distinct(texts)
    starts = range(0, len(texts), size)
    images = [part.sum().item() for part in counts.split(size)]

    def image_chunk(start: int, part: Tensor) -> Encode:
        return lambda: encoder.encode_images(
            part, counts[start : start + size], modalities[start : start + size], raw=True
        )

    chunks = [image_chunk(start, part) for start, part in zip(starts, pixels.split(images), strict=True)]
    features = _encode(encoder, [*chunks, *_text_chunks(encoder, distinct, size)])
    return Features.join(features[: len(starts)]), _in_order(features[len(starts) :], distinct, texts)


def cached_texts(encoder: Encoder, texts: Sequence[str], size: int) -> Features:
    """Features [N, e] of texts, as `encode_texts` gives them, raw; `size` distinct ones are a chunk."""
    distinct = _distinct(texts)
    return _in_order(_encode(encoder, _text_chunks(encoder, distinct, size)), distinct, texts)


def _distinct(texts: Sequence[str]) -> list[str]:
    return sorted(dict.fromkeys(texts), key=len)


def _text_chunks(encoder: Encoder, distinct: Sequence[str], size: int) -> list[Encode]:
    groups = min(encoder.text_groups, max(1, size // WORTH))

    def chunk(part: list[str]) -> Encode:
        return lambda: encoder.encode_texts(part, raw=True, groups=groups)

    return [chunk(list(distinct[start : start + size])) for start in range(0, len(distinct), size)]


def _in_order(parts: Sequence[Features], distinct: Sequence[str], texts: Sequence[str]) -> Features:
    place = {words: i for i, words in enumerate(distinct)}
    index = torch.tensor([place[words] for words in texts], device=parts[0].overall.device)
    return Features.join(parts).rows(index)


def _encode(encoder: Encoder, chunks: Sequence[Encode]) -> list[Features]:
    def tensors_of(chunk: Encode) -> Compute:
        return lambda: _tensors(chunk())

    parts = cached([tensors_of(chunk) for chunk in chunks], encoder.backbone.device, encoder)
    return [Features(overall, local, share.detach(), *tokens) for overall, local, share, *tokens in parts]


def cached(functions: Sequence[Compute], device: torch.device, *modules: nn.Module) -> list[tuple[Tensor, ...]]:
    """What functions give, one after the other, with the memory of one: each is computed again in the backward pass.

    Args:
        device: where they draw their random numbers.
        modules: whose trainable parameters receive the gradient.
    """
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    jobs = [_Chunk(device, function) for function in functions]
    tensors = iter(_Cached.apply(jobs, *parameters) if parameters else _first(jobs))
    return [tuple(next(tensors) for _ in range(job.outputs)) for job in jobs]


def _first(jobs: Sequence[_Chunk]) -> tuple[Tensor, ...]:
    return tuple(tensor for job in jobs for tensor in job.first())


@dataclass
class _Chunk:
    """One chunk, computed twice under the same conditions."""

    device: torch.device
    compute: Compute

    @torch.no_grad()
    def first(self) -> tuple[Tensor, ...]:
        """What it gives, without a graph."""
        self.random = torch.get_rng_state()
        self.cuda_random = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        kind = self.device.type
        # The backward pass runs outside the autocast of the forward pass, which must be set again there.
        self.autocast: dict[str, Any] = {
            "enabled": torch.is_autocast_enabled(kind),
            "dtype": torch.get_autocast_dtype(kind),
        }
        outputs = self.compute()
        self.outputs = len(outputs)
        return outputs

    def again(self) -> tuple[Tensor, ...]:
        """The same with a graph; the random state outside is left as it was."""
        devices = [] if self.cuda_random is None else [self.device]
        with (
            torch.random.fork_rng(devices),
            torch.enable_grad(),
            torch.autocast(self.device.type, **self.autocast),
        ):
            torch.set_rng_state(self.random)
            if self.cuda_random is not None:
                torch.cuda.set_rng_state(self.cuda_random, self.device)
            return self.compute()


def _tensors(features: Features) -> tuple[Tensor, ...]:
    pooled = features.overall, features.local, features.peak_share
    return pooled if features.tokens is None else (*pooled, features.tokens)


class _Cached(torch.autograd.Function):
    """Parameters to the tensors of all chunks; differentiated chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, jobs: Sequence[_Chunk], *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.jobs, ctx.parameters = jobs, parameters
        features = _first(jobs)
        # Weights that autocast has cast without a graph must not serve a later layer that needs one.
        torch.clear_autocast_cache()
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        sums: list[Tensor | None] = [None] * len(ctx.parameters)
        start = 0
        for job in ctx.jobs:
            every = zip(job.again(), gradients[start : start + job.outputs], strict=True)
            start += job.outputs
            # A side on which nothing trains has no graph.
            pairs = [(feature, gradient) for feature, gradient in every if feature.requires_grad]
            if not pairs:
                continue
            features, wanted = zip(*pairs, strict=True)
            # `grad`, not `backward`: it leaves `.grad` and the hooks of DDP alone, which then see the sum.
            parts = torch.autograd.grad(features, ctx.parameters, wanted, allow_unused=True)
            for i, part in enumerate(parts):
                if part is not None:
                    sums[i] = part if sums[i] is None else sums[i] + part
        return (None, *sums)
