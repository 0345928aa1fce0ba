"""The experiment schema: every key an experiment file may hold, with its meaning, unit and default.

The data section lives on the ground floor (`data_modules.config`) and is composed here. Checks that concern one
section stand in that section's `__post_init__`; checks across sections stand in `Experiment`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.config import DataConfig
from data_modules.corpus_config import one_of
from data_modules.errors import InputError
from radz.config.backbone import BackboneConfig, TinyConfig
from radz.config.checks import Seed, canonical, check_fields, known_findings
from radz.config.clip import ClipConfig, TinyClipConfig
from radz.config.dfat import DfatConfig
from radz.config.dkam import DkamConfig
from radz.config.scoring import ClassPrompts, ScoringConfig
from radz.config.supervised import CnnConfig, SupervisedConfig
from radz.config.trainer import TrainerConfig, WandbConfig
from radz.config.vqa import VqaConfig

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

METHODS = ("dfat", "cnn", "vqa", "clip", "probe", "finetune")
"""what `method` may be; `radz.methods.registry` knows the code of each"""


@dataclass
class Experiment:
    """One experiment: what is trained on what, and how it is scored."""

    name: str = ""
    """set from the file name"""
    method: str = "dfat"
    """dfat | cnn (a supervised network, as a reference) | vqa (the backbone asked in words) | clip (two towers) |
    probe (logistic regression on features) | finetune (a head on an encoder)"""
    seed: Seed = 0
    """of the order of studies, all random starts (tiny models, rows of tokens, LoRA, heads) and dropout; phantom and
    splits have their own"""
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
        one_of("method", self.method, METHODS)
        check_fields("", self)
        known = known_findings(self.data)
        self.dkam.findings = canonical("dkam.findings", self.dkam.findings, known)
        self.scoring.findings = canonical("scoring.findings", self.scoring.findings, known)
        self.scoring.choice = canonical("scoring.choice", self.scoring.choice, known)
        if self.scoring.findings and (lost := set(self.scoring.choice) - set(self.scoring.findings)):
            raise InputError(f"scoring.choice: {', '.join(sorted(lost))} must stand in scoring.findings too")
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
        if self.method == "clip" and self.dfat.alignment != "softmax":
            raise InputError("dfat.alignment: sigmoid conflicts with method=clip, whose loss is InfoNCE")
        # Of a trained run that is scored, its own dfat counts, which `radz.runs.preflight` looks at.
        if self.scoring.headline == "local" and not self.dfat.local_weight and self.run is None:
            raise InputError("scoring.headline: local needs dfat.local_weight above 0, which trains it")
        if self.dfat.lm_weight and self.backbone.depth == "feature":
            raise InputError("backbone.depth: feature conflicts with dfat.lm_weight, which needs depth full")
        if self.dfat.lm_weight and self.trainer.strategy == "fsdp":
            raise InputError("dfat.lm_weight: conflicts with trainer.strategy=fsdp; use ddp")
        if self.dfat.reconstruction_weight and self.trainer.strategy == "fsdp":
            raise InputError("dfat.reconstruction_weight: conflicts with trainer.strategy=fsdp; use ddp")
        frozen = self.backbone.train == "frozen"
        if self.dfat.keep_weight and frozen:
            raise InputError("dfat.keep_weight: conflicts with backbone.train=frozen, which keeps the decoder as it is")
        if (
            self.dfat.reconstruction_weight
            and frozen
            and not (self.backbone.train_projector or self.backbone.train_tower)
        ):
            raise InputError(
                "dfat.reconstruction_weight: nothing learns from it where backbone.train=frozen and neither projector "
                "nor tower trains; set it to 0"
            )
        if self.dfat.tower_learning_rate and not self.backbone.train_tower:
            raise InputError(
                "dfat.tower_learning_rate: conflicts with backbone.train_tower=false; leave one of them out"
            )
        if self.dkam.write and self.backbone.depth == "feature":
            raise InputError("backbone.depth: feature conflicts with dkam.write=true, which needs depth full")
        if self.backbone.path is None and self.backbone.tiny.image_size != self.data.image_size:
            raise InputError(
                f"backbone.tiny.image_size: {self.backbone.tiny.image_size} conflicts with "
                f"data.image_size={self.data.image_size}; give both the same value"
            )
