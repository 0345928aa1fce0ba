"""The sentences that stand for each class, and the faults in them that would spoil a score unseen."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from data_modules.config import DataConfig
from data_modules.errors import InputError
from data_modules.parsing import parse_yaml
from radz.config.checks import known_findings
from radz.config.files import find_resource, published_prompts
from radz.config.scoring import ScoringConfig
from radz.models.labels import MODALITY_TEXT, finding_texts

log = logging.getLogger(__name__)

PROMPT_SET = "prompt set "
"""begins the names of published prompt sets among wordings"""

# "no no finding", "without any no finding", "not a normal chest" is fine: only a negation right before "no finding".
_TWICE = re.compile(r"\b(?:no|not|without|never|absence of)\s+(?:any\s+|a\s+)?no\s+finding", re.IGNORECASE)


@dataclass(frozen=True)
class ClassSentences:
    """What a class is compared with: the mean over `positive`, less the mean over `negative` where there are any."""

    positive: tuple[str, ...]
    negative: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wording(ClassSentences):
    """Templates for any finding, with which a test asks a second time."""

    apart: bool = True
    """what is said and what is denied stay two scores; else they are one, as those of a class"""


def sentences(
    findings: Sequence[str], names: Sequence[str], modality: str, scoring: ScoringConfig
) -> list[ClassSentences]:
    """The sentences of each class: those of `scoring.class_prompts`, else the templates with its name filled in."""

    classes = []
    for finding, name in zip(findings, names, strict=True):
        own = scoring.class_prompts.get(finding)
        positive, negative = (
            (own.positive, own.negative) if own is not None else (scoring.prompts, scoring.negative_prompts)
        )
        own_words = (tuple(_filled(templates, [name], modality)) for templates in (positive, negative))
        classes.append(ClassSentences(*own_words))
    return classes


def lint(classes: Mapping[str, ClassSentences], names: Mapping[str, str], own: Sequence[str]) -> None:
    """InputError for a sentence that is empty, negates "no finding", or names a second class that is scored.

    A finding's own sentence may name another, as a description does; that is a warning.

    Args:
        classes: finding -> its sentences.
        names: finding -> the words it is called by.
        own: findings whose sentences stand under `scoring.class_prompts`, to name the key at fault.
    """
    for finding, texts in classes.items():
        for side in ("positive", "negative"):
            template = "prompts" if side == "positive" else "negative_prompts"
            key = f"scoring.class_prompts.{finding}.{side}" if finding in own else f"scoring.{template}"
            for text in getattr(texts, side):
                if not text.strip():
                    raise InputError(f"{key}: an empty prompt for {finding}; write a sentence or leave it out")
                if _TWICE.search(text):
                    raise InputError(f"{key}: {text!r} negates 'no finding'; say what is meant under class_prompts")
                if (other := _second(text, finding, names)) and finding in own:
                    log.warning("%s: %r names %s as well, another class that is scored", key, text, other)
                elif other:
                    raise InputError(
                        f"{key}: {text!r}, a prompt of {finding}, names {other} as well; name one class that is scored"
                    )


def _second(text: str, finding: str, names: Mapping[str, str]) -> str | None:
    """Another class named in a text, after its own name and longer names have been taken out of it."""
    rest = text.lower()
    for other in sorted(names, key=lambda name: -len(names[name])):
        pattern = rf"(?<!\w){re.escape(names[other].lower())}(?!\w)"
        if re.search(pattern, rest):
            if other != finding:
                return other
            rest = re.sub(pattern, " ", rest)
    return None


def check_prompts(scoring: ScoringConfig, data: DataConfig, scored: Sequence[str]) -> None:
    """InputError for a fault in the sentences of the scored classes, as they will be encoded."""
    known = known_findings(data)
    words = finding_texts(known, scored)
    if scoring.class_prompts and (others := [name for name in scored if name not in scoring.class_prompts]):
        log.info("scoring.class_prompts: %s have none, and are asked for by scoring.prompts", ", ".join(others))
    for modality in sorted({corpus.modality for corpus in data.corpora}):
        classes = sentences(scored, list(words.values()), MODALITY_TEXT[modality], scoring)
        lint(dict(zip(scored, classes, strict=True)), words, list(scoring.class_prompts))


def read_paraphrases(name: str, key: str = "paraphrases") -> dict[str, ClassSentences]:
    """Templates by name, from a file of `paraphrases: {name: {positive: .., negative: ..}}`; negative may be left out.

    Args:
        name: a path, or a path below the experiments folder.
        key: what names the file in errors.

    Raises:
        InputError: another form, or a positive template without {finding}.
    """
    path = find_resource(name, key)
    try:
        content: Any = parse_yaml(path.read_text(encoding="utf-8"))
        entries = dict(content["paraphrases"])
        paraphrases = {
            str(template): ClassSentences((str(of["positive"]),), (str(of["negative"]),) if "negative" in of else ())
            for template, of in entries.items()
        }
        for of in paraphrases.values():
            _filled([*of.positive, *of.negative], ["x"], "x")
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, ValueError):
        raise InputError(
            f"{key}: {path}: must hold `paraphrases: {{name: {{positive: sentence}}}}`, whose sentences have no "
            "placeholder but {finding}, {Finding} and {modality}"
        ) from None
    for template, sentences in paraphrases.items():
        if "{finding}" not in sentences.positive[0].lower():
            raise InputError(
                f"{key}: {path}: {template}: the positive sentence must contain {{finding}} or {{Finding}}"
            )
    if not paraphrases:
        raise InputError(f"{key}: {path}: holds no sentence")
    return paraphrases


def wordings_of(file: str) -> dict[str, Wording]:
    """What a test asks beside the prompts of its run; nothing where `scoring.wordings`, the `file`, is empty.

    These are the paraphrases of the file that have a denial, said and denied apart, and the published prompt sets, each
    under its name behind `PROMPT_SET`.
    """
    if not file:
        return {}
    denied = {name: one for name, one in read_paraphrases(file, "scoring.wordings").items() if one.negative}
    published = published_prompts().sets
    return {
        **{name: Wording(one.positive, one.negative) for name, one in denied.items()},
        **{PROMPT_SET + name: Wording(one.positive, one.negative, apart=False) for name, one in published.items()},
    }


def said_and_denied(names: Sequence[str], modality: str, wording: ClassSentences) -> list[str]:
    """What each sentence of a wording says of all the findings `names`, and then what each denies."""
    return [*_filled(wording.positive, names, modality), *_filled(wording.negative, names, modality)]


def fill(template: str, name: str, modality: str) -> str:
    """A sentence of a template with {finding}, {Finding} (capital) and {modality}."""
    return template.format(finding=name, Finding=name[:1].upper() + name[1:], modality=modality)


def _filled(templates: Sequence[str], names: Sequence[str], modality: str) -> list[str]:
    return [fill(template, name, modality) for template in templates for name in names]
