"""The dfat section of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from data_modules.errors import InputError
from radz.config.checks import (
    Count,
    NotNegative,
    Positive,
    Share,
    above_zero,
    at_least,
    check_fields,
    template,
    up_to_one,
    words,
)


@dataclass
class RewriteConfig:
    """How the backbone's language model puts reports in other words (`text_source: rewrite`, docs/method.md 2.2)."""

    prompt: Annotated[str, template("report", needs="report")] = (
        "Rewrite this radiology report in plain full sentences, one for each finding. Keep every finding, whether "
        "present or absent, and add none.\n\n{report}"
    )
    """what is asked of every distinct training report, greedily; {report} becomes the report"""
    max_new_tokens: Count = 256
    """length limit of one answer"""
    batch_size: Count = 16
    """reports of equal length that are written at a time"""
    file: str = ""
    """rewritten reports to be read instead: JSON lines of {"report": ..., "rewritten": ...}"""

    def __post_init__(self) -> None:
        check_fields("dfat.rewrite.", self)


@dataclass
class DfatConfig:
    """Decoding-side feature alignment training (docs/method.md 2)."""

    image_tokens: Count = 4
    """number of <ImgCls> tokens"""
    text_tokens: Count = 8
    """number of <TxtCls> tokens"""
    instruction: Annotated[str, template("modality")] = "Describe the findings of this {modality}."
    """text beside the image; {modality} becomes chest X-ray or chest CT"""
    text_source: Annotated[str, words("report", "labels", "rewrite")] = "report"
    """report | labels (sentences made of them) | rewrite (reports in the backbone's words)"""
    label_sentence: Annotated[str, template("finding", "modality", needs="finding")] = (
        "This is a {modality} showing {finding}."
    )
    """sentence of `text_source: labels`; {finding} becomes the list of findings present"""
    rewrite: RewriteConfig = field(default_factory=RewriteConfig)
    text_prompt: str = ""
    """may follow the report (docs/method.md 2.2)"""
    max_text_tokens: Count = 256
    """longer reports and descriptions lose their middle, so that the impression stays; how many do is told"""
    text_groups: Count = 4
    """texts of a batch are encoded in at most this many groups of like length, which saves padding"""
    head: Annotated[str, words("identity", "linear", "mlp")] = "linear"
    """identity | linear | mlp, one each for image, text and anchor"""
    head_width: Annotated[int, at_least(0)] = 0
    """feature dimension after the head; 0 is the decoder's hidden size"""
    head_order: Annotated[str, words("head_then_mean", "mean_then_head")] = "head_then_mean"
    """head_then_mean | mean_then_head"""
    local_pool: Annotated[str, words("content", "rest")] = "content"
    """content (image patches, report words) | rest (all other real positions)"""
    token_norm: Annotated[str, words("none", "unit", "rms")] = "none"
    """none | unit | rms: length of every token's state before means are taken, so that no sink is the whole mean"""
    centre: Annotated[str, words("none", "running", "batch", "whiten")] = "none"
    """none | running | batch | whiten: mean that features lose before any cosine, of the last steps or, in training, of
    one; whiten also makes the rest spread alike in all directions"""
    loss: Annotated[str, words("cross", "global", "global_local")] = "cross"
    """cross | global | global_local"""
    global_weight: Annotated[float, up_to_one] = 0.5
    """w of global_local"""
    alignment: Annotated[str, words("softmax", "sigmoid")] = "softmax"
    """loss of image and text: softmax (InfoNCE, the paper) | sigmoid (each pair alone, with a learned bias: SigLIP)"""
    positives: Annotated[str, words("same_text", "diagonal", "same_labels", "overlap")] = "same_text"
    """same_text | diagonal | same_labels (equal in all training findings, none of them unknown) | overlap (in part: the
    findings that two studies share, of all that either has)"""
    temperature: Positive = 0.05
    """cosines are divided by it in the alignment and the category loss"""
    temperature_warmup: Share = 0.0
    """share of all steps over which the temperature falls to its value, from one that makes the first loss, whatever
    the backbone, about that of chance; the bias of the sigmoid loss then starts at the share of findings present"""
    learn_temperature: bool = False
    """train the temperature from this value on, kept between .01 and 1, at the heads' learning rate"""
    alignment_weight: Annotated[float, up_to_one] = 0.5
    """lambda: total = lambda * alignment + (1 - lambda) * category"""
    statements_weight: NotNegative = 0.0
    """of the loss on short statements on each finding of the bank, said and denied in many wordings, which is added: it
    makes a name or a question mean what reports say; 0 is off"""
    statements: str = "prompts/statements.yaml"
    """file of their wordings: a path, or a path below the experiments folder"""
    local_weight: NotNegative = 0.0
    """of the loss that looks for each described finding in single image tokens, which is added and makes scorer
    `local`: what a few tokens show drowns in a mean over all; 0 is off"""
    local_temperature: Positive = 0.1
    """of the softmax of cosines that weighs the tokens there: a small one lets the most similar token decide"""
    sentences_weight: NotNegative = 0.0
    """of the loss of images against the sentences of reports that assert a finding, which is added; 0 is off"""
    sentences: Count = 2
    """of them that are drawn from each report in a step"""
    sentences_by: Annotated[str, words("trained", "tokens")] = "trained"
    """trained (the pairs of features of `loss`) | tokens (each sentence looks for image tokens, as in `local_weight`)
    """
    twins: str = "prompts/twins.yaml"
    """file of words that turn a sentence round, such as left and right: images must tell it from its false twin; a
    path, or a path below the experiments folder; empty makes none"""
    lm_weight: NotNegative = 0.0
    """of the language model's loss on the training texts, which is added and keeps generation alive; 0 is off"""
    keep_weight: NotNegative = 0.0
    """of the loss on how far similarities of texts on the findings leave those of the untrained decoder, which is
    added; 0 is off"""
    reconstruction_weight: NotNegative = 0.0
    """of the loss that foretells the states of masked image tokens from those that are left, which is added: image
    tokens then keep what the reports do not say; 0 is off"""
    reconstruction_share: Annotated[Share, above_zero] = 0.5
    """of the image tokens of a study that are masked there"""
    reconstruction_decay: Share = 0.99
    """what the averaged weights, of which the foretold states are, keep of themselves in a step"""
    learning_rate: NotNegative = 2e-5
    """of the decoder (LoRA or full), and of a tower that trains"""
    tower_learning_rate: Positive | None = None
    """of the tower (backbone.train_tower) in place of learning_rate, as LLaVA-NeXT's mm_vision_tower_lr"""
    projector_learning_rate: NotNegative = 2e-6
    """of the projector"""
    head_learning_rate: NotNegative = 2e-5
    """of the heads, a learned temperature and the bias of the sigmoid category loss"""
    weight_decay: NotNegative = 0.0
    """of matrices; norms, biases and rows of tokens are not decayed"""
    warmup: Share = 0.03
    """share of all steps"""
    projector_warmup_steps: Annotated[int, at_least(0)] = 0
    """steps before all others in which the projector alone learns, from the alignment loss alone, as LLaVA begins"""
    projector_warmup_rate: Positive = 1e-3
    """of the projector in these steps, with a warm-up and a fall of their own"""
    gradient_clip: Positive = 1.0
    """largest norm of the gradient of a step"""
    gradient_cache: Annotated[int, at_least(0)] = 0
    """studies encoded at a time: the loss of the whole batch in the memory of so many (Gao et al. 2021); 0 is off"""

    @property
    def token_features(self) -> bool:
        """Whether a loss needs the features of single image tokens."""
        return bool(self.local_weight or (self.sentences_weight and self.sentences_by == "tokens"))

    def __post_init__(self) -> None:
        check_fields("dfat.", self)
        if self.learn_temperature and not 0.01 <= self.temperature <= 1:
            raise InputError(
                f"dfat.temperature={self.temperature}: must lie between 0.01 and 1 with dfat.learn_temperature=true"
            )
        if self.projector_warmup_steps and not self.projector_learning_rate:
            raise InputError("dfat.projector_warmup_steps: conflicts with dfat.projector_learning_rate=0")
        if self.head == "identity" and self.head_width:
            raise InputError("dfat.head_width: conflicts with dfat.head=identity, which keeps the decoder's width")
