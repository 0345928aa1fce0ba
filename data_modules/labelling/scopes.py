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
_STRONG = re.compile(r"[;:]")
_WORDS = re.compile(r"[^\W_]+")
_ASKED = re.compile(r"[^,;:?(]{0,20}\?")
_TWINS = {"negated": "denied_after", "doubt": "doubt_after"}
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
    mentions = _settled(longest([match for match in terms if isinstance(match.what, Term)]))
    every = rules.cues.found(text)
    cues = longest([cue for cue in every if not _inside(cue, mentions)])
    ends = _clauses(text, cues)
    found = []
    for mention in mentions:
        start, end = next((a, b) for a, b in zip([0, *ends], [*ends, len(text)], strict=True) if mention.start < b)
        others = [other for other in mentions if start <= other.start < end]
        here = _one_way([cue for cue in cues if start <= cue.start < end], others, text)
        if mention.what.kind == "mask" or not _has_partner(mention, beside, text):
            continue
        within = [cue for cue in every if _inside(cue, [mention])]
        outcome = _turned(mention, here, text, _Around(others, within))
        if outcome is not None:
            found.append(outcome)
    return found


@dataclass(frozen=True)
class _Around:
    """What a mention is weighed with besides the cues of its clause."""

    others: Sequence[Match]
    """the mentions of its clause, itself among them"""
    within: Sequence[Match]
    """cues inside the mention"""


def _settled(mentions: Sequence[Match]) -> list[Match]:
    """Without terms that a normal phrase of the same words contradicts: heart .. enlarged, where it is not enlarged."""
    normal = {(match.start, match.end, match.what.finding) for match in mentions if match.what.kind == "normal"}
    return [
        match
        for match in mentions
        if match.what.kind != "terms" or (match.start, match.end, match.what.finding) not in normal
    ]


def _one_way(cues: Sequence[Match], mentions: Sequence[Match], text: str) -> list[Match]:
    """Without the wrong half of cues that stand in two lists, one that looks forwards and one that looks back."""
    spans = {what: {(cue.start, cue.end) for cue in cues if cue.what == what} for what in (*_TWINS, *_TWINS.values())}
    wrong = set()
    for ahead, back in _TWINS.items():
        for start, end in spans[ahead] & spans[back]:
            following = next((mention.start for mention in mentions if mention.start >= end), None)
            first = not any(mention.end <= start for mention in mentions)
            if ahead == "doubt" and following is not None and not first:
                # probable pneumonie goes on at once; nodule suspect, epanchement does not
                first = len(_WORDS.findall(text[end:following])) <= 2 and not _joint(cues, text, end, following)
                following = following if first else None
            wrong.add((start, back if following is not None else ahead))
            if following is None and ahead == "doubt" and any(c.what == "negated" and c.start < start for c in cues):
                wrong.add((start, back))  # pas de nodule suspect
    return [cue for cue in cues if (cue.start, cue.what) not in wrong]


def _inside(cue: Match, mentions: Sequence[Match]) -> bool:
    return any(mention.start <= cue.start and cue.end <= mention.end for mention in mentions)


def _has_partner(mention: Match, beside: Sequence[Match], text: str) -> bool:
    """Whether a `near` rule holds: its other half is close enough, and nothing of `unless`; true for other kinds."""
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
    predicates = [
        cue for cue in cues if cue.what in ("verb", "affirmed_after", "denied_after", "gone_after", "doubt_after")
    ]
    openers = [cue for cue in cues if cue.what in ("negated", "nothing", "same")]
    joints = sorted(
        {place for place, sign in enumerate(text) if sign == ","} | {c.start for c in cues if c.what == "and"}
    )
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


