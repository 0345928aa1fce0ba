"""What one sentence says of each finding that it names: present, absent, in doubt, or nothing.

After its clauses (steps 1 to 3, `clauses`) come two steps, as in Chapman's NegEx and ConText (doi
10.1006/jbin.2001.1029 and 10.1016/j.jbi.2009.05.002):

4. Scope: a cue reaches the mentions of the list that it opens or closes, up to where that list ends.
5. State: what the cues that reach a mention make of it.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from data_modules.findings import NO_FINDING
from data_modules.labelling.clauses import AHEAD, BACK, JOINTS, Clause, clauses_of, inside, mentions_of
from data_modules.labelling.phrases import Match, flat
from data_modules.labelling.rules import Rules, Term
from data_modules.labelling.spelling import Spelt, answered

State = Literal["present", "absent", "uncertain"]
CLOSE = 4
"""words that may lie between a mention and an `either`"""
LINKED = 6
"""words that may lie between an `or` and either of the two mentions that it links"""
_ASKED = re.compile(r"[^,;:?(]{0,20}\?")
_FIELD = re.compile(r"\s*:[\s_.]*")
_APART = (*JOINTS, "with", "verb")
"""cues that may not lie between them"""
_ALIKE = {"atelectasis": "fibrosis", "fibrosis": "atelectasis"}
"""A band is called atelectasis or scar, and who marks reports counts it as both."""


class Said(NamedTuple):
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
    """The statements of one sentence, in the order of their mentions."""
    spelt = Spelt(sentence, rules.language == "en")
    text = flat(spelt.text)
    terms = rules.terms.found(text)
    mentions = mentions_of(terms, text)
    begun = {mention.start for mention in mentions if _FIELD.match(spelt.text, mention.end)}
    mentions = [mention for mention in mentions if not _unfilled(mention, begun, spelt.text)]
    if not mentions:
        return []
    clauses = clauses_of(text, mentions, answered(spelt.text, rules.cues.found(text)))
    stated = (_stated(mention, clause) for clause in clauses for mention in clause.mentions)
    return [
        one._replace(start=spelt.written(one.start), end=spelt.written(one.end)) for one in stated if one is not None
    ]


def _unfilled(mention: Match, begun: set[int], text: str) -> bool:
    """Whether a mention is an item of a form that says nothing: nothing stands behind its colon, or the next item."""
    item = _FIELD.match(text, mention.end)
    return item is not None and (item.end() == len(text) or item.end() in begun)


def _reaches(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether a mention lies in the scope of a cue."""
    if cue.what in AHEAD:
        return cue.start < mention.start and not _ended(cue, mention, clause)
    if cue.what in BACK:
        return cue.start >= mention.end and not _separate(cue, mention, clause)
    if cue.what == "either":
        return clause.words(cue, mention) <= CLOSE
    if cue.what == "or":
        return _chosen(cue, mention, clause)
    if cue.what == "asked":
        return _ASKED.match(clause.text, mention.end, cue.end) is not None  # (pneumonia?)
    if cue.what in ("past", "nothing"):  # work on what stands next to them
        start, end = min(cue.end, mention.end), max(cue.start, mention.start)
        return {one.what for one in clause.cues if start <= one.start < end} <= {"or", "nor", "with", "comma"}
    return False


def _chosen(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether an `or` leaves open which of the two mentions next to it is meant: pneumonia or atelectasis."""
    if clause.words(cue, mention) > LINKED:
        return False
    named = [one for one in clause.mentions if one.what.kind not in ("mask", "normal", "group")]
    last = max((one.end for one in named if one.end <= cue.start), default=len(clause.text))
    first = min((one.start for one in named if one.start >= cue.end), default=0)
    before, behind = ([one for one in named if one.end == last], [one for one in named if one.start == first])
    # A comma right before the `or` is part of it.
    if clause.between(last, cue.start - 2, *_APART) or clause.between(cue.end, first, *_APART):
        return False
    if any(clause.words(cue, one) > LINKED for one in (*before, *behind)):
        return False
    across = {one.what.finding for one in (behind if mention in before else before if mention in behind else ())}
    return bool(across) and across.isdisjoint((mention.what.finding, _ALIKE.get(mention.what.finding)))


def _separate(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether a cue that looks back means another mention: left effusion, pneumothorax not seen."""
    comma = clause.text.rfind(",", mention.end, cue.start)
    others = comma >= 0 and any(comma < other.start < cue.start for other in clause.mentions)
    return others and not clause.between(mention.end, cue.start, "and", "or", "nor")


def _ended(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether the list that a cue opens ends before a mention.

    It ends behind a verb (no nodule is seen in the right lung, small effusion) and where a comma opens a clause or an
    affirmed item (no effusion, mild edema), unless it goes on behind that (no effusion, mild edema or pneumothorax).
    """
    joints = clause.between(cue.end, mention.start, *JOINTS, "with")
    if mention.what.kind in ("normal", "group") and any(joint.what in JOINTS for joint in joints):
        return True  # no edema, normal heart
    negated = cue.what == "negated"
    verb = next(iter(clause.between(cue.end, mention.start, "verb")), None)
    if negated and verb is not None and clause.between(verb.end, mention.start, *JOINTS):
        return True
    goes_on = ("or", "nor", "and") if cue.what == "doubt" else ("or", "nor")
    last = clause.latest(*goes_on)
    joints = [joint for joint in joints if joint.end > last]
    own = bool(joints) and _own(mention, clause)
    for joint in joints:
        opens = clause.next_to(joint.end)
        if cue in clause.inner or ("affirmed" in opens and (joint.what == "comma" or negated)):
            return True
        if joint.what == "comma" and ("with" in opens or own):
            return True
    return False


def _own(mention: Match, clause: Clause) -> bool:
    """Whether a mention is a clause of its own or opens as an affirmed item does: heart is enlarged, small effusion."""
    inner = (one for one in clause.inner if inside(one, [mention]))
    begins = any(one.what == "verb" or (one.what == "affirmed" and one.start == mention.start) for one in inner)
    return begins or "affirmed_after" in clause.next_to(mention.end)


def _stated(mention: Match, clause: Clause) -> Said | None:
    """What a mention says under the cues that reach it; None where it says nothing of now."""
    term: Term = mention.what
    cues = {cue.what: cue for cue in clause.cues if _reaches(cue, mention, clause)}

    def made(state: State, cue: Match | None = None) -> Said:
        rule = term.phrase if cue is None else f"{term.phrase} + {clause.text[cue.start : cue.end]}"
        return Said(term.finding, state, mention.start, mention.end, rule, term.kind)

    def first(*kinds: str) -> Match | None:
        return next((cues[kind] for kind in kinds if kind in cues), None)

    if term.kind == "mask" or first("aside", "hypothesis", "past", "nothing"):
        return None
    if first("unassessed") and not any(cue.what == "graded" and cue.start < mention.end for cue in clause.every):
        return None
    gone, negation = first("gone", "gone_after"), first("negated", "denied_after")
    doubt = first("doubt", "doubt_after", "either", "asked")
    if term.kind in ("normal", "group"):
        # What denies a finding, itself denied or doubted, says nothing sure.
        return None if negation or doubt or gone else made("present" if term.finding == NO_FINDING else "absent")
    if doubt is not None and (negation is None or doubt.start > negation.start):
        return made("uncertain", doubt)
    cause = gone or negation
    if cause is not None:
        # No large effusion is no word on a small one: a narrower thing that is absent leaves the wider open.
        return None if term.kind == "narrower" else made("absent", cause)
    open_ = first("or")
    return made("uncertain" if term.kind == "vague" or open_ else "present", open_)
