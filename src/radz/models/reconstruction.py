"""Image tokens that are hidden from the decoder, foretold at the feature layer from those that are left.

After LaVer (arXiv 2512.06281), of which the abstract and a summary were read: masked image modelling in the latent
space of the language model, because a loss on text alone lets image states grow alike from layer to layer. The averaged
teacher and its normalised targets are those of data2vec (arXiv 2202.03555) and I-JEPA (arXiv 2301.08243), the term
against collapse is the variance term of VICReg (arXiv 2105.04906).
Shapes: B studies, T tokens, d width, n masked tokens of this rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radz.backbones.layers import at_least_fp32
from radz.config.dfat import DfatConfig
from radz.distributed import gather, total, world
from radz.models.encoder import Encoder, make_head
from radz.models.extra_loss import Encoded, Given
from radz.models.gradient_cache import Compute, cached

SPREAD = 0.5
"""standard deviation of the predictions below which they count as collapsing, where their targets have 1: what is seen
never tells all of what is hidden"""
TINY = 1e-4
"""added to a variance, as VICReg does: its root has a gradient at 0"""
APART = 1_000_003
"""between the generators of two steps: more than a table has rows"""

Images = tuple[Tensor, Tensor, Sequence[str]]
"""pixels, image counts and modalities as `Encoder.encode_images` takes them"""


class Reconstruction(nn.Module):
    """States of masked image tokens are foretold (docs/method.md 2.12). Part of the checkpoint.

    Attributes:
        token: [d], stands where an image token is masked; it starts as the mean of the rows of the image's modality
            tokens, which has the length of an embedding.
        predictor: states of masked tokens to their targets.
    """

    def __init__(self, encoder: Encoder, config: DfatConfig) -> None:
        super().__init__()
        self.weight, self.share, self.decay = (
            config.reconstruction_weight, config.reconstruction_share, config.reconstruction_decay,
        )  # fmt: skip
        self.most = config.gradient_cache
        backbone = encoder.backbone
        with torch.no_grad():
            rows = backbone.word_embeddings(torch.tensor(backbone.image_ids, device=backbone.device))
            self.token = nn.Parameter(at_least_fp32(rows.mean(0)))
        with torch.random.fork_rng(devices=[]):  # whatever has drawn before, such as anchors that were not on disk yet
            torch.manual_seed(torch.initial_seed())
            self.predictor = make_head("mlp", backbone.hidden_size, backbone.hidden_size)
        for place, weight in enumerate(_trained(encoder)):
            self.register_buffer(f"average_{place}", weight.detach().clone())

    @torch.no_grad()
    def follow(self, encoder: Encoder) -> list[Tensor]:
        """Move the averages towards the weights of now, in the order of `_trained`.

        Once at the beginning of a step, before which nothing has moved them since the last one.
        """
        return [
            self.get_buffer(f"average_{place}").lerp_(weight, 1 - self.decay)
            for place, weight in enumerate(_trained(encoder))
        ]

    def reads(self, texts: Sequence[str]) -> list[str]:
        """Images alone."""
        return []

    def encode(self, encoder: Encoder, given: Given) -> tuple[Tensor, Tensor]:
        """Predictions and targets [n, d], the latter layer-normalised and without gradient."""
        averages, batch = self.follow(encoder), given.batch
        size = self.most or len(batch)
        pixels = batch.pixels.split([int(part.sum()) for part in batch.image_counts.split(size)])
        starts = [slice(start, start + size) for start in range(0, len(batch), size)]
        parts: list[tuple[Images, list[int]]] = [
            ((part, batch.image_counts[rows], given.modalities[rows]), batch.rows[rows].tolist())
            for part, rows in zip(pixels, starts, strict=True)
        ]
        targets = torch.cat([self.targets(encoder, averages, *part, given.draw) for part in parts])

        def of_part(images: Images, places: Sequence[int]) -> Compute:
            return lambda: (self.predictions(encoder, images, places, given.draw),)

        computed = [of_part(*part) for part in parts]
        if not self.most:
            return computed[0]()[0], targets
        predicted = cached(computed, encoder.backbone.device, encoder, self)
        return torch.cat([part for (part,) in predicted]), targets

    def predictions(self, encoder: Encoder, images: Images, rows: Sequence[int], draw: int) -> Tensor:
        """Of the masked tokens [n, d], in order, from what is left of each image."""
        given = encoder.image_sequences(*images)
        masked = self.masked(given.content, rows, draw)
        # Nothing of a masked token is left in channels beyond d either, which some backbones read in later layers.
        token = F.pad(self.token, (0, given.embeddings.shape[-1] - len(self.token))).to(given.embeddings.dtype)
        embeddings = torch.where(masked[..., None], token, given.embeddings)
        states = encoder.backbone.decode(embeddings, given.mask, given.content)
        with torch.autocast(states.device.type, enabled=False):
            predicted: Tensor = self.predictor(at_least_fp32(states[masked]))
        return predicted

    @torch.no_grad()
    def targets(
        self, encoder: Encoder, averages: list[Tensor], images: Images, rows: Sequence[int], draw: int
    ) -> Tensor:  # fmt: skip
        """States of the same tokens [n, d] where none is masked, of the averaged weights and without dropout."""
        training = encoder.training
        encoder.eval()
        with _standing_in(_trained(encoder), averages):
            given = encoder.image_sequences(*images)
            states = encoder.backbone.decode(given.embeddings, given.mask, given.content)
        encoder.train(training)
        chosen = at_least_fp32(states[self.masked(given.content, rows, draw)])
        with torch.autocast(states.device.type, enabled=False):
            return F.layer_norm(chosen, chosen.shape[-1:])

    def masked(self, content: Tensor, rows: Sequence[int], draw: int) -> Tensor:
        """Bool [B, T], true at the image tokens that are masked.

        By table row and `Given.draw`: the same however studies are shared out over ranks and chunks.
        """
        masks = []
        for row, tokens in zip(rows, content.sum(1).tolist(), strict=True):
            generator = torch.Generator().manual_seed((draw * APART + row) % 2**63)
            order = torch.randperm(tokens, generator=generator)
            masks.append(order < max(1, round(self.share * tokens)))
        masked = torch.zeros_like(content)
        masked[content] = torch.cat(masks).to(content.device)
        return masked

    def loss(
        self, encoder: Encoder, given: Given, encoded: Encoded, own: tuple[Tensor, Tensor], bias: Tensor
    ) -> Tensor:  # fmt: skip
        """See `ExtraLoss`; no nats."""
        return reconstruction(*own)


def reconstruction(predicted: Tensor, targets: Tensor) -> Tensor:
    """Smooth L1 distance of predictions [n, d] from targets, and how far below `SPREAD` their deviations stay.

    Means over the n of all ranks and the d. Targets lose their mean in each dimension and get the deviation 1, over all
    ranks: what all states share is no task, and no dimension is too small to count.
    """
    count = total(targets.new_tensor(float(len(targets))))
    apart = targets - total(targets.sum(0)) / count
    targets = apart / (total(apart.square().sum(0)) / count + TINY).sqrt()
    distance = world()[1] * F.smooth_l1_loss(predicted, targets, reduction="none").mean(1).sum() / count
    # The mean needs no gradient: the variance is least there, and does not change with it.
    around = predicted - total(predicted.sum(0)) / count
    variance = gather(around.square().sum(0, keepdim=True)).sum(0) / count
    return distance + F.relu(SPREAD - (variance + TINY).sqrt()).mean()


def _trained(encoder: Encoder) -> list[nn.Parameter]:
    """What trains of the backbone."""
    return [weight for weight in encoder.backbone.parameters() if weight.requires_grad]


@contextmanager
def _standing_in(weights: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Let the weights have other values meanwhile.

    Not by `torch.func.functional_call`: what PEFT shares between two tied layers is one module at two places, of which
    the call gives back the values that were meant for the moment.
    """
    own = [weight.data for weight in weights]
    try:
        for weight, value in zip(weights, values, strict=True):
            weight.data = value
        yield
    finally:
        for weight, value in zip(weights, own, strict=True):
            weight.data = value
