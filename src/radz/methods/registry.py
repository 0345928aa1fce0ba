"""What `method` may be: the code of each, and what a run asks of a method before it builds one.

`pixel` (linear on 32 x 32 pixels) is scored in every run. How to add one: docs/add_a_method.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from data_modules.errors import InputError

if TYPE_CHECKING:
    from radz.config.schema import ClipConfig, DfatConfig, SupervisedConfig
    from radz.methods.base import Scored, Task


def has_anchors(method: str) -> bool:
    """Whether it aligns with described findings: a run has anchors, and a text side and a decoder to look into."""
    return method == "dfat"


def asks(method: str) -> bool:
    """Whether it asks a backbone in words, which that of a trained run can be as well."""
    return method == "vqa"


def reads_text(method: str) -> bool:
    """Whether its training, where there is one, reads the training texts."""
    return method in ("dfat", "vqa", "clip")


def needs_training_data(method: str, clip: ClipConfig) -> bool:
    """Whether it learns from the training split."""
    return method != "vqa" and (method != "clip" or clip.train)


def has_backbone(method: str, supervised: SupervisedConfig) -> bool:
    """Whether it loads `backbone`."""
    return method in ("dfat", "vqa") or (method in ("probe", "finetune") and supervised.encoder == "backbone")


def backbone_rate(method: str, dfat: DfatConfig, supervised: SupervisedConfig) -> tuple[str, float]:
    """Key and value of the rate at which the backbone's own weights learn; 0 where they do not."""
    if method == "finetune" and supervised.train_encoder:
        return "supervised.learning_rate", supervised.learning_rate
    return "dfat.learning_rate", dfat.learning_rate if method == "dfat" else 0.0


def check_weights(method: str, clip: ClipConfig) -> None:
    """InputError for a method that would score with weights that nothing has trained."""
    if method == "clip" and clip.path is None and not clip.train:
        raise InputError("clip.path: missing; name a CLIP or SigLIP folder, or train the tiny one with clip.train=true")


def build(task: Task) -> Scored:
    """The module of `experiment.method`, by `build` of the file here that is called like it."""
    module: Scored = import_module(f"radz.methods.{task.experiment.method}").build(task)
    return module
