"""The section `vqa` of the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from data_modules.errors import InputError
from radz.config.checks import Count, check_fields, template, words

ASKED = ("yes_no", "choice", "yes_no_written", "choice_written")
"""by log-probability of the answer, or parsed from what the model writes"""
VQA_SCORERS = (*ASKED, "native")
"""`native`: by the vector of a model that was made to give one"""


@dataclass
class VqaConfig:
    """`method: vqa`, the backbone asked in words, in its chat template. Nothing is trained."""

    scorers: list[Annotated[str, words(*VQA_SCORERS)]] = field(default_factory=lambda: list(ASKED))
    """yes_no, choice (log-probabilities) | yes_no_written, choice_written (greedy answers, parsed) | native (cosine of
    the vectors that an embedding model such as Qwen3-VL-Embedding gives images and the prompts of `scoring`); they
    stand as vqa_<name> in the results"""
    headline: Annotated[str, words(*VQA_SCORERS)] = "yes_no"
    """one of `scorers`"""
    yes_no: Annotated[str, template("finding", "Finding", "modality")] = (
        "Is there {finding} in this {modality}? Answer yes or no."
    )
    """asked once for every finding; {modality} becomes chest X-ray or chest CT"""
    yes: str = "Yes"
    """answer that says that a finding is there"""
    no: str = "No"
    """score of yes_no: log P(yes) - log P(no), mapped into [0, 1] with its order kept; 0.5 where they are equal"""
    choice: Annotated[str, template("options", "modality", needs="options")] = (
        "Which of these does this {modality} show?\n{options}\nAnswer with one of them."
    )
    """asked once; {options} becomes one line for each finding that is scored"""
    answers: Annotated[str, words("letters", "names")] = "letters"
    """of choice: letters (the lines begin with A., B., ..) | names (the answer is the finding itself)"""
    none: str = "None of these"
    """last option of choice, which no finding gets the probability of; empty leaves it out"""
    embedding_instruction: str = "Represent the user's input."
    """of native: the system's turn before an image or a prompt; the default is that of Qwen3-VL-Embedding"""
    max_new_tokens: Count = 12
    """length limit of a written answer"""

    def __post_init__(self) -> None:
        check_fields("vqa.", self)
        if self.headline not in self.scorers:
            raise InputError(f"vqa.headline: {self.headline} is not one of vqa.scorers; add it there")
        if "{finding}" not in self.yes_no.lower():
            raise InputError("vqa.yes_no: must contain {finding} or {Finding}")
        for key in ("yes", "no"):
            if not getattr(self, key).strip():
                raise InputError(f"vqa.{key}: is empty; name the answer")
        if self.yes.strip().lower() == self.no.strip().lower():
            raise InputError(f"vqa.no: {self.no!r} is the same answer as vqa.yes")
