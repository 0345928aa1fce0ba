"""`method: clip`: two towers and the prompts of `scoring`, zero-shot or trained on the run's own pairs.

Radford et al. 2021 (arXiv 2103.00020); SigLIP: Zhai et al. 2023 (arXiv 2303.15343). Training is the softmax loss of the
former for both, with the positives of `dfat.positives` and the temperature that the model learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_modules.base import StudyDataModule
from data_modules.batch import StudyBatch
from radz import build as parts
from radz.baselines.clip_folder import ClipEncoder, clip_folder, tiny_clip
from radz.baselines.cnn import study_mean
from radz.baselines.open_clip_folder import OpenClipEncoder, is_open_clip
from radz.baselines.scored import Scored, modalities_of, warm_cosine
from radz.baselines.two_towers import TwoTowers
from radz.callbacks.finite import stop_unless_finite
from radz.checks import check_prompts
from radz.config import ClipConfig, DfatConfig, Experiment, ScoringConfig
from radz.encode import MODALITY_TEXT
from radz.environment import folder_digest
from radz.labels import LabelView, batch_texts
from radz.losses import Features, cosine, info_nce, normalise, positive_pairs
from radz.scoring.prompts import ClassSentences, sentences
from radz.scoring.zero_shot import ClassTexts, over_images, over_prompts, to_unit

SCORER = "clip"


class Clip(Scored):
    """Scores by the cosine of image and prompts.

    Args:
        dfat: of it, which texts are read and which pairs count as matches.
        modalities: one for each corpus.
    """

    headline = SCORER

    def __init__(
        self, encoder: TwoTowers, config: ClipConfig, labels: LabelView, texts: ClassTexts, dfat: DfatConfig,
        scoring: ScoringConfig, modalities: Sequence[str],
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.config, self.texts = encoder, config, texts
        self.dfat, self.scoring, self.modalities = dfat, scoring, tuple(modalities)
        self.trains = self.strict_loading = config.train
        encoder.requires_grad_(config.train)
        if getattr(encoder.model, "logit_bias", None) is not None:  # of SigLIP's own loss; the softmax does not feel it
            encoder.model.logit_bias.requires_grad_(False)
        self.set_up(labels, texts.findings)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What was not trained is not kept."""
        if not self.trains:
            checkpoint["state_dict"] = {}

    def training_step(self, batch: StudyBatch, batch_idx: int) -> Tensor:
        """Contrastive loss of a batch; studies without text take no part."""
        texts, digest = batch_texts(batch, self.label_view, self.dfat, self.modalities)
        usable = torch.tensor([bool(text) for text in texts], device=self.device)
        image = study_mean(normalise(self.encoder.images(batch.pixels)), batch.image_counts)
        text = self.encoder.texts(texts)
        with torch.autocast(self.device.type, enabled=False):
            labels, healthy = self.label_view.loss(batch), self.label_view.columns(["no_finding"])[0]
            pairs = positive_pairs(digest, self.dfat.positives, labels, None if healthy < 0 else healthy)
            loss = info_nce(image, text, pairs, usable, self.encoder.temperature)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        self._loss, self._rows = loss.detach(), batch.rows
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, and stop before a non-finite update."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip)
        stop_unless_finite(norm, self._loss, self._rows, getattr(self.trainer, "datamodule", None), self.global_step)

    def configure_optimizers(self) -> Any:
        """AdamW; norms, biases and the temperature are not decayed."""
        every = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in every if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate)
        return warm_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.config.warmup)

    @torch.no_grad()
    def begin(self) -> None:
        """Encode the prompts with the weights of now."""
        self._classes: dict[str, list[ClassSentences]] = {}
        self._prompts: dict[str, Tensor] = {}
        for name in dict.fromkeys(self.modalities):
            classes = sentences(self.texts.findings, self.texts.names, MODALITY_TEXT[name], self.scoring)
            words = [text for one in classes for text in (*one.positive, *one.negative)]
            self._classes[name], self._prompts[name] = classes, self.encoder.texts(words)

    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        """See `Scored`. With `scoring.aggregate: joint` the features of a study's images are averaged."""
        image, counts = normalise(self.encoder.images(batch.pixels)), batch.image_counts
        modalities, how = modalities_of(batch, self.modalities), self.scoring.aggregate
        if how == "joint":
            image = study_mean(image, counts)
            self._keep(batch, image)
        else:
            self._keep(batch, study_mean(image, counts))
            modalities = [name for name, n in zip(modalities, counts.tolist(), strict=True) for _ in range(n)]
        found = image.new_empty(len(image), len(self.texts.findings))
        for name, classes in self._classes.items():
            rows = [place for place, of in enumerate(modalities) if of == name]
            similarity = over_prompts(cosine(image[rows], self._prompts[name]), classes)
            # A difference of two means of cosines lies in [-2, 2].
            found[rows] = to_unit(similarity / similarity.new_tensor([2.0 if one.negative else 1.0 for one in classes]))
        return {SCORER: found} if how == "joint" else over_images({SCORER: found}, counts, how)

    def _keep(self, batch: StudyBatch, image: Tensor) -> None:
        """For retrieval, where it is asked for."""
        if self.keeper is not None:
            self.keeper.add(batch, Features(image, image, image.new_zeros(())), self)

    def encode_texts(self, texts: list[str]) -> Features:
        """Features of reports, as the keeper takes them: global and local are the same."""
        found = self.encoder.texts(texts)
        return Features(found, found, found.new_zeros(()))


def load_clip(experiment: Experiment) -> tuple[TwoTowers, str]:
    """The CLIP of an experiment, checked against the side of its images, and the digest of its folder."""
    if experiment.clip.path is not None:
        folder = clip_folder(experiment.clip.path)
    else:
        place, side = Path(experiment.cache_dir).expanduser(), experiment.data.image_size
        folder = tiny_clip(experiment.clip.tiny, side, parts.tiny_texts(), place)
    encoder = OpenClipEncoder(folder) if is_open_clip(folder) else ClipEncoder(folder)
    encoder.check_side(experiment.data.image_size)
    return encoder, folder_digest(folder, [])


def build(
    experiment: Experiment, data: StudyDataModule, findings: tuple[str, ...], known: Mapping[str, Any],
    trained: Path | None,
) -> Clip:  # fmt: skip
    """See `build_baseline`."""
    check_prompts(experiment, findings)
    encoder, digest = load_clip(experiment)
    words = [parts.finding_text(data.ontology, name) for name in findings]
    texts = ClassTexts(findings, tuple(words), ("",) * len(findings))
    module = Clip(
        encoder, experiment.clip, parts.label_view(data), texts, experiment.dfat, experiment.scoring, data.modalities
    )
    module.base_digest = digest
    return module
