"""Heat-maps of findings over the patches of an image: similarity of its tokens, and gradient-weighted attention.

Shapes: B studies, M images of all studies, P tokens of an image, T tokens, C findings, g patches along a side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from data_modules.batch import StudyBatch
from radz.evidence.opened import Opened, per_image
from radz.losses import at_least_fp32

KINDS = ("similarity", "contrast", "attention")


@torch.no_grad()
def similarity_maps(run: Opened, batch: StudyBatch) -> Tensor:
    """Similarity of every image token, through the image head, to what stands for each finding: [M, C, g, g].

    Tokens are read at the feature layer, as training aligned them.
    """
    given = run.sequences(batch)
    states = run.encoder.backbone.decode(given.embeddings, given.mask, given.patches)
    features = run.encoder.heads["image"](at_least_fp32(per_image(states, given, len(batch.pixels))))
    modalities = [
        name for name, n in zip(run.modalities(batch), batch.image_counts.tolist(), strict=True) for _ in range(n)
    ]
    found = torch.stack(
        [run.classifier.patch_scores(image, name, run.target) for image, name in zip(features, modalities, strict=True)]
    )
    side = batch.pixels.shape[-1]
    maps = [run.encoder.backbone.patch_map(values, side) for values in found.permute(2, 0, 1)]
    return torch.stack(maps, dim=1)


def contrast_maps(similarity: Tensor) -> Tensor:
    """What a finding's map has beyond the mean of all findings: patches that are like every finding drop out."""
    return similarity - similarity.mean(1, keepdim=True)


def attention_maps(run: Opened, batch: StudyBatch, findings: list[int]) -> Tensor:
    """Gradient-weighted attention of the modality tokens to the image tokens: [M, len(findings), g, g].

    Per layer the mean over heads of the positive part of attention times its gradient of the finding's score, carried
    through the layers (Chefer, Gur and Wolf, ICCV 2021, arXiv 2103.15679, eqs. 5 and 6).
    """
    backbone, side = run.encoder.backbone, batch.pixels.shape[-1]
    given = run.sequences(batch)
    embeddings = given.embeddings.detach().requires_grad_(True)
    maps = []
    with backbone.eager(), torch.enable_grad():
        states, attention = backbone.decode_all(embeddings, given.mask, given.patches, attention=True)
        features = run.encoder.image_features(states[-1], given)
        scores = run.classifier.of_modality(features, run.modalities(batch)[0])[run.target]
        for finding in findings:
            gradients = torch.autograd.grad(scores[:, finding].sum(), attention, retain_graph=True)
            relevance = torch.eye(given.mask.shape[1], device=embeddings.device).expand(len(batch), -1, -1)
            with torch.no_grad():
                for weights, gradient in zip(attention, gradients, strict=True):
                    step = at_least_fp32(weights * gradient).clamp(min=0).mean(1)
                    relevance = relevance + step @ relevance
                of_tokens = torch.einsum("bt,bts->bs", given.tokens.float(), relevance)
                maps.append(backbone.patch_map(per_image(of_tokens, given, len(batch.pixels)), side))
    return torch.stack(maps, dim=1).detach()
