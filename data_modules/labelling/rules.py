"""The rules of one language: its cues and its terms, out of `rules/*.yaml`, with those that a user adds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from data_modules.errors import InputError, nearest
from data_modules.findings import NO_FINDING, Ontology
from data_modules.labelling.phrases import Phrases, parsed
from data_modules.parsing import parse_yaml

FOLDER = "labelling/rules"
CUES = (
    "negated", "denied_after", "doubt", "doubt_after", "link", "either", "gone", "gone_after", "past", "aside",
    "hypothesis", "asked_after", "unassessed", "graded", "earlier", "end", "verb", "affirmed", "affirmed_after",
    "and", "or", "nor", "with", "nothing", "same", "against", "left", "right", "zone", "limiting",
    "answer_no", "answer_none", "answer_maybe", "answer_likely", "answer_nothing", "answer_yes",
)  # fmt: skip
"""What a cue does; see the head of rules/en.yaml."""
AROUND = {"negated": "denied", "doubt": "doubt", "gone": "gone"}
"""Kinds that look ahead, with the name of `NAME_around` and `NAME_after`: one word may stand before or behind."""
BEYOND = {"scoliosis": {"text": "scoliosis"}, "granuloma": {"text": "calcified granuloma"}}
"""Findings that the ontology has not and reports often name; an experiment reads them under its own `findings`."""
KINDS = ("terms", "vague", "narrower", "normal", "near")
"""How a phrase of a finding speaks of it; see the head of rules/en_findings.yaml."""


@dataclass(frozen=True)
class Term:
    """What a phrase says of a finding."""

    finding: str
    kind: str
    """one of KINDS, or `mask`: it only hides what stands within it"""
    phrase: str
    group: str = ""
    """of `near`: what its partners and its `unless` are named by"""
    alone: bool = False
    """of `near`: it needs no partner"""


@dataclass
class Rules:
    """The compiled rules of a language."""

    language: str
    cues: Phrases
    terms: Phrases
    """what they find is a Term, or `beside` or `unless` with the group of a `near`"""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """group statement -> findings that it denies"""


def readable(ontology: Ontology) -> Ontology:
    """The ontology with all findings that the rules know."""
    return ontology.extended({name: fields for name, fields in BEYOND.items() if name not in ontology})


def languages() -> list[str]:
    """Codes of the languages that have rules."""
    names = (file.name for file in resources.files("data_modules").joinpath(FOLDER).iterdir())
    return sorted(name[:2] for name in names if name.endswith(".yaml") and len(name) == len("en.yaml"))


def small_words(language: str) -> frozenset[str]:
    """Frequent words by which a language that has rules is known."""
    return frozenset(_file(f"{language}.yaml")["words"])


@cache
def waiting() -> frozenset[str]:
    """Words of all languages at which no statement ends, so that a line that ends in one goes on."""
    return frozenset(str(word) for code in languages() for word in _file(f"{code}.yaml")["waiting"])


@cache
def others() -> dict[str, frozenset[str]]:
    """Small words of languages that have no rules, so that none is taken for one that has."""
    return {code: frozenset(words) for code, words in _file("others.yaml").items()}


@cache
def _file(name: str) -> dict[str, Any]:
    text = resources.files("data_modules").joinpath(FOLDER, name).read_text(encoding="utf-8")
    return dict(parse_yaml(text))


def read_rules(
    language: str, ontology: Ontology, modality: str, more: Mapping[str, Mapping[str, Any]], key: str
) -> Rules:
    """The rules of a language for a modality.

    Args:
        more: terms of a user, {finding: {terms: [..], narrower: [..], normal: [..]}}; they hold in every language.
        key: where they stand, for error texts.

    Raises:
        InputError: an unknown finding or kind, or a phrase that is none.
    """
    terms = _file(f"{language}_findings.yaml")
    plural, umlauts = language == "en", language == "de"
    said: list[tuple[str, Any]] = []
    groups: dict[str, tuple[str, ...]] = {}
    for number, group in enumerate(terms.get("groups", ())):
        name = f"group {number}"
        groups[name] = tuple(ontology[finding].name for finding in group["denies"])
        said += [(phrase, Term(name, "group", phrase)) for phrase in group["says"]]
        if group.get("whole"):
            said += [(phrase, Term(NO_FINDING, "group", phrase)) for phrase in group["says"]]
    said += [(phrase, Term("", "mask", phrase)) for phrase in terms.get("masks", ())]
    for finding, kinds in terms["findings"].items():
        name = ontology[finding].name
        said += list(_terms(name, kinds, modality, f"rules/{language}_findings.yaml: {finding}"))
    for finding, kinds in more.items():
        if finding not in ontology:
            raise InputError(f"{key}.{finding}: unknown finding{nearest(finding, ontology.names)}")
        said += list(_terms(ontology[finding].name, kinds, modality, f"{key}.{finding}"))
    for finding in ontology:
        if finding.name not in terms["findings"] and finding.name not in more and language == "en":
            said.append((finding.text, Term(finding.name, "terms", finding.text)))
    return Rules(language, read_cues(language), Phrases(said, key, plural, umlauts), groups)


def read_cues(language: str, kinds: Iterable[str] = CUES, both: bool = True) -> Phrases:
    """The cues of a language alone: its terms take far longer to read. Without `both` those around look back alone."""
    cues = _file(f"{language}.yaml")
    parts = cues.get("parts", {})
    marks = [(phrase, cue) for cue in kinds for phrase in cues.get(cue, ())]
    for ahead, name in AROUND.items():
        looking = {f"{name}_after", *((ahead,) if both else ())}.intersection(kinds)
        marks += [(phrase, cue) for cue in sorted(looking) for phrase in cues.get(f"{name}_around", ())]
    full = [(phrase.format_map(parts), cue) for phrase, cue in marks]
    return Phrases(full, f"rules/{language}.yaml", language == "en", language == "de")


def _terms(finding: str, kinds: Mapping[str, Any], modality: str, key: str) -> Iterator[tuple[str, Any]]:
    """Phrases of a finding with what they say; those of `near` also as groups of words."""
    if not isinstance(kinds, Mapping):
        raise InputError(f"{key}: give terms, narrower, normal or near, each a list")
    for kind, phrases in kinds.items():
        if kind in ("chest_ct", "chest_xray"):
            yield from _terms(finding, phrases, modality, f"{key}.{kind}") if kind == modality else ()
            continue
        if kind not in KINDS or not isinstance(phrases, list):
            raise InputError(f"{key}.{kind}: is none of {', '.join(KINDS)}, each a list{nearest(kind, KINDS)}")
        for number, phrase in enumerate(phrases):
            if kind == "near":
                yield from _near(finding, phrase, f"{key}.{number}", f"{key}.near")
            else:
                parsed(phrase, key)
                yield phrase, Term(finding, kind, phrase)


def _near(finding: str, pair: Any, group: str, key: str) -> Iterable[tuple[str, Any]]:
    known = {"words", "beside", "unless"}
    if not isinstance(pair, Mapping) or not {"words"} < set(pair) <= known:
        raise InputError(f"{key}: {pair!r} must have words, and beside or unless or both, each a list of phrases")
    for phrase in pair["words"]:
        yield phrase, Term(finding, "near", phrase, group, "beside" not in pair)
    for what in ("beside", "unless"):
        for phrase in pair.get(what, ()):
            yield phrase, f"{what} {group}"
