"""`method: vqa`: the backbone asked in words, yes or no for each finding and as a multiple choice of all of them.

This is what the paper compares with: the same model, without its features. Scores are log-odds of the answers, or
parsed from free ones; see `radz.config.vqa`. It needs no training, and takes the weights of a trained run as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz.backbones import Backbone
from radz.config.checks import known_findings
from radz.config.scoring import ScoringConfig
from radz.config.vqa import VqaConfig
from radz.methods import registry
from radz.methods.base import Scored, Task, modalities_of
from radz.methods.trained import load_trained, trained_experiment
from radz.methods.vqa_answers import WRITTEN, letters, over_read_images, read_choice, read_yes_no
from radz.methods.vqa_questions import Question, log_probabilities, question, scores, vectors, written
from radz.models import factory
from radz.models.labels import MODALITY_TEXT, LabelView, finding_texts, label_view
from radz.models.losses import cosine
from radz.models.pooling import over_images
from radz.models.prompts import ClassSentences, sentences
from radz.models.zero_shot import class_similarity, spoken, to_unit

FROZEN: dict[str, Any] = {"train": "frozen", "train_projector": False, "train_tower": False}
"""settings of a backbone that is only asked"""


class Asked(Scored):
    """Asks a backbone (full depth) about every study.

    Args:
        findings: the C findings; names: as words.
        modalities: one for each corpus.
        scoring: how a study's images are put together, and the prompts of `native`.
    """

    trains = False
    backbone: Backbone

    def __init__(
        self, backbone: Backbone, config: VqaConfig, labels: LabelView, findings: Sequence[str], names: Sequence[str],
        modalities: Sequence[str], scoring: ScoringConfig,
    ) -> None:  # fmt: skip
        super().__init__()
        self.strict_loading = False
        self.backbone, self.config, self.names = backbone, config, tuple(names)
        self.findings = tuple(findings)
        self.modalities, self.scoring, self.aggregate = tuple(modalities), scoring, scoring.aggregate
        self.headline = f"vqa_{config.headline}"
        options = [*names, *([config.none] if config.none else [])]
        asks_choice = any(name.startswith("choice") for name in config.scorers)
        self.marks = letters(len(options)) if config.answers == "letters" and asks_choice else []
        if asks_choice and len(options) < 2:
            raise InputError("vqa.none: empty leaves one option only; name it, or leave choice out of vqa.scorers")
        self.choices = self.marks or options
        lines = [f"{mark}. {name}" for mark, name in zip(self.marks, options, strict=True)] if self.marks else options
        self.options = "\n".join(lines)
        self._question = lru_cache(maxsize=None)(self._tokenised)
        self._prompts = lru_cache(maxsize=None)(self._embedded)
        self.set_up(labels, findings)

    def score(self, batch: StudyBatch) -> dict[str, Tensor]:
        counts, modalities = batch.image_counts, modalities_of(batch, self.modalities)
        joint = self.aggregate == "joint"
        if not joint:
            pairs = zip(modalities, counts.tolist(), strict=True)
            modalities, counts = [name for name, n in pairs for _ in range(n)], torch.ones(len(batch.pixels)).long()
        tokens = self.backbone.image_embeddings(self.backbone.prepare(batch.pixels))
        self._studies = tokens.split(counts.tolist()), modalities
        found = {f"vqa_{name}": self._ask_all(name, self.names).to(batch.rows.device) for name in self.config.scorers}
        self._said = found.get("vqa_yes_no")
        if joint:
            return found
        read = {name: values for name, values in found.items() if name.endswith(WRITTEN)}
        rest = {name: values for name, values in found.items() if name not in read}
        answers = {name: over_read_images(one, batch.image_counts, self.aggregate) for name, one in read.items()}
        together = over_images(rest, batch.image_counts, self.aggregate) | answers
        return {name: together[name] for name in found}

    def agreement(self, batch: StudyBatch) -> dict[str, Tensor]:
        """See `Scored`: the question of `vqa.yes_no` about each finding, and about "no" finding."""
        if self._said is None:
            return {}
        denied = self._ask_all("yes_no", [f"no {name}" for name in self.names]).to(batch.rows.device)
        found = {"vqa.yes_no": torch.cat([self._said, denied], dim=1)}
        return found if self.aggregate == "joint" else over_images(found, batch.image_counts, self.aggregate)

    def _ask_all(self, scorer: str, names: Sequence[str]) -> Tensor:
        """[N, C] of the studies, or images, that were scored last, about C `names`; those of one shape together."""
        studies, modalities = self._studies
        groups: dict[tuple[int, str], list[int]] = {}
        for place, (study, modality) in enumerate(zip(studies, modalities, strict=True)):
            groups.setdefault((len(study), modality), []).append(place)
        found = torch.empty(len(studies), len(names))
        for (images, modality), places in groups.items():
            seen = torch.stack([studies[place].flatten(0, 1) for place in places])
            found[places] = self._ask(scorer, names, seen, images, modality).cpu()
        return found

    def _ask(self, scorer: str, names: Sequence[str], seen: Tensor, images: int, modality: str) -> Tensor:
        """[B, C] of studies of the same number of images, whose tokens are `seen` [B, P, d]."""
        if scorer == "native":
            classes, prompts = self._prompts(modality)
            ours = vectors(self.backbone, seen, self.config.embedding_instruction, "", images)
            return to_unit(class_similarity(cosine(ours, prompts), classes))
        form, free = scorer.removesuffix("_written"), scorer.endswith("_written")
        if form == "choice":
            asked = self._question("", images, modality, free)
            if free:
                answers = written(self.backbone, seen, asked, self.config.max_new_tokens)
                read = [read_choice(answer, self.names, self.marks, self.config.none) for answer in answers]
                return torch.tensor(read)
            return scores(log_probabilities(self.backbone, seen, asked))[:, : len(self.names)]
        columns = []
        for name in names:
            asked = self._question(name, images, modality, free)
            if free:
                answers = written(self.backbone, seen, asked, self.config.max_new_tokens)
                columns.append(torch.tensor([read_yes_no(a, self.config.yes, self.config.no) for a in answers]))
            else:
                columns.append(scores(log_probabilities(self.backbone, seen, asked))[:, 0])
        return torch.stack(columns, dim=1)

    def _embedded(self, modality: str) -> tuple[list[ClassSentences], Tensor]:
        """The sentences of all classes, and the model's own vectors [S, d] of them."""
        classes = sentences(self.findings, self.names, MODALITY_TEXT[modality], self.scoring)
        none = torch.zeros(1, 0, self.backbone.hidden_size, device=self.backbone.device)
        said = [vectors(self.backbone, none, self.config.embedding_instruction, text, 0) for text in spoken(classes)]
        return classes, torch.cat(said)

    def _tokenised(self, finding: str, images: int, modality: str, free: bool) -> Question:
        """The question about a finding, or with '' the multiple choice; free answers have none given."""
        words = {"modality": MODALITY_TEXT[modality]}
        if finding:
            capital = finding[:1].upper() + finding[1:]
            text = self.config.yes_no.format(finding=finding, Finding=capital, **words)
            answers = [self.config.yes, self.config.no]
        else:
            text, answers = self.config.choice.format(options=self.options, **words), list(self.choices)
        return question(self.backbone, text, images, [] if free else answers)


def build(task: Task) -> Asked:
    """See `registry.build`; the weights of a trained run or an export of method dfat are asked, else those given."""
    experiment, data, folder, where = task.experiment, task.data, task.folder, task.experiment.trainer.accelerator
    if task.known and folder and registry.has_anchors(trained_experiment(folder).method):
        encoder = load_trained(folder, accelerator=where, cache_dir=experiment.cache_dir, depth="full")[1].encoder
    else:
        backbone = replace(experiment.backbone, **FROZEN, depth="full")
        encoder = factory.encoder(backbone, experiment.dfat, experiment.seed, experiment.cache_dir, where)[0]
    encoder.eval().requires_grad_(False)
    encoder.check_images(data.most_images(), experiment.data.image_size)
    names = list(finding_texts(known_findings(experiment.data), task.findings).values())
    view, scoring = label_view(data), experiment.scoring
    return Asked(encoder.backbone, experiment.vqa, view, task.findings, names, data.modalities, scoring)
