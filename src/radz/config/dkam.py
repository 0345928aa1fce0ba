"""The dkam section of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from data_modules.errors import InputError
from radz.config.checks import Count, NotNegative, Share, check_fields, words

ASPECTS = ("location", "shape", "boundary", "density", "definition", "clinical")


@dataclass
class DkamConfig:
    """Domain knowledge anchoring module (docs/method.md 3)."""

    descriptions: str = "descriptions/chest_xray.yaml"
    """file of descriptions: a path, or a path below the experiments folder"""
    sources: list[str] = field(default_factory=list)
    """further files of descriptions of the same findings; see combine"""
    sets: Annotated[str, words("whole", "aspects")] = "whole"
    """whole (the aspects of a file are one text) | aspects (each is a text of its own)"""
    combine: Annotated[str, words("mean", "max")] = "mean"
    """several texts of a finding: mean (of their vectors, one anchor) | max (a set, of which the nearest counts)"""
    write: bool = False
    """true: the backbone's own language model writes the descriptions first"""
    max_new_tokens: Count = 320
    """length limit of one written description"""
    aspects: list[Annotated[str, words(*ASPECTS)]] = field(default_factory=lambda: list(ASPECTS))
    """parts of a description that enter the anchor, in this order"""
    anchor_encoder: Annotated[str, words("decoder", "embedding")] = "decoder"
    """decoder (text sequence, global feature) | embedding (mean input embedding)"""
    anchor_refresh: Annotated[str, words("frozen", "every_n_steps")] = "frozen"
    """frozen (anchors stay as the base weights encode them) | every_n_steps (encoded again by the weights of then)"""
    anchor_refresh_steps: Count = 100
    """n of every_n_steps; they are also encoded before a checkpoint, so that its anchors are those of its weights"""
    findings: list[str] = field(default_factory=list)
    """findings of the training bank; empty: no_finding and all that training labels know as present"""

    category: Annotated[str, words("softmax", "sigmoid")] = "softmax"
    """loss against the anchors: softmax (a study's findings share the mass, the paper) | sigmoid (each pair alone)"""
    logit_adjustment: NotNegative = 0.0
    """times the log-odds of each finding among the labels that training draws (softmax: the log of its share), added to
    its logits in this loss alone, so that a rare finding need not outscore common ones; 1 takes the frequency out, 0 is
    off"""
    focus_present: NotNegative = 0.0
    """power of the probability of error by which terms of present findings shrink in the sigmoid; 0 is off"""
    focus_absent: NotNegative = 0.0
    """likewise of absent findings, of which there are many (asymmetric loss: 4)"""
    absent_margin: Share = 0.0
    """probability below which an absent finding counts nothing (asymmetric loss: 0.05)"""

    def __post_init__(self) -> None:
        check_fields("dkam.", self)
        if self.combine == "max" and not self.sources and self.sets == "whole":
            raise InputError("dkam.combine: max needs several texts; name dkam.sources or set dkam.sets=aspects")
        if self.anchor_refresh != "frozen" and (self.sources or self.sets != "whole"):
            raise InputError(
                "dkam.anchor_refresh: conflicts with dkam.sources and dkam.sets=aspects; an anchor that follows the "
                "weights has one text"
            )
        if self.category == "softmax" and (self.focus_present or self.focus_absent or self.absent_margin):
            raise InputError(
                "dkam.category: softmax conflicts with dkam.focus_present, dkam.focus_absent and dkam.absent_margin, "
                "which are of the sigmoid"
            )
        if not self.aspects:
            raise InputError("dkam.aspects: name at least one part of the description")
