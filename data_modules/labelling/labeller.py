"""The labels of a report by rules: the statements of its sentences, weighed into one state per finding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

from data_modules.findings import NO_FINDING, Ontology
from data_modules.findings import ontology as shipped
from data_modules.labelling.phrases import flat, longest
from data_modules.labelling.rules import languages, others, read_rules, readable, small_words
from data_modules.labelling.scopes import Said, State, said
from data_modules.labelling.sentences import sentences

KEPT = 200_000
"""distinct sentences whose statements are remembered: reports repeat each other's"""
_WORD = re.compile(r"[^\W\d_]+")
_SMALL = 10
"""One word of so many is a small one in a text of a language."""
_ORDER = ("en", "es", "fr", "it", "pt", "de")
"""in which languages are taken that know a text alike"""
_TELEGRAM = 4
"""A text without small words is of a language whose rules know one word of so many."""
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
        # A corpus has one language, two at most: the rules of a language are read where a report is in it.
        self._rules = cache(lambda language: read_rules(language, self.ontology, modality, more or {}, key))
        self._rules("en")  # errors of `more` come at once
        self._small = {code: small_words(code) for code in languages()}
        self._said = lru_cache(KEPT)(lambda sentence, language: tuple(said(sentence, self._rules(language))))

    def language(self, report: str) -> str | None:
        """The language whose small words are most frequent; None where that is one without rules, or none is sure."""
        text = report[:4000]
        letters = [sign for sign in text if sign.isalpha()]
        if not letters or sum(sign < "\u0250" for sign in letters) < 0.9 * len(letters):
            return None  # nothing, or another script
        words = [word.casefold() for word in _WORD.findall(text)]
        counts = {code: sum(word in small for word in words) for code, small in self._small.items()}
        most = max(counts.values())
        if any(sum(word in small for word in words) > most for small in others().values()):
            return None
        near = [code for code in _ORDER if counts[code] >= most - max(1, most // _SMALL)]
        if len(near) == 1 and most >= max(1, len(words) // _SMALL):
            return near[0]
        # A telegram such as "Mild cardiomegaly." has no small words; the terms and cues themselves then tell.
        known = {code: self._known(" ".join(words), code) for code in near}
        best = max(near, key=lambda code: (known[code], counts[code]))
        alone = [code for code in near if counts[code] == most] == [best] and most >= max(1, len(words) // _SMALL)
        return best if known[best] and (alone or known[best] * _TELEGRAM >= len(words)) else None

    def _known(self, text: str, language: str) -> int:
        """Words of a text that the rules of a language know; none where no term is among them."""
        rules, flatly = self._rules(language), flat(text)
        terms = rules.terms.found(flatly)
        matches = longest([*terms, *rules.cues.found(flatly)]) if terms else []
        return len(
            {
                place
                for match in matches
                for place in range(match.start, match.end)
                if flatly[place - 1 : place] in ("", " ")
            }
        )

    def label(self, report: str) -> dict[str, Proof]:
        """{finding: its state and what proves it}; a finding that the report does not speak of is not there."""
        language = self.language(report)
        if language is None:
            return {}
        rules, statements = self._rules(language), []
        for place, sentence in enumerate(sentences(report)):
            for one in self._said(sentence.text, language):
                proof = Proof(
                    one.finding, one.state, sentence.section, sentence.text,
                    sentence.text[one.start : one.end], one.rule,
                )  # fmt: skip
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
