"""What features of training studies share, as the weights are now (docs/method.md 2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from data_modules.datamodule import StudyDataModule
from radz.methods.base import modalities_of
from radz.models.encoder import Encoder
from radz.models.labels import LabelView, batch_texts
from radz.models.losses import Features

STUDIES = 256
"""of training, whose means are taken"""


@torch.no_grad()
def measure(encoder: Encoder, data: StudyDataModule, labels: LabelView, modalities: Sequence[str]) -> None:
    """Put the means of a fixed draw of training studies in place of the running ones, which lag behind weights that
    move: scores and checkpoints have those of the weights of now.
    """
    assert encoder.centre is not None
    rows = np.random.default_rng(data.seed).permutation(data.table.rows("train"))[:STUDIES]
    training, device = encoder.training, encoder.backbone.device

    def parts() -> Iterator[tuple[str, Features, Tensor]]:
        for batch in data.rows_dataloader(np.sort(rows)):
            studies = batch.to(device)
            texts, _ = batch_texts(studies, labels, encoder.config, modalities)
            usable = torch.tensor([bool(words) for words in texts], device=device)
            images = studies.pixels, studies.image_counts, modalities_of(studies, modalities)
            yield "image", encoder.encode_images(*images, raw=True), torch.ones_like(usable)
            yield "text", encoder.encode_texts(texts, raw=True), usable

    encoder.eval()
    encoder.centre.measure(parts())
    encoder.train(training)
