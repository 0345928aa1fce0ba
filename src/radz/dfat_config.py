"""The dfat section of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.corpus_config import in_range, one_of
from data_modules.errors import InputError
from radz.config_checks import above_zero, placeholders, share


@dataclass
class RewriteConfig:
    """How the backbone's language model puts reports in other words (`text_source: rewrite`, method.md 2.2)."""

    prompt: str = (
        "Rewrite this radiology report in plain full sentences, one for each finding. Keep every finding, whether "
        "present or absent, and add none.\n\n{report}"
    )
    """what is asked of every distinct training report, greedily; {report} becomes the report"""
    max_new_tokens: int = 256
    """length limit of one answer"""
    batch_size: int = 16
    """reports of equal length that are written at a time"""
    file: str = ""
    """rewritten reports to be read instead: JSON lines of {"report": ..., "rewritten": ...}"""

    def __post_init__(self) -> None:
        placeholders("dfat.rewrite.prompt", self.prompt, ("report",))
        if "{report}" not in self.prompt:
            raise InputError("dfat.rewrite.prompt: must contain {report}")
        for key in ("max_new_tokens", "batch_size"):
            in_range(f"dfat.rewrite.{key}", getattr(self, key), 1)


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
    """report | labels (sentences made of them) | rewrite (reports in the backbone's words)"""
    label_sentence: str = "This is a {modality} showing {finding}."
    """sentence of `text_source: labels`; {finding} becomes the list of findings present"""
    rewrite: RewriteConfig = field(default_factory=RewriteConfig)
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
    """same_text | diagonal | same_labels (equal in all training findings, none of them unknown)"""
    temperature: float = 0.05
    learn_temperature: bool = False
    """train the temperature from this value on, kept between .01 and 1, at the heads' learning rate"""
    alignment_weight: float = 0.5
    """lambda: total = lambda * alignment + (1 - lambda) * category"""
    lm_weight: float = 0.0
    """of the language model's loss on the training texts, which is added and keeps generation alive; 0 is off"""
    learning_rate: float = 2e-5
    """of the decoder (LoRA or full) and the tower"""
    projector_learning_rate: float = 2e-6
    head_learning_rate: float = 2e-5
    weight_decay: float = 0.0
    warmup: float = 0.03
    """share of all steps"""
    gradient_clip: float = 1.0
    gradient_cache: int = 0
    """studies encoded at a time: the loss of the whole batch in the memory of so many (Gao et al. 2021); 0 is off"""

    def __post_init__(self) -> None:
        one_of("dfat.text_source", self.text_source, ("report", "labels", "rewrite"))
        one_of("dfat.head", self.head, ("identity", "linear", "mlp"))
        one_of("dfat.head_order", self.head_order, ("head_then_mean", "mean_then_head"))
        one_of("dfat.local_pool", self.local_pool, ("content", "rest"))
        one_of("dfat.loss", self.loss, ("cross", "global", "global_local"))
        one_of("dfat.positives", self.positives, ("same_text", "diagonal", "same_labels"))
        for key in ("image_tokens", "text_tokens", "text_groups", "max_text_tokens"):
            in_range(f"dfat.{key}", getattr(self, key), 1)
        for key in ("temperature", "gradient_clip"):
            above_zero(f"dfat.{key}", getattr(self, key))
        if self.learn_temperature and not 0.01 <= self.temperature <= 1:
            raise InputError(
                f"dfat.temperature={self.temperature}: must lie between 0.01 and 1 with dfat.learn_temperature=true"
            )
        for key in (
            "learning_rate", "projector_learning_rate", "head_learning_rate", "weight_decay", "head_width",
            "gradient_cache", "lm_weight",
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
