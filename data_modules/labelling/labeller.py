"""The labels of a report by rules: the statements of its sentences, weighed into one state per finding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from data_modules.findings import NO_FINDING, Ontology
from data_modules.findings import ontology as shipped
from data_modules.labelling.rules import languages, read_rules, readable
from data_modules.labelling.scopes import Said, State, said
from data_modules.labelling.sentences import sentences

KEPT = 200_000
"""distinct sentences whose statements are remembered: reports repeat each other's"""
_WORD = re.compile(r"[^\W\d_]+")
IMPRESSION = ("impression", "addendum")


@dataclass(frozen=True)
class Proof:
    """Why a finding has its state."""

    finding: str
    state: State
    section: str
    """`` where the report has no heading"""
    sentence: str
    words: str
    """of the sentence, as they are written"""
    rule: str


class Labeller:
    """Labels reports; the same text always gives the same labels."""

    def __init__(
        self, modality: str, ontology: Ontology | None = None, more: Mapping[str, Mapping[str, Any]] | None = None,
        key: str = "terms",
    ) -> None:  # fmt: skip
        """`more`: further terms, as of `read_rules`, named `key` in error texts."""
        self.ontology = readable(ontology or shipped())
        self.rules = {code: read_rules(code, self.ontology, modality, more or {}, key) for code in languages()}
        self._said = lru_cache(KEPT)(lambda sentence, language: tuple(said(sentence, self.rules[language])))

    def language(self, report: str) -> str | None:
        """The language whose small words are most frequent; None where no language with rules has enough of them."""
        words = [word.casefold() for word in _WORD.findall(report[:4000])]
        counts = {code: sum(word in rules.words for word in words) for code, rules in self.rules.items()}
        best = max(counts, key=lambda code: (counts[code], code == "en"))
        # A telegram such as "Mild cardiomegaly." has none of them; the terms themselves then tell.
        if counts[best] >= max(1, len(words) // 20):
            return best
        flatly = {code: len(rules.terms.found(" ".join(words))) for code, rules in self.rules.items()}
        best = max(flatly, key=lambda code: (flatly[code], code == "en"))
        return best if (flatly[best] and all(word.isascii() for word in words[:1])) or flatly[best] > 1 else None

    def label(self, report: str) -> dict[str, Proof]:
        """{finding: its state and what proves it}; a finding that the report does not speak of is not there."""
        language = self.language(report)
        if language is None:
            return {}
        rules, statements = self.rules[language], []
        for place, sentence in enumerate(sentences(report)):
            for one in self._said(sentence.text, language):
                words = sentence.text[one.start : one.end]
                proof = Proof(one.finding, one.state, sentence.section, sentence.text, words, one.rule)
                for finding in rules.groups.get(one.finding, (one.finding,)):
                    statements.append((finding, one, proof, place))
        found = {
            finding: _weighed([entry for entry in statements if entry[0] == finding])
            for finding in dict.fromkeys(finding for finding, *_ in statements)
        }
        return self._sound(found)

    def _sound(self, found: dict[str, Proof]) -> dict[str, Proof]:
        """Without a normal chest beside a finding, and each under its own name."""
        abnormal = (name for name in found if self.ontology[name].pathology and name != NO_FINDING)
        if any(found[name].state != "absent" for name in abnormal):
            found.pop(NO_FINDING, None)
        return {name: replace(proof, finding=name) for name, proof in found.items()}


def _weighed(statements: Sequence[tuple[str, Said, Proof, int]]) -> Proof:
    """The statement that decides on one finding.

    What names it counts before what denies a group of findings at once, such as clear lungs; an impression before the
    rest; present before absent; and what is sure before a doubt, unless the doubt comes later and nothing is present.
    """
    named = [entry for entry in statements if entry[1].kind != "group"] or list(statements)
    last = [entry for entry in named if entry[2].section in IMPRESSION]
    if last and all(entry[1].state == "uncertain" for entry in last):
        return next((entry for entry in named if entry[1].state == "present"), last[0])[2]
    order = last or named
    for state in ("present", "uncertain", "absent"):
        one = next((entry for entry in order if entry[1].state == state), None)
        if one is None:
            continue
        if state == "uncertain":
            later = [entry for entry in order if entry[1].state == "absent" and entry[3] > one[3]]
            return (later or [one])[-1][2]
        return one[2]
    raise AssertionError("a finding has a statement")
