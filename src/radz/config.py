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
from radz.class_prompts import ClassPrompts
from radz.cnn_config import CnnConfig
from radz.config_checks import above_zero, canonical, known_findings, placeholders, seed_range, sentences, share
from radz.dkam_config import DkamConfig
from radz.wandb_config import WandbConfig

__all__ = [
    "BackboneConfig",
    "ClassPrompts",
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
class DfatConfig:
    """Decoding-side feature alignment training (method.md 2)."""

    image_tokens: int = 4
    """number of <ImgCls> tokens"""
    text_tokens: int = 8
    """number of <TxtCls> tokens"""
    instruction: str = "Describe the findings of this {modality}."
    """text beside the image; {modality} becomes chest X-ray or chest CT"""
    text_source: str = "report"
    """report | labels"""
    label_sentence: str = "This is a {modality} showing {finding}."
    """sentence of `text_source: labels`; {finding} becomes the list of findings present"""
    text_prompt: str = ""
    """may follow the report (method.md 2.2)"""
    max_text_tokens: int = 256
    """reports are cut to this many tokens; the number cut is logged"""
    text_groups: int = 4
    """texts of a batch are encoded in at most this many groups of like length, which saves padding"""
    head: str = "linear"
    """identity | linear | mlp, one each for image, text and anchor"""
    head_width: int = 0
    """feature dimension after the head; 0 is the decoder's hidden size"""
    head_order: str = "head_then_mean"
    """head_then_mean | mean_then_head"""
    local_pool: str = "content"
    """content (image patches, report words) | rest (all other real positions)"""
    loss: str = "cross"
    """cross | global | global_local"""
    global_weight: float = 0.5
    """w of global_local"""
    positives: str = "same_text"
    """same_text | diagonal"""
    temperature: float = 0.05
    alignment_weight: float = 0.5
    """lambda: total = lambda * alignment + (1 - lambda) * category"""
    learning_rate: float = 2e-5
    """of the decoder (LoRA or full) and the tower"""
    projector_learning_rate: float = 2e-6
    head_learning_rate: float = 2e-5
    weight_decay: float = 0.0
    warmup: float = 0.03
    """share of all steps"""
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        one_of("dfat.text_source", self.text_source, ("report", "labels"))
        one_of("dfat.head", self.head, ("identity", "linear", "mlp"))
        one_of("dfat.head_order", self.head_order, ("head_then_mean", "mean_then_head"))
        one_of("dfat.local_pool", self.local_pool, ("content", "rest"))
        one_of("dfat.loss", self.loss, ("cross", "global", "global_local"))
        one_of("dfat.positives", self.positives, ("same_text", "diagonal"))
        for key in ("image_tokens", "text_tokens", "text_groups", "max_text_tokens"):
            in_range(f"dfat.{key}", getattr(self, key), 1)
        for key in ("temperature", "gradient_clip"):
            above_zero(f"dfat.{key}", getattr(self, key))
        for key in (
            "learning_rate", "projector_learning_rate", "head_learning_rate", "weight_decay", "head_width"
        ):  # fmt: skip
            in_range(f"dfat.{key}", getattr(self, key), 0)
        share("dfat.warmup", self.warmup)
        for key in ("alignment_weight", "global_weight"):
            if not 0 <= getattr(self, key) <= 1:
                raise InputError(f"dfat.{key}: {getattr(self, key)} must lie between 0 and 1")
        if self.head == "identity" and self.head_width:
            raise InputError("dfat.head_width: conflicts with dfat.head=identity, which keeps the decoder's width")
        placeholders("dfat.instruction", self.instruction, ("modality",))
        placeholders("dfat.label_sentence", self.label_sentence, ("finding", "modality"))
        if "{finding}" not in self.label_sentence:
            raise InputError("dfat.label_sentence: must contain {finding}")


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
    checkpoint_every_n_steps: int | None = None
    """last.ckpt also every so many steps; None: after each epoch and before its last step"""
    timeout_minutes: float = 30.0
    """a run of several processes ends when one of them has not answered for so long"""
    deterministic: bool = False
    """only operators that repeat bit for bit, also on GPUs; slower, and one without such a form stops the run"""
    fast_dev_run: bool = False
    """one batch of training, validation and test, to see that all works; nothing is kept"""
    overfit_batches: int = 0
    """if not 0, train on the first so many batches again and again: the loss must fall to nearly nothing"""
    profiler: str = "none"
    """none | simple (seconds per part of a step) | torch (operators, memory, trace); into the run folder's profile/"""

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
        one_of("trainer.profiler", self.profiler, ("none", "simple", "torch"))
        above_zero("trainer.timeout_minutes", self.timeout_minutes)
        in_range("trainer.overfit_batches", self.overfit_batches, 0)
        for key in ("max_epochs", "max_steps", "checkpoint_every_n_steps"):
            if getattr(self, key) is not None:
                in_range(f"trainer.{key}", getattr(self, key), 1)
        if self.max_epochs is not None and self.max_steps is not None:
            raise InputError("trainer.max_steps: conflicts with trainer.max_epochs; set one of them to null")


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
        names = canonical("scoring.class_prompts", self.scoring.class_prompts, known)
        self.scoring.class_prompts = dict(zip(names, self.scoring.class_prompts.values(), strict=True))
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
        if self.dkam.write and self.backbone.depth == "feature":
            raise InputError("backbone.depth: feature conflicts with dkam.write=true, which needs depth full")
        if self.backbone.path is None and self.backbone.tiny.image_size != self.data.image_size:
            raise InputError(
                f"backbone.tiny.image_size: {self.backbone.tiny.image_size} conflicts with "
                f"data.image_size={self.data.image_size}; give both the same value"
            )
