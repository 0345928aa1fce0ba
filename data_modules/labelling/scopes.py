"""What one sentence says of each finding that it names: present, absent, in doubt, or nothing.

A sentence falls into clauses; a cue works within its clause, forwards or backwards (after Chapman's NegEx and ConText,
doi 10.1006/jbin.2001.1029 and 10.1016/j.jbi.2009.05.002), and a list under one negation ends where a word of degree
opens an affirmed item.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_modules.labelling.phrases import Match, flat, longest
from data_modules.labelling.rules import Rules, Term

State = Literal["present", "absent", "uncertain"]
_STRONG = re.compile(r"[;:]|,(?= *(?:but|however|although) )")
_JOINT = re.compile(r",|\band\b|\bund\b|\bet\b|\by\b|\be\b")
_WORDS = re.compile(r"[^\W_]+")
_LISTED = re.compile(r"\b(?:or|nor|oder|noch|ou|ni|o|nem|ne)\b")
_AFFIRMED = re.compile(r" +(?:is|are|was|were) +(?:[^\W_]+ +)?(?:present|seen|noted|observed)\b")
_ASKED = re.compile(r"[^,;:?(]{0,20}\?")
NEAR = 20
"""words that may lie between the two halves of a `near` rule"""


@dataclass(frozen=True)
class Said:
    """One statement of a sentence on a finding."""

    finding: str
    """or a group of findings that is denied together"""
    state: State
    start: int
    end: int
    rule: str
    """the phrase, and the cue that turned it"""
    kind: str


def said(sentence: str, rules: Rules) -> list[Said]:
    """The statements of one sentence."""
    text = flat(sentence)
    terms = rules.terms.found(text)
    if not any(isinstance(match.what, Term) for match in terms):
        return []
    masks = [match for match in terms if isinstance(match.what, Term) and match.what.kind == "mask"]
    beside = [match for match in terms if isinstance(match.what, str) and not _inside(match, masks)]
    # A longer phrase hides what stands within it: pericardial effusion holds no (pleural) effusion.
    mentions = longest([match for match in terms if isinstance(match.what, Term)])
    cues = longest([cue for cue in rules.cues.found(text) if not _inside(cue, mentions)])
    ends = _clauses(text, cues)
    found = []
    for mention in mentions:
        start, end = next((a, b) for a, b in zip([0, *ends], [*ends, len(text)], strict=True) if mention.start < b)
        here = [cue for cue in cues if start <= cue.start < end]
        if mention.what.kind == "mask" or not _has_partner(mention, beside, text):
            continue
        outcome = _turned(mention, here, text, start, end)
        if outcome is not None:
            found.append(outcome)
    return found


def _inside(cue: Match, mentions: Sequence[Match]) -> bool:
    return any(mention.start <= cue.start and cue.end <= mention.end for mention in mentions)


def _has_partner(mention: Match, beside: Sequence[Match], text: str) -> bool:
    """Whether a `near` rule holds: its other half stands close, and nothing of `unless`; true for other kinds."""
    term: Term = mention.what
    if term.kind != "near":
        return True
    alone = term.alone
    for other in beside:
        if _close(text, mention, other, NEAR):
            if other.what == f"unless {term.group}":
                return False
            alone |= other.what == f"beside {term.group}"
    return alone


def _clauses(text: str, cues: Sequence[Match]) -> list[int]:
    """Where clauses end: at strong marks and words, and at a joint whose two sides have a predicate each."""
    denials = {cue.start for cue in cues if cue.what == "denied_after"}
    # pneumothorax: none
    strong = [mark.start() for mark in _STRONG.finditer(text) if not denials & {mark.end(), mark.end() + 1}]
    strong += [cue.start for cue in cues if cue.what == "end"]
    predicates = [cue for cue in cues if cue.what in ("verb", "denied_after", "gone_after", "doubt_after")]
    openers = [cue for cue in cues if cue.what in ("negated", "nothing", "same")]
    joints = sorted({match.start() for match in _JOINT.finditer(text)} | {c.start for c in cues if c.what == "and"})
    ends, last = [], 0
    for place in sorted({*strong, *joints}):
        if place in strong:
            ends.append(place)
            last = place
            continue
        limit = min((other for other in [*strong, len(text)] if other > place), default=len(text))
        following = min((other for other in joints if other > place), default=limit)
        behind = [cue for cue in predicates if last <= cue.start < place]
        ahead = [cue for cue in predicates if place <= cue.start < limit]
        first = next((cue for cue in openers if place < cue.start), None)
        opens = (
            first is not None
            and first.start < min(following, limit)
            and len(_WORDS.findall(text[place : first.start])) <= 2
        )
        own = any(cue.start < min(following, limit) for cue in ahead)
        if behind and (own or opens):
            ends.append(place)
            last = place
        elif opens and not any(c.what == "negated" and last <= c.start < place for c in cues):
            ends.append(place)  # mild cardiomegaly, no effusion
            last = place
    return sorted(set(ends))


def _close(text: str, one: Match, other: Match, words: int = 4) -> bool:
    """Whether no more words lie between the two."""
    return len(_WORDS.findall(text[min(one.end, other.end) : max(one.start, other.start)])) <= words


def _turned(mention: Match, cues: Sequence[Match], text: str, start: int, end: int) -> Said | None:
    """What a mention says under the cues of its clause; None where it says nothing of now."""
    term: Term = mention.what
    before = [cue for cue in cues if cue.start < mention.start]
    after = [cue for cue in cues if cue.start >= mention.end]

    def made(state: State, cue: Match | None) -> Said:
        rule = term.phrase if cue is None else f"{term.phrase} + {text[cue.start : cue.end]}"
        return Said(term.finding, state, mention.start, mention.end, rule, term.kind)

    aside = next((cue for cue in before if cue.what in ("aside", "hypothesis")), None)
    if aside is not None or any(cue.what in ("past", "nothing") for cue in [*before[-1:], *after[:1]]):
        return None
    gone = _nearest(before, "gone") or next((cue for cue in after if cue.what == "gone_after"), None)
    negation = _negation(mention, before, text) or next((c for c in after if c.what == "denied_after"), None)
    doubt = _nearest(before, "doubt") or next((cue for cue in after if cue.what == "doubt_after"), None)
    doubt = doubt or next((cue for cue in cues if cue.what == "either" and _close(text, mention, cue)), None)
    if doubt is None and _ASKED.match(text, mention.end):
        doubt = Match(text.index("?", mention.end), text.index("?", mention.end) + 1, "doubt_after")
    if term.kind in ("normal", "group"):
        # What denies a finding, denied or doubted, says nothing sure.
        return None if negation or doubt or gone else made("absent", None)
    if doubt is not None and (negation is None or doubt.what == "doubt_after" or doubt.start > negation.start):
        return made("uncertain", doubt)
    cause = gone or negation
    if cause is not None:
        # No large effusion is no word on a small one: a narrower thing that is absent leaves the wider open.
        return None if term.kind == "narrower" else made("absent", cause)
    return made("uncertain" if term.kind == "vague" else "present", None)


def _nearest(cues: Sequence[Match], what: str) -> Match | None:
    return next((cue for cue in reversed(cues) if cue.what == what), None)


def _negation(mention: Match, before: Sequence[Match], text: str) -> Match | None:
    """The negation whose list reaches the mention."""
    negation = _nearest(before, "negated")
    if negation is None:
        return None
    between = [cue for cue in before if cue.start >= negation.end]
    if any(cue.what == "verb" and cue.start > negation.end and _joint(text, cue.end, mention.start) for cue in between):
        return None  # no nodule is seen in the right lung, small effusion
    comma = text.rfind(",", negation.end, mention.start)
    if comma > 0 and _AFFIRMED.match(text, mention.end) and not _LISTED.search(text, comma):
        return None  # without effusion or edema, cardiomegaly is present
    for cue in between:
        # no effusion, mild edema: a word of degree behind a comma opens an affirmed item, unless the list goes on.
        if cue.what == "affirmed" and _opens_item(text, cue.start) and not _LISTED.search(text, cue.start):
            return None
    return negation


def _joint(text: str, start: int, end: int) -> bool:
    return _JOINT.search(text, start, end) is not None


def _opens_item(text: str, place: int) -> bool:
    return re.search(r"(?:,|\band|\bwith|\bund|\bmit|\bet|\bavec|\by|\bcon|\be|\bcom) *$", text[:place]) is not None
