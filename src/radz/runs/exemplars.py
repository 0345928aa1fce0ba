"""A doubtful label put to the backbone: one study that has the finding, one that lacks it, and the study itself.

After Machine Vision Therapy (arXiv 2312.02546), whose model is shown an exemplar of either kind before it is asked.
Shapes: N studies and K findings of `radz data denoise`; a place is (study of the N, finding of the K).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, islice

import numpy as np
import torch
from lightning import LightningModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.datamodule import StudyDataModule
from data_modules.errors import InputError
from data_modules.findings import NO_FINDING
from data_modules.progress import Bar
from data_modules.study import StudyTable
from radz.backbones import Backbone
from radz.config.vqa import VqaConfig
from radz.methods.vqa_questions import Question, log_probabilities, question
from radz.models.labels import MODALITY_TEXT, finding_text
from radz.training.trainer import lone_trainer

Place = tuple[int, int]
Kinds = tuple[NDArray[np.int64], NDArray[np.int64]]
"""studies with a finding and without it, the most trusted first"""
REFERENCES = 8
"""studies that say where answers about a finding lie, half of them with it"""
SHOWN = (
    "The first {modality} shows {finding}. The second {modality} does not show {finding}. ",
    "The first {modality} does not show {finding}. The second {modality} shows {finding}. ",
)
ASKED = "Does the third {modality} show {finding}? Answer {yes} or {no}."


class Exemplars:
    """Training studies by how far their labels are to be trusted.

    Args:
        rows: [N], of the table.
        labels: [N, K], 1, 0 or NaN.
        trust: [N, K], probability of the label by what has not seen the patient; NaN where it is unknown or doubted.
    """

    def __init__(
        self, table: StudyTable, rows: NDArray[np.int64], labels: NDArray[np.float64], trust: NDArray[np.float64]
    ) -> None:
        self.rows, self.labels, self.trust = rows, labels, trust
        self.people, self.corpus, self.modality = table.people[rows], table.corpus[rows], table.modality[rows]
        self.trains = table.split[rows] == "train"
        self._kinds = lru_cache(maxsize=None)(self._sorted)

    def pair(self, place: Place) -> Place | None:
        """The most trusted study with the finding and the one without, of patients other than the study's.

        Of its corpus, or else of its modality; None where either has not two patients of each kind.
        """
        if (kinds := self._pool(place)) is None:
            return None
        has, lacks = (kind[self.people[kind] != self.people[place[0]]][0] for kind in kinds)
        return int(has), int(lacks)

    def references(self, place: Place) -> list[Place]:
        """Up to REFERENCES places of the finding, those with it before as many without; trusted more and less."""
        kinds = self._pool(place) or ()
        count = min([REFERENCES // 2, *map(len, kinds)])
        return [(int(i), place[1]) for kind in kinds for i in kind[np.linspace(0, len(kind) - 1, count).astype(int)]]

    def _pool(self, place: Place) -> Kinds | None:
        i, k = place
        return self._kinds(k, int(self.corpus[i]), "") or self._kinds(k, -1, str(self.modality[i]))

    def _sorted(self, k: int, corpus: int, modality: str) -> Kinds | None:
        """Of a corpus, or of a modality. Two patients of each kind, so that every reference has exemplars as well."""
        among = self.modality == modality if modality else self.corpus == corpus
        usable = np.flatnonzero(among & self.trains & ~np.isnan(self.trust[:, k]))
        usable = usable[np.argsort(-self.trust[usable, k], kind="stable")]
        kinds = usable[self.labels[usable, k] == 1], usable[self.labels[usable, k] == 0]
        return kinds if min(len(np.unique(self.people[kind])) for kind in kinds) > 1 else None


class Asker(LightningModule):
    """Asks a backbone of depth full about places; of a study its first image is shown, of a CT the middle slice.

    Args:
        count: places that are asked at most.
        accelerator: where.

    Raises:
        InputError: three images and a question are longer than the backbone's context.
    """

    def __init__(
        self, backbone: Backbone, data: StudyDataModule, config: VqaConfig, count: int, accelerator: str
    ) -> None:
        super().__init__()
        self.backbone, self.data, self.config = backbone.eval(), data, config
        self.count, self.accelerator = count, accelerator
        self.names = [finding_text(data.ontology, name) for name in data.findings]
        self._questions = lru_cache(maxsize=None)(self._tokenised)
        each = backbone.tokens_per_image(data.config.image_size)
        questions = [
            pair for k in range(len(self.names)) for m in set(data.modalities) for pair in self._questions(k, m)
        ]
        longest = max(len(one.asked) + max(map(len, one.answers)) for one in questions) + 3 * (each - 1)
        if longest > backbone.context:
            raise InputError(
                f"ask: three images of {each} tokens and the question make {longest}, which exceeds the backbone's "
                f"context of {backbone.context}; leave ask out, or name a run of more context or backbone.image_pool"
            )

    def log_odds(self, places: Sequence[Place], exemplars: Exemplars) -> dict[Place, float]:
        """Log-odds of yes against no of the first `count` places that have exemplars, 0 at those of an average study.

        How readily a model says yes is a matter of the finding, and of its corpus. What is taken out lies midway
        between the medians of the references with the finding and of those without: one that is labelled wrongly would
        move the median of all of them to either kind.
        """
        able = (place for place in places if self.data.findings[place[1]] != NO_FINDING and exemplars.pair(place))
        asked = list(islice(able, self.count))
        groups = {place: (place[1], int(exemplars.corpus[place[0]])) for place in asked}
        references = {group: exemplars.references(place) for place, group in groups.items()}
        every = dict.fromkeys(chain(asked, *references.values()))
        shown = {place: [*(exemplars.pair(place) or ()), place[0]] for place in every}
        loader: DataLoader[tuple[int, ...]] = DataLoader(
            [(*exemplars.rows[studies].tolist(), k) for (_, k), studies in shown.items()],  # type: ignore[arg-type]
            batch_size=1,
            collate_fn=list,
        )
        with Bar(total=len(shown), desc="ask", unit="study") as self.bar:
            found = lone_trainer(self.accelerator).predict(self, loader) if shown else []
        raw = dict(zip(shown, found, strict=True))
        kinds = {group: np.reshape([raw[one] for one in own], (2, -1)) for group, own in references.items()}
        middle = {group: np.median(answers, axis=1).mean() for group, answers in kinds.items()}
        return {place: float(raw[place] - middle[group]) for place, group in groups.items()}

    def predict_step(self, batch: list[tuple[int, int, int, int]], batch_idx: int) -> float:
        """Of one (table row with the finding, without it, study, finding): mean over both orders of the exemplars."""
        ((has, lacks, study, k),) = batch
        images = self.backbone.image_embeddings(self.backbone.prepare(self._images([has, lacks, study])))
        total = 0.0
        for order, asked in zip(((0, 1, 2), (1, 0, 2)), self._questions(k, self._modality(study)), strict=True):
            yes, no = log_probabilities(self.backbone, images[list(order)].flatten(0, 1)[None], asked)[0].tolist()
            total += yes - no
        self.bar.update()
        return total / 2

    def _modality(self, row: int) -> str:
        return str(self.data.table.modality[row])

    def _images(self, rows: Sequence[int]) -> Tensor:
        """uint8 [rows, C, H, W]."""
        found = []
        for row in rows:
            first = self.data.table.image_offsets[row]
            slices = self.data.cache.batch([first])
            found.append(torch.from_numpy(slices[len(slices) // 2]))
        channels = max(map(len, found))
        return torch.stack([image.expand(channels, -1, -1) for image in found]).to(self.backbone.device)

    def _tokenised(self, k: int, modality: str) -> list[Question]:
        """About finding k, with the exemplars in either order."""
        words = {"modality": MODALITY_TEXT[modality], "finding": self.names[k]}
        answers = self.config.yes, self.config.no
        texts = [(shown + ASKED).format(**words, yes=answers[0].lower(), no=answers[1].lower()) for shown in SHOWN]
        return [question(self.backbone, text, 3, answers) for text in texts]
