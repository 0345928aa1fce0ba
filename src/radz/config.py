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
from radz.config_checks import canonical, known_findings, placeholders, seed_range, share
from radz.dfat_config import DfatConfig, DkamConfig

__all__ = [
    "BackboneConfig",
    "CnnConfig",
    "DfatConfig",
    "DkamConfig",
    "Experiment",
    "ScoringConfig",
    "TinyConfig",
    "TrainerConfig",
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
    replicates: int = 1000
    """bootstrap replicates, by patient"""
    seed: int = 0
    """of the bootstrap"""
    pixel_baseline: bool = True
    """fit a 32-pixel logistic regression and score it as `pixel32`"""
    cases: int = 4
    """best and worst cases shown per finding in the report"""

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
        seed_range("scoring.seed", self.seed)
        for key in ("prompts", "negative_prompts"):
            for prompt in getattr(self, key):
                placeholders(f"scoring.{key}", prompt, ("finding", "Finding", "modality"))
        if not self.prompts or any("{finding}" not in prompt.lower() for prompt in self.prompts):
            raise InputError("scoring.prompts: every prompt must contain {finding} or {Finding}")


@dataclass
class TrainerConfig:
    """Length, hardware and logging of a run."""

    max_epochs: int | None = None
    max_steps: int | None = None
    devices: int = 1
    """processes on each node, one per GPU"""
    num_nodes: int = 1
    """machines; more than one needs torchrun or srun (experiments/cluster/)"""
    strategy: str = "auto"
    """auto (ddp from two processes on) | ddp | fsdp (FSDP2 shards weights and optimiser; backbone.train=full only)"""
    accelerator: str = "auto"
    """auto | cpu | gpu"""
    precision: str = "auto"
    """auto (bf16-mixed on GPUs that have it, else 32-true) | 32-true | 64-true | bf16-mixed"""
    validate_every_epochs: int = 1
    log_every_steps: int = 10
    progress_bar: bool = True

    @property
    def processes(self) -> int:
        """Of all nodes."""
        return self.devices * self.num_nodes

    def __post_init__(self) -> None:
        one_of("trainer.precision", self.precision, ("auto", "32-true", "64-true", "bf16-mixed"))
        one_of("trainer.accelerator", self.accelerator, ("auto", "cpu", "gpu"))
        one_of("trainer.strategy", self.strategy, ("auto", "ddp", "fsdp"))
        for key in ("devices", "num_nodes", "validate_every_epochs", "log_every_steps"):
            in_range(f"trainer.{key}", getattr(self, key), 1)
        for key in ("max_epochs", "max_steps"):
            if getattr(self, key) is not None:
                in_range(f"trainer.{key}", getattr(self, key), 1)
        if self.max_epochs is not None and self.max_steps is not None:
            raise InputError("trainer.max_steps: conflicts with trainer.max_epochs; set one of them to null")


@dataclass
class WandbConfig:
    """Weights & Biases; metrics.csv is written whatever is chosen here."""

    mode: str = "auto"
    """auto (online when an account is configured, else offline) | online | offline | disabled"""
    project: str = "radz"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    images: bool = False
    """send pictures of single cases; radiographs leave the machine then"""
    artifacts: bool = False
    """send the trained weights (never the frozen backbone) and the anchor bank; mind the terms of the corpora"""

    def __post_init__(self) -> None:
        one_of("wandb.mode", self.mode, ("auto", "online", "offline", "disabled"))


@dataclass
class CnnConfig:
    """The supervised reference network of `method: cnn`."""

    width: int = 32
    """channels of the first stage; the last has 8 times as many"""
    learning_rate: float = 2e-3
    """highest rate of AdamW"""
    weight_decay: float = 0.05
    dropout: float = 0.2
    """before the last layer"""
    warmup: float = 0.1
    """share of the steps over which the rate rises; then it falls to 0 as a cosine"""

    def __post_init__(self) -> None:
        in_range("cnn.width", self.width, 1)
        for key in ("learning_rate", "weight_decay"):
            in_range(f"cnn.{key}", getattr(self, key), 0)
        for key in ("dropout", "warmup"):
            share(f"cnn.{key}", getattr(self, key))


@dataclass
class Experiment:
    """One experiment: what is trained on what, and how it is scored."""

    name: str = ""
    """set from the file name"""
    method: str = "dfat"
    """dfat | cnn (a supervised network on the same data, as a reference)"""
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
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def __post_init__(self) -> None:
        one_of("method", self.method, ("dfat", "cnn"))
        seed_range("seed", self.seed)
        known = known_findings(self.data)
        self.dkam.findings = canonical("dkam.findings", self.dkam.findings, known)
        self.scoring.findings = canonical("scoring.findings", self.scoring.findings, known)
        if not self.data.corpora:
            raise InputError("data.corpora: no corpus; name at least one under data.corpora")
        if self.trainer.max_epochs is None and self.trainer.max_steps is None:
            raise InputError("trainer.max_epochs: missing; set it or trainer.max_steps")
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
