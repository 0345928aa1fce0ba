"""The labels of a report by rules: the statements of its sentences, weighed into one state per finding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from data_modules import reports
from data_modules.findings import NO_FINDING, Ontology
from data_modules.findings import ontology as shipped
from data_modules.labelling.clauses import SIDES
from data_modules.labelling.phrases import flat, longest
from data_modules.labelling.rules import languages, others, read_rules, readable, small_words
from data_modules.labelling.scopes import Said, State, said
from data_modules.labelling.sentences import Sentence, sentences
from data_modules.labelling.spelling import Spelt

KEPT = 200_000
"""distinct sentences whose statements are remembered: reports repeat each other's"""
_WORD = re.compile(r"[^\W\d_]+")
_OTHER_SCRIPT = re.compile("[^\\u0000-\\u024f]")
_SMALL = 10
"""One word of so many is a small one in a text of a language."""
_ORDER = ("en", "es", "fr", "it", "pt", "de")
"""in which languages are taken that know a text alike"""
_TELEGRAM = 4
"""A text without small words is of a language whose rules know one word of so many."""
DECIDING = ("addendum", "impression")
"""Sections that decide over others, the last word first."""


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
        words = _WORD.findall(Spelt("\n".join(reports.told(report).values())[:4000]).text.casefold())
        letters = "".join(words)
        if not letters or len(_OTHER_SCRIPT.findall(letters)) > 0.1 * len(letters):
            return None
        counts = {code: sum(map(small.__contains__, words)) for code, small in self._small.items()}
        most = max(counts.values())
        if any(sum(map(small.__contains__, words)) > most for small in others().values()):
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
        statements: dict[str, list[_Statement]] = {}
        for place, (sentence, said_of) in enumerate(self._statements(report)):
            for finding, one in said_of:
                statements.setdefault(finding, []).append((one, sentence, place))
        return self._sound({finding: _weighed(entries) for finding, entries in statements.items()})

    def by_sentence(self, report: str) -> list[tuple[str, dict[str, State]]]:
        """Each sentence of a report with the states of the findings that it names; none where its language is unknown.

        Of several statements in a sentence on one finding, present counts before in doubt, and that before absent.
        """
        order: tuple[State, ...] = ("absent", "uncertain", "present")
        found = []
        for sentence, said_of in self._statements(report):
            ranked = sorted(said_of, key=lambda entry: order.index(entry[1].state))
            found.append((sentence.text, {finding: one.state for finding, one in ranked}))
        return found

    def _statements(self, report: str) -> list[tuple[Sentence, list[tuple[str, Said]]]]:
        """What each sentence says of each finding, also of those that it denies as a group.

        A group that is denied of one side is denied where the report says the same of the other.
        """
        report = reports.kept(report)
        language = self.language(report)
        if language is None:
            return []
        groups = self._rules(language).groups
        told = [(sentence, self._said(sentence.text, language)) for sentence in sentences(report, language == "de")]
        sides = {(one.finding, one.side) for _, all_said in told for one in all_said}
        return [
            (sentence, [(finding, one) for one in all_said
                        if not one.side or sides.issuperset((one.finding, side) for side in SIDES)
                        for finding in groups.get(one.finding, (one.finding,))])
            for sentence, all_said in told
        ]  # fmt: skip

    def _sound(self, found: dict[str, _Statement]) -> dict[str, Proof]:
        """What proves each finding, without a normal chest beside an abnormal finding."""
        abnormal = (name for name in found if self.ontology[name].pathology and name != NO_FINDING)
        if any(found[name][0].state != "absent" for name in abnormal):
            found.pop(NO_FINDING, None)
        return {
            name: Proof(name, one.state, sentence.section, sentence.text, sentence.text[one.start : one.end], one.rule)
            for name, (one, sentence, _) in found.items()
        }


_Statement = tuple[Said, Sentence, int]
"""What a sentence says, the sentence, and its place in the report."""


def _weighed(statements: Sequence[_Statement]) -> _Statement:
    """The statement that decides on one finding.

    What names it counts before what denies a group of findings at once, such as clear lungs; an addendum before an
    impression, and that before the rest; present before absent; and what is sure before a doubt, unless the doubt comes
    later and nothing is present. No new effusion denies none that is present elsewhere.
    """
    named = [entry for entry in statements if entry[0].kind != "group"] or list(statements)
    if any(entry[0].state == "present" for entry in named):
        named = [entry for entry in named if not entry[0].limited]
    deciding = ([entry for entry in named if entry[1].section == section] for section in DECIDING)
    last = next(filter(None, deciding), [])
    if last and all(entry[0].state == "uncertain" for entry in last):
        return next((entry for entry in named if entry[0].state == "present"), last[0])
    order = last or named
    for state in ("present", "uncertain", "absent"):
        one = next((entry for entry in order if entry[0].state == state), None)
        if one is not None and state == "uncertain":
            later = [entry for entry in order if entry[0].state == "absent" and entry[2] > one[2]]
            return (later or [one])[-1]
        if one is not None:
            return one
    raise AssertionError("a finding has a statement")