def _turned(mention: Match, cues: Sequence[Match], text: str, around: _Around) -> Said | None:
    """What a mention says under the cues of its clause; None where it says nothing of now."""
    term: Term = mention.what
    before = [cue for cue in cues if cue.start < mention.start]
    after = [cue for cue in cues if cue.start >= mention.end and not _separate(mention, cue, cues, text, around)]

    def made(state: State, cue: Match | None) -> Said:
        rule = term.phrase if cue is None else f"{term.phrase} + {text[cue.start : cue.end]}"
        return Said(term.finding, state, mention.start, mention.end, rule, term.kind)

    own = _own_item(mention, around)
    before = [cue for cue in before if not _ended(cue, mention, cues, text, own, around)]
    aside = next((cue for cue in before if cue.what in ("aside", "hypothesis")), None)
    next_to = [*_linkless(before)[-1:], *_linkless(after)[:1]]
    if aside is not None or any(cue.what in ("past", "nothing") for cue in next_to):
        return None
    gone = _nearest(before, "gone") or next((cue for cue in after if cue.what == "gone_after"), None)
    negation = _negation(mention, before, cues, text, own) or next((c for c in after if c.what == "denied_after"), None)
    doubt = _nearest(before, "doubt")
    doubt = doubt or next((cue for cue in after if cue.what == "doubt_after"), None)
    doubt = doubt or next((cue for cue in cues if cue.what == "either" and _close(text, mention, cue)), None)
    if doubt is None and _ASKED.match(text, mention.end):
        doubt = Match(text.index("?", mention.end), text.index("?", mention.end) + 1, "doubt_after")
    if term.kind in ("normal", "group"):
        # What denies a finding, denied or doubted, says nothing sure; a list before it does not go on in it.
        turned = [cue for cue in (negation, doubt, gone) if cue is not None]
        return None if any(not _joint(cues, text, cue.end, mention.start) for cue in turned) else made("absent", None)
    if doubt is not None and (negation is None or doubt.what == "doubt_after" or doubt.start > negation.start):
        return made("uncertain", doubt)
    cause = gone or negation
    if cause is not None:
        # No large effusion is no word on a small one: a narrower thing that is absent leaves the wider open.
        return None if term.kind == "narrower" else made("absent", cause)
    return made("uncertain" if term.kind == "vague" else "present", None)


def _nearest(cues: Sequence[Match], what: str) -> Match | None:
    return next((cue for cue in reversed(cues) if cue.what == what), None)


def _linkless(cues: Sequence[Match]) -> list[Match]:
    """Without words that only link the items of a list."""
    return [cue for cue in cues if cue.what not in ("or", "with")]


def _separate(mention: Match, cue: Match, cues: Sequence[Match], text: str, around: _Around) -> bool:
    """Whether a cue that looks back means another mention: left effusion, pneumothorax not seen."""
    comma = text.rfind(",", mention.end, cue.start)
    if comma < 0 or not any(comma < other.start < cue.start for other in around.others):
        return False
    return not any(link.what in ("and", "or") and mention.end <= link.start < cue.start for link in cues)


def _ended(cue: Match, mention: Match, cues: Sequence[Match], text: str, own: bool, around: _Around) -> bool:
    """Whether a history or a doubt has ended before the mention.

    A doubt ends where the mention is a clause: possible pneumonia, the heart is enlarged, or behind a comma and `with`.
    A history ends at any item that opens behind a comma: history of pneumonia, small effusion.
    """
    comma = text.rfind(",", cue.end, mention.start)
    if comma < 0 or cue.what not in ("aside", "doubt") or _listed(cues, comma):
        return False
    first = {other.what for other in cues if other.start > comma and not text[comma + 1 : other.start].strip()}
    if cue.what == "doubt":
        return "with" in first or any(inner.what == "verb" for inner in around.within)
    return own or "affirmed" in first


def _own_item(mention: Match, around: _Around) -> bool:
    """Whether the mention is a clause of its own, or begins as an affirmed item does, so that no list goes on in it."""
    return any(cue.what == "verb" or (cue.what == "affirmed" and cue.start == mention.start) for cue in around.within)


def _negation(mention: Match, before: Sequence[Match], cues: Sequence[Match], text: str, own: bool) -> Match | None:
    """The negation whose list reaches the mention."""
    negation = _nearest(before, "negated")
    if negation is None:
        return None
    between = [cue for cue in before if cue.start >= negation.end]
    if any(
        cue.what == "verb" and cue.start > negation.end and _joint(cues, text, cue.end, mention.start)
        for cue in between
    ):
        return None  # no nodule is seen in the right lung, small effusion
    comma = text.rfind(",", negation.end, mention.start)
    told = any(cue.what == "affirmed_after" and not text[mention.end : cue.start].strip() for cue in cues)
    if comma > 0 and (told or own) and not _listed(cues, comma):
        return None  # without effusion or edema, cardiomegaly is present
    for cue in between:
        # no effusion, mild edema: a word of degree behind a comma opens an affirmed item, unless the list goes on.
        if cue.what == "affirmed" and _opens_item(cues, text, cue.start) and not _listed(cues, cue.start):
            return None
    return negation


def _listed(cues: Sequence[Match], start: int) -> bool:
    """Whether a list that is denied goes on behind `start`: .., mild edema or pneumothorax."""
    return any(cue.what == "or" and cue.start >= start for cue in cues)


def _joint(cues: Sequence[Match], text: str, start: int, end: int) -> bool:
    """Whether a comma or an `and` lies between two places."""
    return "," in text[start:end] or any(cue.what == "and" and start <= cue.start < end for cue in cues)


def _opens_item(cues: Sequence[Match], text: str, place: int) -> bool:
    """Whether a comma, an `and` or a `with` stands right before a place."""
    bare = text[:place].rstrip()
    return bare.endswith(",") or any(cue.what in ("and", "with") and cue.end == len(bare) for cue in cues)
