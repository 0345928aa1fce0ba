"""Published prompts by name: `scoring.prompts: chexzero` stands for the sentences of that set, said and denied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import InputError, nearest
from data_modules.parsing import parse_yaml
from radz.config.checks import prompt
from radz.config.layers import put, value_at

FILE = "prompts/published.yaml"
"""below the experiments folder"""
PROMPTS, NEGATIVE = "scoring.prompts", "scoring.negative_prompts"


@dataclass(frozen=True)
class PromptSet:
    """Sentences as a work publishes them, with {finding}, {Finding} and {modality}."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    """empty where nothing is subtracted"""
    paper: str
    source: str
    """where the form was read"""
    scored: str
    """what the work makes of the similarities. With one sentence a side, a softmax over the pair ranks like the
    difference, which is what radz scores: at any fixed temperature it is a sigmoid of that difference"""
    note: str = ""


@dataclass(frozen=True)
class Published:
    """What a file of prompt sets holds: what is there by name, and what is not."""

    sets: Mapping[str, PromptSet]
    left_out: Mapping[str, str]
    """name of a work whose form is not at hand -> why"""

    def named(self, name: str) -> PromptSet:
        """A set by its name; InputError naming the nearest, or why that of a work is not here."""
        if name in self.left_out:
            raise InputError(
                f"{PROMPTS}: {name} has no prompts here: {self.left_out[name]}; give a file of your own by "
                "scoring.class_prompts=FILE (docs/method.md 4)"
            )
        if name not in self.sets:
            raise InputError(f"{PROMPTS}: no published set is called {name!r}{nearest(name, self.sets)}")
        return self.sets[name]

    def name_of(self, positive: Sequence[str], negative: Sequence[str]) -> str | None:
        """The set that has exactly these sentences."""
        wanted = tuple(positive), tuple(negative)
        return next((name for name, one in self.sets.items() if (one.positive, one.negative) == wanted), None)


def read_published(path: Path) -> Published:
    """Read a file of `prompt_sets: {name: {positive, negative, paper, source, scored, note}}` and `left_out`.

    Raises:
        InputError: another form, or a sentence that cannot be filled in.
    """
    try:
        content: Any = parse_yaml(path.read_text(encoding="utf-8"))
        sets = {
            str(name): PromptSet(**{**of, "positive": tuple(of["positive"]), "negative": tuple(of["negative"])})
            for name, of in content["prompt_sets"].items()
        }
        left_out = {str(name): str(why) for name, why in content.get("left_out", {}).items()}
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"{path}: must hold `prompt_sets: {{name: ..}}`, each with positive and negative, lists of sentences, and "
            "paper, source and scored"
        ) from None
    for name, one in sets.items():
        if not one.positive or any("{finding}" not in text.lower() for text in one.positive):
            raise InputError(f"{path}: {name}: every positive sentence must contain {{finding}} or {{Finding}}")
        for text in (*one.positive, *one.negative):
            prompt(f"{path}: {name}", text)
    return Published(sets, left_out)


def is_named(config: dict[str, Any]) -> bool:
    """Whether `scoring.prompts` is a name, where sentences would be a list."""
    return isinstance(name := value_at(config, PROMPTS), str) and not name.startswith("${")


def displace_denied(merged: dict[str, Any], keys: set[str]) -> None:
    """A name that one layer sets takes the place of denied sentences of the layers below it."""
    if PROMPTS in keys and NEGATIVE not in keys and is_named(merged):
        merged["scoring"].pop(NEGATIVE.partition(".")[2], None)


def spell_out(merged: dict[str, Any], published: Published) -> None:
    """Put the sentences of a named set in place of its name.

    Raises:
        InputError: no such set, one sentence where a list belongs, or denied sentences beside a name.
    """
    name = value_at(merged, PROMPTS)
    if "{" in name or " " in name.strip():
        raise InputError(f"{PROMPTS}: {name!r} is one sentence; put it in a list, or give the name of a published set")
    found = published.named(name)
    if value_at(merged, NEGATIVE) is not None:
        raise InputError(f"{NEGATIVE}: conflicts with {PROMPTS}={name}, which has its own; leave out one of them")
    put(merged, PROMPTS, list(found.positive))
    put(merged, NEGATIVE, list(found.negative))
