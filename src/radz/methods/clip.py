"""`method: clip`: two towers and the prompts of `scoring`, zero-shot or trained on the run's own pairs.

Radford et al. 2021 (arXiv 2103.00020); SigLIP: Zhai et al. 2023 (arXiv 2303.15343). Training is the softmax loss of the
former for both, with the positives of `dfat.positives` and the temperature that the model learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_modules.batch import StudyBatch
from radz.backbones.folder import folder_digest
from radz.config.schema import ClipConfig, DfatConfig
from radz.config.scoring import ScoringConfig
from radz.methods.base import Scored, Task, modalities_of
from radz.methods.clip_huggingface import ClipEncoder, clip_folder, tiny_clip
from radz.methods.clip_open_clip import OpenClipEncoder, is_open_clip
from radz.methods.dual_encoder import TwoTowers
from radz.models import factory
from radz.models.labels import MODALITY_TEXT, LabelView, batch_texts, finding_texts, label_view
from radz.models.losses import Features, cosine, info_nce, normalise, positive_pairs
from radz.models.pooling import over_images, study_mean
from radz.models.prompts import ClassSentences, Wording, check_prompts, said_and_denied, sentences
from radz.models.retrieval_features import Keeper
from radz.models.zero_shot import ClassTexts, over_prompts, over_wording, to_unit
from radz.training.optimizer import adamw

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
        self.gradient_clip = config.gradient_clip
        encoder.requires_grad_(config.train)
        if getattr(encoder.model, "logit_bias", None) is not None:  # of SigLIP's own loss; the softmax does not feel it
            encoder.model.logit_bias.requires_grad_(False)
        self.set_up(labels, texts.findings)

    def kept(self) -> set[str]:
        """All or nothing: what was not trained stands in its own folder."""
        return set(self.state_dict()) if self.trains else set()

    def training_step(self, batch: StudyBatch, batch_idx: int) -> Tensor:
        """Contrastive loss of a batch; studies without text take no part."""
        texts, digest = batch_texts(batch, self.label_view, self.dfat, self.modalities)
        usable = torch.tensor([bool(text) for text in texts], device=self.device)
        image = study_mean(normalise(self.encoder.images(batch.pixels)), batch.image_counts)
        text = self.encoder.texts(texts)
        with torch.autocast(self.device.type, enabled=False):
            labels = self.label_view.for_losses(batch, self.label_view.findings)
            pairs = positive_pairs(batch.rows, digest, self.dfat.positives, labels)
            loss = info_nce(image, text, pairs, usable, self.encoder.temperature)
        return self.log_loss(loss, batch)

    def on_train_batch_end(self, outputs: Any, batch: StudyBatch, batch_idx: int) -> None:
        """Keep the temperature within its bounds."""
        self.encoder.keep_temperature()

    def configure_optimizers(self) -> Any:
        """AdamW; norms, biases and the temperature are not decayed."""
        parts = {"clip": (self.config.learning_rate, self.named_parameters())}
        return adamw(parts, self.config.weight_decay, int(self.trainer.estimated_stepping_batches), self.config.warmup)

    @torch.no_grad()
    def begin(self) -> None:
        """Encode the prompts with the weights of now."""
        self._classes: dict[str, list[ClassSentences]] = {}
        self._prompts: dict[str, Tensor] = {}
        self._worded: dict[tuple[str, str], tuple[Wording, Tensor]] = {}
        for name in dict.fromkeys(self.modalities):
            classes = sentences(self.texts.findings, self.texts.names, MODALITY_TEXT[name], self.scoring)
            words = [text for one in classes for text in (*one.positive, *one.negative)]
            self._classes[name], self._prompts[name] = classes, self.encoder.texts(words)
            for key, one in (self.wordings or {}).items():
                said = said_and_denied(self.texts.names, MODALITY_TEXT[name], one)
                self._worded[name, key] = one, self.encoder.texts(said)

    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        """See `Scored`. With `scoring.aggregate: joint` the features of a study's images are averaged."""
        image, counts = normalise(self.encoder.images(batch.pixels)), batch.image_counts
        modalities, how = modalities_of(batch, self.modalities), self.scoring.aggregate
        self._study_image = study_mean(image, counts)
        if how == "joint":
            image = self._study_image
        else:
            modalities = [name for name, n in zip(modalities, counts.tolist(), strict=True) for _ in range(n)]
        self._each = image, modalities
        found = image.new_empty(len(image), len(self.texts.findings))
        for name, classes in self._classes.items():
            rows = [place for place, of in enumerate(modalities) if of == name]
            with torch.autocast(self.device.type, enabled=False):  # bf16 cosines would tie most studies
                similarity = over_prompts(cosine(image[rows], self._prompts[name]), classes)
            # A difference of two means of cosines lies in [-2, 2].
            found[rows] = to_unit(similarity / similarity.new_tensor([2.0 if one.negative else 1.0 for one in classes]))
        return {SCORER: found} if how == "joint" else over_images({SCORER: found}, counts, how)

    def agreement(self, batch: StudyBatch) -> dict[str, Tensor]:
        """See `Scored`: of what was scored, the mean feature of a study's images, or each."""
        found: dict[str, Tensor] = {}
        image, modalities = self._each
        for (modality, key), (wording, texts) in self._worded.items():
            rows = [place for place, of in enumerate(modalities) if of == modality]
            with torch.autocast(self.device.type, enabled=False):
                values = over_wording(cosine(image[rows], texts), wording)
            found.setdefault(key, values.new_empty(len(modalities), values.shape[1]))[rows] = values
        how = self.scoring.aggregate
        return found if how == "joint" else over_images(found, batch.image_counts, how)

    def keep(self, batch: StudyBatch, keeper: Keeper) -> None:
        image = self._study_image
        keeper.add(batch, Features(image, image, image.new_zeros(())), self)

    def encode_texts(self, texts: list[str]) -> Features:
        """Features of reports, as the keeper takes them: global and local are the same."""
        found = self.encoder.texts(texts)
        return Features(found, found, found.new_zeros(()))


def load_clip(config: ClipConfig, side: int, seed: int, cache_dir: str) -> tuple[TwoTowers, str]:
    """The CLIP of an experiment, checked against the `side` of its images, and the digest of its folder."""
    if config.path is not None:
        folder = clip_folder(config.path)
    else:
        shape = factory.seeded(config.tiny, seed)
        folder = tiny_clip(shape, side, factory.tiny_texts(), Path(cache_dir).expanduser())
    encoder = OpenClipEncoder(folder) if is_open_clip(folder) else ClipEncoder(folder)
    encoder.check_side(side)
    return encoder, folder_digest(folder, [])


def build(task: Task) -> Clip:
    """See `registry.build`."""
    experiment, data, findings = task.experiment, task.data, task.findings
    check_prompts(experiment.scoring, experiment.data, findings)
    encoder, digest = load_clip(experiment.clip, experiment.data.image_size, experiment.seed, experiment.cache_dir)
    names = tuple(finding_texts(data.ontology, findings).values())
    texts = ClassTexts(findings, names, ("",) * len(findings))
    sections = experiment.dfat, experiment.scoring
    module = Clip(encoder, experiment.clip, label_view(data), texts, *sections, data.modalities)
    module.base_digest = digest
    return module
