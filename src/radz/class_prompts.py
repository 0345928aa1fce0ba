"""The entries of `scoring.class_prompts` in the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.errors import InputError
from radz.config_checks import sentences


@dataclass
class ClassPrompts:
    """Sentences of one finding, in place of the templates."""

    positive: list[str] = field(default_factory=list)
    """similarities are averaged over these; placeholders as in `scoring.prompts`, none needed"""
    negative: list[str] = field(default_factory=list)
    """if any, their mean similarity is subtracted"""

    def check(self, key: str) -> None:
        """InputError without a positive sentence, or for an empty one."""
        if not self.positive:
            raise InputError(f"{key}.positive: name one sentence at least")
        sentences(f"{key}.positive", self.positive)
        sentences(f"{key}.negative", self.negative)
