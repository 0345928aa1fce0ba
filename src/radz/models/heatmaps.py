"""Heat-maps of findings over the patches of an image: similarity of its tokens, and gradient-weighted attention.

Shapes: B studies, M images of all studies, P tokens of an image, T tokens, C findings, g patches along a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from radz.models.encoder import Encoder, Sequences
from radz.models.losses import at_least_fp32
from radz.models.zero_shot import ZeroShot

KINDS = ("similarity", "contrast", "attention")


def target_of(scorer: str) -> str:
    """What patches are compared with under a scorer: `anchor` or `prompt`."""
    return "anchor" if scorer in ("anchor", "local") else "prompt"


@dataclass(frozen=True)
class Mapper:
    """Makes maps of a trained model. Its methods take what `Encoder.encode_images` takes, and every slice has its map.

    Images are seen together or each alone, as the model scores them.
    """

    encoder: Encoder
    classifier: ZeroShot
    target: str
    """anchor | prompt"""

    @torch.no_grad()
    def similarity(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> Tensor:
        """Similarity of every image token, through the image head, to what stands for each finding: [M, C, g, g].

        Tokens are read at the feature layer, as training aligned them.
        """
        features, each = self.tokens(pixels, counts, modalities)
        scores = torch.stack(
            [self.classifier.patch_scores(image, name, self.target) for image, name in zip(features, each, strict=True)]
        )
        return self.grids(scores, pixels.shape[-1])

    @torch.no_grad()
    def tokens(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> tuple[Tensor, list[str]]:
        """Features [M, P, e] of every image token, comparable with those of texts, and the modality of each image."""
        counts, modalities = self.classifier.sequences(counts, modalities)
        given = self.encoder.image_sequences(pixels, counts, modalities)
        states = self.encoder.backbone.decode(given.embeddings, given.mask, given.content)
        features = self.encoder.patch_features(per_image(states, given, len(pixels)))
        return features, [name for name, n in zip(modalities, counts.tolist(), strict=True) for _ in range(n)]

    def grids(self, scores: Tensor, side: int) -> Tensor:
        """Scores [M, P, K] of image tokens as maps [M, K, g, g], of images of `side` pixels."""
        maps = [self.encoder.backbone.patch_map(values, side) for values in scores.permute(2, 0, 1)]
        return torch.stack(maps, dim=1)

    def attention(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str], findings: Sequence[int]) -> Tensor:
        """Gradient-weighted attention of the modality tokens to the image tokens: [M, len(findings), g, g].

        Per layer the mean over heads of the positive part of attention times its gradient of the finding's score,
        carried through the layers (Chefer, Gur and Wolf, ICCV 2021, arXiv 2103.15679, eqs. 5 and 6).
        """
        backbone = self.encoder.backbone
        counts, modalities = self.classifier.sequences(counts, modalities)
        with torch.no_grad():
            given = self.encoder.image_sequences(pixels, counts, modalities)
        embeddings = given.embeddings.detach().requires_grad_(True)
        maps = []
        with backbone.eager(), torch.enable_grad():
            states, attention = backbone.decode_all(embeddings, given.mask, given.content, attention=True)
            features = self.encoder.image_features(states[-1], given)
            score = sum(
                self.classifier.of_modality(features, name)[self.target] * _is(modalities, name, embeddings)
                for name in dict.fromkeys(modalities)
            )
            assert isinstance(score, Tensor), "there is a study"
            for finding in findings:
                # The graph is kept for the next finding: one forward pass serves them all.
                gradients = torch.autograd.grad(score[:, finding].sum(), attention, retain_graph=True)
                with torch.no_grad():
                    relevance = torch.eye(given.mask.shape[1], device=embeddings.device).expand(len(counts), -1, -1)
                    for weights, gradient in zip(attention, gradients, strict=True):
                        # Each layer adds to what the earlier ones carried, since its residual hands that on as well.
                        step = at_least_fp32(weights * gradient).clamp(min=0).mean(1)
                        relevance = relevance + step @ relevance
                    of_tokens = torch.einsum("bt,bts->bs", given.tokens.float(), relevance)
                    maps.append(backbone.patch_map(per_image(of_tokens, given, len(pixels)), pixels.shape[-1]))
        return torch.stack(maps, dim=1).detach()


def contrast(similarity: Tensor, readable: Sequence[bool]) -> Tensor:
    """What a finding's map has beyond the mean of all readable ones: patches that are like every finding drop out."""
    return similarity - similarity[:, list(readable)].mean(1, keepdim=True)


def per_image(values: Tensor, given: Sequences, images: int) -> Tensor:
    """Values [B, T, ...] at the image tokens, as [M, P, ...]: tokens of an image follow each other."""
    return values[given.content].unflatten(0, (images, -1))


def _is(modalities: Sequence[str], name: str, like: Tensor) -> Tensor:
    """1 for studies of a modality, else 0: [B, 1]."""
    return torch.tensor([[float(one == name)] for one in modalities], device=like.device)
