"""Zero-shot scores of images for findings: prompt, description, anchor, fused (method.md 4).

Shapes: N images (studies), C findings, P prompts per finding, K anchors of the training bank, e feature width.
Every scorer leaves as fp32 [N, C] in [0, 1] through a fixed increasing map, so that no ranking changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_modules.errors import InputError
from radz.config import DfatConfig, ScoringConfig
from radz.encode import MODALITY_TEXT, Encoder
from radz.losses import Features, cosine
from radz.scoring.prompts import ClassSentences, sentences

BATCH = 64
"""class texts that are encoded together at most"""
SCORERS = ("prompt", "description", "anchor", "fused")


@dataclass(frozen=True)
class ClassTexts:
    """What is known of the C findings to be scored: names as text, and their descriptions ('' where none)."""

    findings: tuple[str, ...]
    names: tuple[str, ...]
    descriptions: tuple[str, ...]


def pair_similarity(image: Features, text: Features, kind: str, config: DfatConfig) -> Tensor:
    """Similarity [N, C] of the feature pairs that the loss trained, or of one pair by name.

    Args:
        image, text: features of N images and C texts.
        kind: `trained` | `global` | `local`.
        config: its loss and weight say what `trained` means; `cross` never trains the global-global pair.
    """
    if kind == "trained" and config.loss == "cross":
        return (cosine(image.overall, text.local) + cosine(image.local, text.overall)) / 2
    if kind == "trained" and config.loss == "global_local":
        near, far = cosine(image.local, text.local), cosine(image.overall, text.overall)
        return config.global_weight * far + (1 - config.global_weight) * near
    return cosine(image.local, text.local) if kind == "local" else cosine(image.overall, text.overall)


def over_images(scores: Mapping[str, Tensor], counts: Tensor, how: str) -> dict[str, Tensor]:
    """Scores [M, C] of all images of B studies, in order, as one score [B, C] of each study.

    Args:
        counts: int64 [B], images of each study; they sum to M.
        how: `mean` or `max`.
    """
    sizes = counts.tolist()
    return {
        name: torch.stack([part.mean(0) if how == "mean" else part.amax(0) for part in values.split(sizes)])
        for name, values in scores.items()
    }


def fused(image: Tensor, prompt: Tensor, form: str, temperature: float) -> Tensor:
    """Compare images and class prompts by their similarities to the anchors.

    Args:
        image: [N, K] cosines. prompt: [C, K] cosines.
        form: `centred` (each row loses its mean over anchors, then cosine) or `authors` (softmax over the classes of
            the inner products of similarities / temperature).

    Raises:
        InputError: fewer than three anchors.
    """
    if image.shape[1] < 3:
        raise InputError(f"scoring: the fused scorer needs three anchors or more, the bank has {image.shape[1]}")
    if form == "centred":
        return cosine(image - image.mean(1, keepdim=True), prompt - prompt.mean(1, keepdim=True))
    return ((image / temperature) @ (prompt / temperature).T).softmax(1)


def to_unit(raw: Tensor) -> Tensor:
    """Cosines in [-1, 1] to [0, 1] without touching their order."""
    return ((raw.float() + 1) / 2).clamp(0, 1)


def over_prompts(similarity: Tensor, classes: Sequence[ClassSentences]) -> Tensor:
    """[N, S] similarities to the sentences of all classes, positive before negative, to [N, C]: mean less mean."""
    columns, start = [], 0
    for one in classes:
        middle = start + len(one.positive)
        end = middle + len(one.negative)
        mean = similarity[:, start:middle].mean(-1)
        columns.append(mean - similarity[:, middle:end].mean(-1) if one.negative else mean)
        start = end
    return torch.stack(columns, dim=-1)


class ZeroShot:
    """Class texts encoded with the current weights; call `refresh` after the weights have moved."""

    def __init__(
        self, encoder: Encoder, texts: ClassTexts, dfat: DfatConfig, scoring: ScoringConfig, modalities: Sequence[str]
    ) -> None:
        """`modalities`: keys of MODALITY_TEXT that studies will have; prompts name them."""
        self.encoder, self.texts, self.dfat, self.scoring = encoder, texts, dfat, scoring
        self.modalities = tuple(dict.fromkeys(modalities))

    @torch.no_grad()
    def refresh(self, anchors: Tensor, class_anchors: Tensor, temperature: float | None = None) -> None:
        """Encode prompts and descriptions.

        Args:
            anchors: raw vectors [K, d] or sets [K, S, d] of the training bank, the axes of `fused`.
            class_anchors: raw vectors [C, d] or sets [C, S, d] of the findings to be scored; a NaN row has no anchor.
            temperature: of `fused: authors`; None is that of the settings.
        """
        self._temperature = self.dfat.temperature if temperature is None else temperature
        # Descriptions may be missing for some findings; any text keeps the rows in place, their scores become NaN.
        described = [text or name for text, name in zip(self.texts.descriptions, self.texts.names, strict=True)]
        self.classes = {
            name: sentences(self.texts.findings, self.texts.names, MODALITY_TEXT[name], self.scoring)
            for name in self.modalities
        }
        self._prompts = {
            name: self.encoder.encode_texts([text for one in classes for text in (*one.positive, *one.negative)], BATCH)
            for name, classes in self.classes.items()
        }
        self._described = self.encoder.encode_texts(described, BATCH)
        self._anchors = self.encoder.anchor_features(anchors)
        self._has_anchor = ~class_anchors.flatten(1).isnan().any(1)
        self._class_anchors = self.encoder.anchor_features(class_anchors.nan_to_num())
        self._has_text = torch.tensor([bool(text) for text in self.texts.descriptions], device=anchors.device)

    def score(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> dict[str, Tensor]:
        """All scorers [B, C] of B studies: their images in one sequence, or each alone, as `scoring.aggregate` says.

        Args:
            pixels, counts, modalities: as for `Encoder.encode_images`.
        """
        return self.score_features(self.encode(pixels, counts, modalities), counts, modalities)

    def encode(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> Features:
        """Features of what `score` scores alone: of B studies, or of all their images."""
        each, ones = list(modalities), counts
        if self.scoring.aggregate != "joint":
            each, ones = self._each(counts, modalities), torch.ones(int(counts.sum()), dtype=counts.dtype)
        return self.encoder.encode_images(pixels, ones.to(counts.device), each)

    def score_features(self, image: Features, counts: Tensor, modalities: Sequence[str]) -> dict[str, Tensor]:
        """`score` from the features of `encode`."""
        how = self.scoring.aggregate
        each = list(modalities) if how == "joint" else self._each(counts, modalities)
        with torch.autocast(image.overall.device.type, enabled=False):
            found = self.scores(image, each)
        return found if how == "joint" else over_images(found, counts, how)

    def study_features(self, image: Features, counts: Tensor) -> Features:
        """One feature per study from those of `encode`: images that were scored alone are averaged."""
        if self.scoring.aggregate == "joint":
            return image
        sides = (image.overall.split(counts.tolist()), image.local.split(counts.tolist()))
        overall, local = (torch.stack([part.mean(0) for part in side]) for side in sides)
        return Features(overall, local, image.peak_share)

    @staticmethod
    def _each(counts: Tensor, modalities: Sequence[str]) -> list[str]:
        return [name for name, count in zip(modalities, counts.tolist(), strict=True) for _ in range(count)]

    @torch.no_grad()
    def scores(self, image: Features, modalities: Sequence[str]) -> dict[str, Tensor]:
        """All scorers [N, C] in [0, 1]; NaN where a finding has no description or anchor, or `fused` lacks axes.

        Args:
            image: features of N studies.
            modalities: that of each study.
        """
        found: dict[str, Tensor] = {}
        for modality in dict.fromkeys(modalities):
            rows = torch.tensor([i for i, name in enumerate(modalities) if name == modality])
            rows = rows.to(image.overall.device)
            for scorer, values in self.of_modality(image.rows(rows), modality).items():
                found.setdefault(scorer, values.new_empty(len(modalities), values.shape[1]))[rows] = values
        return found

    def readable(self, scorer: str) -> list[bool]:
        """Which findings `anchor` or `description` can score: those described; every one for the other scorers."""
        of = {"anchor": self._has_anchor, "description": self._has_text}
        return of[scorer].tolist() if scorer in of else [True] * len(self.texts.findings)

    def patch_scores(self, patches: Tensor, modality: str, scorer: str) -> Tensor:
        """Similarity [N, C] of the features [N, e] of single image tokens to the findings: where an image speaks.

        `anchor`: cosine with the class anchor. Any other scorer: with the class prompts, by the pair of which the loss
        trained the image's side locally.
        """
        if scorer == "anchor":
            return cosine(patches, self._class_anchors)
        prompts = self._prompts[modality]
        text = prompts.local if self.dfat.loss == "global_local" else prompts.overall
        return over_prompts(cosine(patches, text), self.classes[modality])

    def of_modality(self, image: Features, modality: str) -> dict[str, Tensor]:
        """`scores` of N studies of one modality; gradients pass."""
        kind, prompts, classes = self.scoring.prompt_features, self._prompts[modality], self.classes[modality]
        prompt = over_prompts(pair_similarity(image, prompts, kind, self.dfat), classes)
        combined = torch.full_like(prompt, float("nan"))
        if len(self._anchors) >= 3:
            profile = over_prompts(cosine(prompts.overall, self._anchors).T, classes).T
            combined = fused(cosine(image.overall, self._anchors), profile, self.scoring.fused, self._temperature)
        nan = torch.tensor(float("nan"), device=combined.device)
        description = to_unit(pair_similarity(image, self._described, kind, self.dfat))
        anchor = to_unit(cosine(image.overall, self._class_anchors))
        return {
            # A difference of two means of cosines lies in [-2, 2].
            "prompt": to_unit(prompt / prompt.new_tensor([2.0 if one.negative else 1.0 for one in classes])),
            "description": torch.where(self._has_text, description, nan),
            "anchor": torch.where(self._has_anchor, anchor, nan),
            "fused": to_unit(combined) if self.scoring.fused == "centred" else combined.float(),
        }
