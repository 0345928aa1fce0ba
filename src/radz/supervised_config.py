"""The section `supervised` of the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.corpus_config import in_range, one_of
from data_modules.errors import InputError
from radz.config_checks import above_zero, share


@dataclass
class SupervisedConfig:
    """Labels on top of an encoder: `method: probe` (logistic regression), `method: finetune` (gradients)."""

    encoder: str = "backbone"
    """backbone (section `backbone`, base weights) | clip (section `clip`) | run (a trained run or export, `run`)"""
    run: str | None = None
    """folder of a run of method dfat or clip, or of an export, for encoder run"""
    features: str = "both"
    """of a backbone or a run of method dfat: global (modality tokens) | local (image patches) | both, side by side"""
    strengths: list[float] = field(default_factory=lambda: [0.001, 0.01, 0.1, 1.0])
    """probe: inverse regularisation C for standardised features, chosen by macro AUROC on validation"""
    train_encoder: bool = True
    """finetune: false trains the head alone; of a backbone, `backbone.train` and the like say what trains"""
    head: str = "linear"
    """finetune: linear | mlp, behind a LayerNorm"""
    learning_rate: float = 2e-5
    """finetune: highest rate of the encoder"""
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    """before the last layer"""
    warmup: float = 0.1
    """share of the steps over which the rates rise; then they fall to 0 as a cosine"""
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        one_of("supervised.encoder", self.encoder, ("backbone", "clip", "run"))
        one_of("supervised.features", self.features, ("global", "local", "both"))
        one_of("supervised.head", self.head, ("linear", "mlp"))
        if not self.strengths:
            raise InputError("supervised.strengths: name one strength at least")
        for strength in self.strengths:
            above_zero("supervised.strengths", strength)
        for key in ("learning_rate", "head_learning_rate", "weight_decay"):
            in_range(f"supervised.{key}", getattr(self, key), 0)
        for key in ("dropout", "warmup"):
            share(f"supervised.{key}", getattr(self, key))
        above_zero("supervised.gradient_clip", self.gradient_clip)
        if (self.run is not None) != (self.encoder == "run"):
            raise InputError("supervised.run: names a trained run exactly where supervised.encoder is run")
