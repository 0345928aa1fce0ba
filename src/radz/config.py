"""The experiment schema: every key an experiment file may hold, with its meaning, unit and default.

The data section lives on the ground floor (`data_modules.config`) and is composed here. Checks that concern one
section stand in that section's `__post_init__`; checks across sections stand in `Experiment`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.config import DataConfig
from data_modules.corpus_config import in_range, one_of
from data_modules.errors import InputError
from radz.backbone_config import BackboneConfig, TinyConfig
from radz.baselines import METHODS
from radz.class_prompts import ClassPrompts
from radz.clip_config import ClipConfig, TinyClipConfig
from radz.cnn_config import CnnConfig
from radz.config_checks import canonical, known_findings, seed_range, sentences
from radz.dfat_config import DfatConfig
from radz.dkam_config import DkamConfig
from radz.supervised_config import SupervisedConfig
from radz.trainer_config import TrainerConfig
from radz.vqa_config import VqaConfig
from radz.wandb_config import WandbConfig

__all__ = [
    "BackboneConfig",
    "ClassPrompts",
    "ClipConfig",
    "CnnConfig",
    "DfatConfig",
    "DkamConfig",
    "Experiment",
    "ScoringConfig",
    "SupervisedConfig",
    "TinyClipConfig",
    "TinyConfig",
    "TrainerConfig",
    "VqaConfig",
    "WandbConfig",
]


@dataclass
class ScoringConfig:
    """Zero-shot recognition and its statistics (method.md 4)."""

    headline: str = "fused"
    """scorer of the monitor and of the summary: prompt | description | anchor | fused"""
    prompts: list[str] = field(default_factory=lambda: ["This is a {modality} showing {finding}."])
    """prompt ensemble: similarities are averaged over these sentences; {Finding} begins with a capital"""
    negative_prompts: list[str] = field(default_factory=list)
    """if any, their mean similarity is subtracted: what all sentences share then favours no study (CheXzero)"""
    class_prompts: dict[str, ClassPrompts] = field(default_factory=dict)
    """sentences per finding that replace both lists of templates for it: {edema: {positive: [..], negative: [..]}}"""
    prompt_features: str = "trained"
    """trained (the pairs the loss trained) | global | local"""
    fused: str = "centred"
    """centred | authors"""
    findings: list[str] = field(default_factory=list)
    """findings scored at test; empty: every finding with a label in the test split"""
    primary: str = "seen"
    """findings of the macro: seen (named in training labels) | all"""
    unit: str = "study"
    """what is scored: study, or image (each image of a study by itself, under the study's labels)"""
    aggregate: str = "joint"
    """of a study's images: joint (all in one sequence), or mean or max over the scores of each alone"""
    replicates: int = 2000
    """bootstrap replicates, by patient"""
    seed: int = 0
    """of the bootstrap"""
    pixel_baseline: bool = True
    """fit a 32-pixel logistic regression and score it as `pixel32`"""
    cases: int = 4
    """best and worst cases shown per finding in the report"""
    retrieval: bool = True
    """recall of image-to-report and report-to-image retrieval on test studies that have a report"""
    age_bands: list[int] = field(default_factory=lambda: [18, 40, 60, 80])
    """limits in years between the age bands of the subgroups"""
    subgroup_least: int = 10
    """a finding with fewer positives or negatives in a subgroup is listed there without numbers"""

    def __post_init__(self) -> None:
        one_of("scoring.headline", self.headline, ("prompt", "description", "anchor", "fused"))
        one_of("scoring.prompt_features", self.prompt_features, ("trained", "global", "local"))
        one_of("scoring.fused", self.fused, ("centred", "authors"))
        one_of("scoring.primary", self.primary, ("seen", "all"))
        one_of("scoring.unit", self.unit, ("study", "image"))
        one_of("scoring.aggregate", self.aggregate, ("joint", "mean", "max"))
        if self.unit == "image" and self.aggregate != "joint":
            raise InputError(f"scoring.aggregate: {self.aggregate} conflicts with scoring.unit=image; use joint")
        in_range("scoring.replicates", self.replicates, 100)
        in_range("scoring.cases", self.cases, 0)
        in_range("scoring.subgroup_least", self.subgroup_least, 1)
        if not self.age_bands or self.age_bands != sorted(set(self.age_bands)):
            raise InputError(f"scoring.age_bands: {self.age_bands} must be one rising limit or more")
        seed_range("scoring.seed", self.seed)
        for key in ("prompts", "negative_prompts"):
            sentences(f"scoring.{key}", getattr(self, key))
        for finding, own in self.class_prompts.items():
            own.check(f"scoring.class_prompts.{finding}")
        if not self.prompts or any("{finding}" not in prompt.lower() for prompt in self.prompts):
            raise InputError("scoring.prompts: every prompt must contain {finding} or {Finding}")


@dataclass
class Experiment:
    """One experiment: what is trained on what, and how it is scored."""

    name: str = ""
    """set from the file name"""
    method: str = "dfat"
    """dfat | cnn (a supervised network, as a reference) | vqa (the backbone asked in words) | clip (two towers) |
    probe (logistic regression on features) | finetune (a head on an encoder)"""
    seed: int = 0
    run_dir: str | None = None
    """default: runs/<experiment>/seed<seed>-<digest>"""
    cache_dir: str = ".cache/radz"
    """pixel cache, phantom and tiny backbones; relative to the working directory"""
    overwrite: bool = False
    """start anew on a finished run folder"""
    run: str | None = None
    """trained run folder, for `radz eval`"""
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    dfat: DfatConfig = field(default_factory=DfatConfig)
    dkam: DkamConfig = field(default_factory=DkamConfig)
    cnn: CnnConfig = field(default_factory=CnnConfig)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    vqa: VqaConfig = field(default_factory=VqaConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def __post_init__(self) -> None:
        one_of("method", self.method, ("dfat", *METHODS))
        seed_range("seed", self.seed)
        known = known_findings(self.data)
        self.dkam.findings = canonical("dkam.findings", self.dkam.findings, known)
        self.scoring.findings = canonical("scoring.findings", self.scoring.findings, known)
        names = canonical("scoring.class_prompts", self.scoring.class_prompts, known)
        self.scoring.class_prompts = dict(zip(names, self.scoring.class_prompts.values(), strict=True))
        if not self.data.corpora:
            raise InputError("data.corpora: no corpus; name at least one under data.corpora")
        if self.trainer.max_epochs is None and self.trainer.max_steps is None:
            raise InputError("trainer.max_epochs: missing; set it or trainer.max_steps")
        if "clip" in (self.method, self.supervised.encoder):
            self.clip.check(self.data.image_size)
        if self.scoring.unit == "image" and any(corpus.modality == "chest_ct" for corpus in self.data.corpora):
            raise InputError("scoring.unit: image conflicts with chest_ct, whose slices have no labels; use study")
        if self.trainer.strategy == "fsdp" and (self.method != "dfat" or self.backbone.train != "full"):
            raise InputError(
                "trainer.strategy: fsdp conflicts with backbone.train other than full; adapters fit one GPU, use ddp"
            )
        if self.trainer.strategy == "fsdp" and self.dfat.gradient_cache:
            raise InputError("dfat.gradient_cache: conflicts with trainer.strategy=fsdp, which shards the weights")
        if self.dfat.lm_weight and self.backbone.depth == "feature":
            raise InputError("backbone.depth: feature conflicts with dfat.lm_weight, which needs depth full")
        if self.dfat.lm_weight and self.trainer.strategy == "fsdp":
            raise InputError("dfat.lm_weight: conflicts with trainer.strategy=fsdp; use ddp")
        if self.dkam.write and self.backbone.depth == "feature":
            raise InputError("backbone.depth: feature conflicts with dkam.write=true, which needs depth full")
        if self.backbone.path is None and self.backbone.tiny.image_size != self.data.image_size:
            raise InputError(
                f"backbone.tiny.image_size: {self.backbone.tiny.image_size} conflicts with "
                f"data.image_size={self.data.image_size}; give both the same value"
            )
