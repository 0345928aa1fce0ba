"""The section `supervised` of the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from data_modules.errors import InputError
from radz.config.checks import Count, NotNegative, Positive, Share, check_fields, words


@dataclass
class SupervisedConfig:
    """Labels on top of an encoder: `method: probe` (logistic regression), `method: finetune` (gradients)."""

    encoder: Annotated[str, words("backbone", "clip", "run")] = "backbone"
    """backbone (section `backbone`, base weights) | clip (section `clip`) | run (a trained run or export, `run`)"""
    run: str | None = None
    """folder of a run of method dfat or clip, or of an export, for encoder run"""
    features: Annotated[str, words("global", "local", "both")] = "both"
    """of a backbone or a run of method dfat: global (modality tokens) | local (image patches) | both, side by side"""
    strengths: list[Positive] = field(default_factory=lambda: [0.001, 0.01, 0.1, 1.0])
    """probe: inverse regularisation C for standardised features, chosen by macro AUROC on validation, over corpora and
    findings"""
    train_encoder: bool = True
    """finetune: false trains the head alone; of a backbone, `backbone.train` and the like say what trains"""
    head: Annotated[str, words("linear", "mlp")] = "linear"
    """finetune: linear | mlp, behind a LayerNorm"""
    learning_rate: NotNegative = 2e-5
    """finetune: highest rate of the encoder"""
    head_learning_rate: NotNegative = 1e-3
    """finetune: highest rate of the head"""
    weight_decay: NotNegative = 0.05
    """finetune: of AdamW"""
    dropout: Share = 0.1
    """before the last layer"""
    warmup: Share = 0.1
    """share of the steps over which the rates rise; then they fall to 0 as a cosine"""
    gradient_clip: Positive = 1.0
    """finetune: largest norm of the gradient of a step"""

    def __post_init__(self) -> None:
        check_fields("supervised.", self)
        if not self.strengths:
            raise InputError("supervised.strengths: name one strength at least")
        if (self.run is not None) != (self.encoder == "run"):
            raise InputError("supervised.run: names a trained run exactly where supervised.encoder is run")


@dataclass
class CnnConfig:
    """The supervised reference network of `method: cnn`."""

    width: Count = 32
    """channels of the first stage; the last has 8 times as many"""
    learning_rate: NotNegative = 2e-3
    """highest rate of AdamW"""
    weight_decay: NotNegative = 0.05
    """of AdamW"""
    dropout: Share = 0.2
    """before the last layer"""
    warmup: Share = 0.1
    """share of the steps over which the rate rises; then it falls to 0 as a cosine"""

    def __post_init__(self) -> None:
        check_fields("cnn.", self)
