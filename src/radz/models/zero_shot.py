"""Zero-shot scores of images for findings: prompt, description, anchor, fused (docs/method.md 4).

Shapes: N images (studies), C findings, P prompts per finding, K anchors of the training bank, e feature width.
Every scorer leaves as fp32 [N, C] in [0, 1] through a fixed increasing map, so that no ranking changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data_modules.errors import InputError
from radz.config.schema import DfatConfig
from radz.config.scoring import ScoringConfig
from radz.models.centre import Shared
from radz.models.encoder import Encoder
from radz.models.labels import MODALITY_TEXT
from radz.models.local_similarity import local_similarity
from radz.models.losses import Features, cosine, trained_pairs
from radz.models.pooling import over_images
from radz.models.prompts import ClassSentences, Wording, said_and_denied, sentences

BATCH = 64
"""class texts that are encoded together at most"""
SCORERS = ("prompt", "description", "anchor", "fused")
LOCAL = "local"
"""scorer of models that `dfat.local_weight` trained"""


def scorers(config: DfatConfig) -> tuple[str, ...]:
    """Those that a model of these settings has."""
    return (*SCORERS, LOCAL) if config.local_weight else SCORERS


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
    if kind == "trained":
        return trained_pairs(cosine, image, text, config.loss, config.global_weight)
    return cosine(image.local, text.local) if kind == "local" else cosine(image.overall, text.overall)


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


def spoken(classes: Sequence[ClassSentences]) -> list[str]:
    """The sentences of all classes, positive before negative."""
    return [text for one in classes for text in (*one.positive, *one.negative)]


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


def class_similarity(similarity: Tensor, classes: Sequence[ClassSentences]) -> Tensor:
    """`over_prompts` in [-1, 1]: a difference of two means of cosines lies in [-2, 2]."""
    mean = over_prompts(similarity, classes)
    return mean / mean.new_tensor([2.0 if one.negative else 1.0 for one in classes])


def over_wording(similarity: Tensor, wording: Wording) -> Tensor:
    """[N, S C] similarities to `said_and_denied`, to the mean of each side, [N, 2C], or to mean less mean, [N, C]."""
    said, denied = len(wording.positive), len(wording.negative)
    each = similarity.unflatten(1, (said + denied, -1))
    sides = [side.mean(1) for side in each.split([said, denied], dim=1) if side.shape[1]]
    if wording.apart:
        return torch.cat(sides, dim=1)
    return sides[0] - sides[1] if denied else sides[0]


class ZeroShot:
    """Class texts encoded with the current weights; call `refresh` after the weights have moved."""

    def __init__(
        self, encoder: Encoder, texts: ClassTexts, of_bank: ClassTexts, dfat: DfatConfig, scoring: ScoringConfig,
        modalities: Sequence[str],
    ) -> None:  # fmt: skip
        """`of_bank`: what is known of the findings of the training bank; `modalities`: keys of MODALITY_TEXT that
        studies will have, which prompts name. Texts that will be cut are told.
        """
        self.of_bank = of_bank
        self.encoder, self.texts, self.dfat, self.scoring = encoder, texts, dfat, scoring
        self.modalities = tuple(dict.fromkeys(modalities))
        prompts = [text for name in self.modalities for text in spoken(self._sentences(texts, name))]
        encoder.cut(prompts).tell("sentences of the findings", "dfat.max_text_tokens")
        encoder.cut(list(filter(None, texts.descriptions))).tell("descriptions", "dfat.max_text_tokens")

    @torch.no_grad()
    def refresh(self, anchors: Tensor, class_anchors: Tensor, temperature: float | None = None) -> None:
        """Encode prompts and descriptions.

        Args:
            anchors: raw vectors [K, d] or sets [K, S, d] of the training bank, the axes of `fused`.
            class_anchors: raw vectors [C, d] or sets [C, S, d] of the findings to be scored; a NaN row has no anchor.
            temperature: of `fused: authors`; None is that of the settings.
        """
        self._temperature = self.dfat.temperature if temperature is None else temperature
        self.classes = {name: self._sentences(self.texts, name) for name in self.modalities}
        encoded = {
            name: self._class_texts(spoken(classes), spoken(self._sentences(self.of_bank, name)))
            for name, classes in self.classes.items()
        }
        self._prompts = {name: features for name, (features, _) in encoded.items()}
        self._prompts_share = encoded[self.modalities[0]][1]
        # Descriptions may be missing for some findings; any text keeps the rows in place, their scores become NaN.
        described = [text or name for text, name in zip(self.texts.descriptions, self.texts.names, strict=True)]
        self._described, _ = self._class_texts(described, [text for text in self.of_bank.descriptions if text])
        trained = self.encoder.anchor_features(anchors)
        shared = self.encoder.of_bank(trained)
        self._anchors = shared.taken_from(trained)
        self._has_anchor = ~class_anchors.flatten(1).isnan().any(1)
        self._class_anchors = shared.taken_from(self.encoder.anchor_features(class_anchors.nan_to_num()))
        self._has_text = torch.tensor([bool(text) for text in self.texts.descriptions], device=anchors.device)

    def _sentences(self, texts: ClassTexts, modality: str) -> list[ClassSentences]:
        return sentences(texts.findings, texts.names, MODALITY_TEXT[modality], self.scoring)

    def prompts(self) -> tuple[Tensor, Shared]:
        """What asserts each finding [C, e]: the mean of its sentences' global features in the first modality, and what
        was taken from them. Denials all say "no", which is no fault of the features."""
        modality = self.modalities[0]
        classes, features = self.classes[modality], self._prompts[modality].overall
        each = features.split([len(side) for one in classes for side in (one.positive, one.negative)])
        return torch.stack([sentences.mean(0) for sentences in each[::2]]), self._prompts_share

    @torch.no_grad()
    def encode_wordings(self, wordings: Mapping[str, Wording]) -> None:
        """Encode what each wording says and denies of the findings, for `agreement`."""
        self._worded: dict[tuple[str, str], Features] = {}
        self._wordings = wordings
        for modality in self.modalities:
            for name, wording in wordings.items():
                said, of_bank = (
                    said_and_denied(texts.names, MODALITY_TEXT[modality], wording)
                    for texts in (self.texts, self.of_bank)
                )
                self._worded[modality, name] = self._class_texts(said, of_bank)[0]

    @torch.no_grad()
    def agreement(self, image: Features, counts: Tensor, modalities: Sequence[str]) -> dict[str, Tensor]:
        """{wording: similarity [B, 2C] of B studies to what it says, and then to what it denies, of each finding};
        where it is not `apart`, their difference [B, C].

        Args:
            image: of `encode`; counts, modalities: as there.
        """
        how, kind = self.scoring.aggregate, self.scoring.prompt_features
        each = list(modalities) if how == "joint" else self._each(counts, modalities)
        found: dict[str, Tensor] = {}
        with torch.autocast(image.overall.device.type, enabled=False):
            for (modality, name), text in self._worded.items():
                rows = torch.tensor([i for i, one in enumerate(each) if one == modality], dtype=torch.int64)
                similarity = pair_similarity(image.rows(rows.to(image.overall.device)), text, kind, self.dfat)
                values = over_wording(similarity, self._wordings[name])
                found.setdefault(name, values.new_empty(len(each), values.shape[1]))[rows] = values
        return found if how == "joint" else over_images(found, counts, how)

    def _class_texts(self, texts: list[str], of_bank: list[str]) -> tuple[Features, Shared]:
        """Features of prompts or descriptions, with `dfat.centre` less what those of the training bank share, and that
        of the global ones.

        That of the findings to be scored would be nearer, but then the score of one finding would depend on which
        others are asked for, and of one alone nothing would be left.
        """
        bank = of_bank if self.encoder.centre is not None else []
        kinds = min(len(bank), len(self.of_bank.findings))  # each finding has a sentence or more, or none
        features, count = self.encoder.encode_texts([*texts, *bank], BATCH, raw=True), len(texts)
        of_all, of_local = self.encoder.of_texts(features.overall[count:], features.local[count:], kinds)
        overall, local = of_all.taken_from(features.overall[:count]), of_local.taken_from(features.local[:count])
        return replace(features, overall=overall, local=local), of_all

    def score(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> dict[str, Tensor]:
        """All scorers [B, C] of B studies: their images in one sequence, or each alone, as `scoring.aggregate` says.

        Args:
            pixels, counts, modalities: as for `Encoder.encode_images`.
        """
        return self.score_features(self.encode(pixels, counts, modalities), counts, modalities)

    def encode(self, pixels: Tensor, counts: Tensor, modalities: Sequence[str]) -> Features:
        """Features of what `score` scores alone: of B studies, or of all their images."""
        return self.encoder.encode_images(pixels, *self.sequences(counts, modalities))

    def sequences(self, counts: Tensor, modalities: Sequence[str]) -> tuple[Tensor, list[str]]:
        """Images and modality of each sequence: of a study, or of each of its images where these are scored alone."""
        if self.scoring.aggregate == "joint":
            return counts, list(modalities)
        ones = torch.ones(int(counts.sum()), dtype=counts.dtype, device=counts.device)
        return ones, self._each(counts, modalities)

    def score_features(self, image: Features, counts: Tensor, modalities: Sequence[str]) -> dict[str, Tensor]:
        """`score` from the features of `encode`."""
        how = self.scoring.aggregate
        each = list(modalities) if how == "joint" else self._each(counts, modalities)
        with torch.autocast(image.overall.device.type, enabled=False):
            scores = self.scores(image, each)
        return scores if how == "joint" else over_images(scores, counts, how)

    def study_features(self, image: Features, counts: Tensor) -> Features:
        """One feature per study from those of `encode`: images that were scored alone are averaged."""
        if self.scoring.aggregate == "joint":
            return image
        mean = over_images({"overall": image.overall, "local": image.local}, counts, "mean")
        return Features(**mean, peak_share=image.peak_share)

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
        scores: dict[str, Tensor] = {}
        for modality in dict.fromkeys(modalities):
            rows = torch.tensor([i for i, name in enumerate(modalities) if name == modality])
            rows = rows.to(image.overall.device)
            for scorer, values in self.of_modality(image.rows(rows), modality).items():
                scores.setdefault(scorer, values.new_empty(len(modalities), values.shape[1]))[rows] = values
        return scores

    def readable(self, scorer: str) -> list[bool]:
        """Which findings `anchor` or `description` can score: those described; every one for the other scorers."""
        of = {"anchor": self._has_anchor, LOCAL: self._has_anchor, "description": self._has_text}
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
        prompt = class_similarity(pair_similarity(image, prompts, kind, self.dfat), classes)
        combined = torch.full_like(prompt, float("nan"))
        if len(self._anchors) >= 3:
            profile = over_prompts(cosine(prompts.overall, self._anchors).T, classes).T
            combined = fused(cosine(image.overall, self._anchors), profile, self.scoring.fused, self._temperature)
        nan = torch.tensor(float("nan"), device=combined.device)
        local = {}
        if image.tokens is not None:
            found = local_similarity(image.tokens, self._class_anchors, self.dfat.local_temperature)
            local[LOCAL] = torch.where(self._has_anchor, to_unit(found), nan)
        description = to_unit(pair_similarity(image, self._described, kind, self.dfat))
        anchor = to_unit(cosine(image.overall, self._class_anchors))
        return {
            "prompt": to_unit(prompt),
            "description": torch.where(self._has_text, description, nan),
            "anchor": torch.where(self._has_anchor, anchor, nan),
            "fused": to_unit(combined) if self.scoring.fused == "centred" else combined.float(),
            **local,
        }
