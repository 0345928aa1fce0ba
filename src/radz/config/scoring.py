"""How a run is scored: the section `scoring`, and the prompts of a finding."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from data_modules.errors import InputError
from radz.config.checks import Count, Seed, at_least, check_fields, prompt, words

BY_SENTENCES = ("prompt", "fused", "clip", "vqa_native")
"""scorers that compare images with the sentences of the findings"""


@dataclass
class ScoringConfig:
    """Zero-shot recognition and its statistics (docs/method.md 4)."""

    headline: Annotated[str, words("prompt", "description", "anchor", "fused", "local", "validation")] = "fused"
    """scorer of the monitor and of the summary: prompt | description | anchor | fused | local (of dfat.local_weight) |
    validation (the best of them on validation, chosen once with the best checkpoint; the monitor is then prompt)"""
    prompts: list[Annotated[str, prompt]] = field(default_factory=lambda: ["This is a {modality} showing {finding}."])
    """prompt ensemble: similarities are averaged over these sentences; {Finding} begins with a capital. Or the
    name of a published set, whose denied sentences come with it: chexzero | carzero | ct_clip"""
    negative_prompts: list[Annotated[str, prompt]] = field(default_factory=list)
    """if any, their mean similarity is subtracted: what all sentences share then favours no study (CheXzero)"""
    class_prompts: dict[str, ClassPrompts] = field(default_factory=dict)
    """sentences per finding that replace both lists of templates for it: {edema: {positive: [..], negative: [..]}}. Or
    a JSON or YAML file that maps names of findings to sentences, such as your copy of MedKLIP's"""
    wordings: str = "prompts/paraphrases.yaml"
    """file of further wordings, said and denied, a path, or a path below the experiments folder: how far scores depend
    on the sentence, and whether "no edema" is told from "edema", stands in all results, and beside it what published
    prompt sets would have given; empty: neither is measured"""
    prompt_features: Annotated[str, words("trained", "global", "local")] = "trained"
    """trained (the pairs the loss trained) | global | local"""
    fused: Annotated[str, words("centred", "authors")] = "centred"
    """centred | authors"""
    findings: list[str] = field(default_factory=list)
    """findings scored at test; empty: every finding with a label in the test split"""
    primary: Annotated[str, words("seen", "all")] = "seen"
    """findings of the macro, also of that by which validation chooses epoch and scorer: seen (named in training labels)
    | all"""
    choice: list[str] = field(default_factory=list)
    """findings of which a study has exactly one: also the accuracy of the highest score, and precision of retrieval by
    finding, over the studies that have one of them alone (CheXpert 5x200); empty: neither"""
    frequency_limits: list[float] = field(default_factory=lambda: [0.1, 0.01])
    """shares of the training split of the scored corpus: above the first a finding is in the head, below the second in
    the tail, with none unseen; average precision is also given for each group (docs/corpora.md)"""
    unit: Annotated[str, words("study", "image")] = "study"
    """what is scored: study, or image (each image of a study by itself, under the study's labels)"""
    aggregate: Annotated[str, words("joint", "mean", "max")] = "joint"
    """of a study's images: joint (all in one sequence), or mean or max over the scores of each alone"""
    replicates: Annotated[int, at_least(100)] = 2000
    """bootstrap replicates, by patient"""
    seed: Seed = 0
    """of the bootstrap"""
    pixel_baseline: bool = True
    """fit a 32-pixel logistic regression and score it as `pixel32`"""
    cases: Annotated[int, at_least(0)] = 4
    """best and worst cases shown per finding in the report"""
    retrieval: bool = True
    """recall of image-to-report and report-to-image retrieval on test studies that have a report"""
    age_bands: list[int] = field(default_factory=lambda: [18, 40, 60, 80])
    """limits in years between the age bands of the subgroups"""
    subgroup_least: Count = 10
    """a finding with fewer positives or negatives in a subgroup is listed there without numbers"""

    def denied(self, findings: Collection[str]) -> list[str]:
        """The findings that BY_SENTENCES score by what says them less what denies them; the others have no denial."""
        own = self.class_prompts
        return [name for name in findings if (own[name].negative if name in own else self.negative_prompts)]

    def of_macro(self, seen: Mapping[str, str]) -> list[str]:
        """The findings of `primary`, of those in `seen`: finding -> `label`, `text` or `none`."""
        return [name for name, group in seen.items() if self.primary == "all" or group == "label"]

    def __post_init__(self) -> None:
        check_fields("scoring.", self)
        if self.unit == "image" and self.aggregate != "joint":
            raise InputError(f"scoring.aggregate: {self.aggregate} conflicts with scoring.unit=image; use joint")
        if not self.age_bands or self.age_bands != sorted(set(self.age_bands)):
            raise InputError(f"scoring.age_bands: {self.age_bands} must be one rising limit or more")
        limits = self.frequency_limits
        if len(limits) != 2 or not 0 < limits[1] <= limits[0] < 1:
            raise InputError(f"scoring.frequency_limits: {limits} must be two falling shares between 0 and 1")
        if len(self.choice) == 1:
            raise InputError(f"scoring.choice: {self.choice} must be two findings or more, or none")
        for finding, own in self.class_prompts.items():
            own.check(f"scoring.class_prompts.{finding}")
        if not self.prompts or any("{finding}" not in prompt.lower() for prompt in self.prompts):
            raise InputError("scoring.prompts: every prompt must contain {finding} or {Finding}")


@dataclass
class ClassPrompts:
    """Sentences of one finding, in place of the templates."""

    positive: list[Annotated[str, prompt]] = field(default_factory=list)
    """similarities are averaged over these; placeholders as in `scoring.prompts`, none needed"""
    negative: list[Annotated[str, prompt]] = field(default_factory=list)
    """if any, their mean similarity is subtracted"""

    def check(self, key: str) -> None:
        """InputError without a positive sentence, or for an empty one."""
        if not self.positive:
            raise InputError(f"{key}.positive: name one sentence at least")
        check_fields(f"{key}.", self)
