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
from data_modules.labelling.clauses import AHEAD, BACK, JOINTS, Clause, clauses_of, inside, leads, mentions_of
from data_modules.labelling.phrases import Match, flat
from data_modules.labelling.rules import Rules, Term
from data_modules.labelling.sides import contrasted, limit_of
from data_modules.labelling.spelling import Spelt, answered

State = Literal["present", "absent", "uncertain"]
CLOSE = 4
"""words that may lie between a mention and an `either`"""
LINKED = 6
"""words that may lie between an `or` and either of the two mentions that it links"""
DENIALS = ("negated", "denied_after", "gone", "gone_after")
_ASKED = re.compile(r"[^,;:?(]{0,20}\?")
_ASIDE = re.compile(r"\s*,(?:\s*[^\W\d_]+){1,2}\s*,")
"""what may be put in behind a versus: pneumonia versus, less likely, edema"""
_JOINING = frozenset(("to", "that", "which", "que"))
"""words of a link that hangs on the noun right before it"""
_OPENING = frozenset(re.findall(
    r"\w+",
    "there here it is are was were now also currently es ist sind besteht bestehen zeigt zeigen sich findet finden "
    "derzeit il y a on se si ha hay",
))  # fmt: skip
"""words before a negation that begins a clause"""
_MISSING = ("absence", "lack", "fehlen", "ausencia", "assenza")
"""negations of which a finding may be the sign: lack of lung markings suggests pneumothorax"""
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
    side: str = ""
    """of what denies many findings: the one side that it is said of"""
    limited: bool = False
    """denies a part of what the finding may be: no new effusion"""


def said(sentence: str, rules: Rules) -> list[Said]:
    """The statements of one sentence, in the order of their mentions."""
    spelt = Spelt(sentence, rules.language == "en")
    text = flat(spelt.text)
    terms = rules.terms.found(text)
    if not terms:
        return []
    cues = rules.cues.found(text)
    mentions = mentions_of(terms, cues, text)
    begun = {mention.start for mention in mentions if _FIELD.match(spelt.text, mention.end)}
    mentions = [mention for mention in mentions if not _unfilled(mention, begun, spelt.text)]
    if not mentions:
        return []
    clauses = clauses_of(text, mentions, answered(spelt.text, cues))
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
        reaches = cue.start < mention.start and not _ended(cue, mention, clause) and _proposes(cue, mention, clause)
        return reaches and not (cue.what in DENIALS and contrasted(cue, mention, clause))
    if cue.what in BACK:
        reaches = cue.start >= mention.end and not _separate(cue, mention, clause) and _closes(cue, mention, clause)
        return reaches and not (cue.what in DENIALS and contrasted(cue, mention, clause))
    if cue.what == "either":
        return _versus(cue, mention, clause)
    if cue.what == "or":
        return _chosen(cue, mention, clause)
    if cue.what == "asked":
        return _ASKED.match(clause.text, mention.end, cue.end) is not None  # (pneumonia?)
    if cue.what in ("past", "nothing"):  # work on what stands next to them
        start, end = min(cue.end, mention.end), max(cue.start, mention.start)
        return {one.what for one in clause.cues if start <= one.start < end} <= {"or", "nor", "with", "comma"}
    return False


def _proposes(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether a mention may be what a cue before it means.

    A `consider` is of a finding, not of work on it (consider drainage of the effusion); what is gone before or behind a
    verb ends at a comma.
    """
    if cue.what == "gone" and clause.whole_of().between(cue.start, cue.start + 1, "gone_after"):
        return not clause.between(cue.end, mention.start, "comma")
    if clause.text[cue.start : cue.end] != "consider":
        return True
    following = next((mention for mention in clause.mentions if mention.start >= cue.end), None)
    return following is not None and leads(cue, following, clause)


def _closes(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether what is to be excluded, or a `likely` that ends an item, means a mention: edema likely."""
    between = clause.text[mention.end : cue.start]
    if cue.what == "asked_after":
        return not clause.between(mention.end, cue.start, "comma", "with")
    ends = clause.whole_of().between(cue.end, cue.end + 1, "end")
    if cue.what != "doubt_after" or between.rstrip().endswith((":", "(")) or all(one.end > cue.end for one in ends):
        return True
    # An answer has an empty end behind it (`answered`).
    near = clause.words(cue, mention) <= 2 and "," not in between
    return not between.strip(" ,") or (near and not clause.between(mention.end, cue.start, "with"))


def _chosen(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether an `or` leaves open which of the two mentions next to it is meant: pneumonia or atelectasis."""
    if clause.words(cue, mention) > LINKED:
        return False
    before, behind = _nearest(cue, clause)
    last, first = (before[0].end, behind[0].start) if before and behind else (len(clause.text), 0)
    # A comma right before the `or` is part of it.
    if clause.between(last, cue.start - 2, *_APART) or clause.between(cue.end, first, *_APART):
        return False
    if any(clause.words(cue, one) > LINKED for one in (*before, *behind)):
        return False
    across = {one.what.finding for one in (behind if mention in before else before if mention in behind else ())}
    return bool(across) and across.isdisjoint((mention.what.finding, _ALIKE.get(mention.what.finding)))


def _nearest(cue: Match, clause: Clause) -> tuple[list[Match], list[Match]]:
    """The mentions right before a cue and those right behind it."""
    named = [one for one in clause.mentions if one.what.kind not in ("mask", "normal", "group")]
    last = max((one.end for one in named if one.end <= cue.start), default=-1)
    first = min((one.start for one in named if one.start >= cue.end), default=-1)
    return [one for one in named if one.end == last], [one for one in named if one.start == first]


def _versus(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether a mention is one of the two that an `either` leaves open: atelectasis versus pneumonia.

    What stands before them is sure: patchy opacity, atelectasis versus pneumonia; but not a sign of one of the two:
    blunted angle, scar versus effusion.
    """
    if clause.words(cue, mention) > CLOSE:
        return False
    put_in = _ASIDE.match(clause.text, cue.end)
    begun = put_in.end() if put_in else cue.end
    near = [
        one for side in _nearest(cue, clause) for one in side
        if not clause.between(*((one.end, cue.start - 2) if one.end <= cue.start else (begun, one.start)), *_APART)
    ]  # fmt: skip
    return mention in near or (mention.end <= cue.start and mention.what.finding in {one.what.finding for one in near})


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
    goes_on = ("or", "nor", "and") if cue.what in ("doubt", "link") else ("or", "nor")
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


def _of_its_head(negation: Match, link: Match, clause: Clause) -> bool:
    """Whether a negation denies what a link hangs on: no opacity to suggest; but no effusion, opacity that suggests.

    A link that no to or that joins may as well hang on what stands before the negation: opacity without effusion
    suggestive of pneumonia.
    """
    last = max((one.end for one in clause.between(negation.end, link.start, "or", "nor")), default=negation.end)
    if negation.start >= link.start or clause.between(last, link.start, *JOINTS):
        return False
    if not _JOINING.isdisjoint(clause.text[: link.start].split()[-1:] + clause.text[link.start :].split()[:1]):
        return True
    stop = clause.whole_of().last(negation.start, *JOINTS, "end")
    opening = clause.text[stop.end if stop else 0 : negation.start].split()
    return _OPENING.issuperset(opening) and not clause.text.startswith(_MISSING, negation.start)


def _limited(negation: Match, mention: Match, clause: Clause) -> bool:
    """Whether a word limits what is denied: no new effusion or edema."""
    return any(one.what == "limiting" and negation.start <= one.start < mention.end for one in clause.apart)


def _stated(mention: Match, clause: Clause) -> Said | None:
    """What a mention says under the cues that reach it; None where it says nothing of now."""
    term: Term = mention.what
    cues = {cue.what: cue for cue in clause.cues if _reaches(cue, mention, clause)}

    def made(state: State, cue: Match | None = None) -> Said:
        rule = term.phrase if cue is None else f"{term.phrase} + {clause.text[cue.start : cue.end]}"
        return Said(term.finding, state, mention.start, mention.end, rule, term.kind)

    def first(*kinds: str) -> Match | None:
        return next((cues[kind] for kind in kinds if kind in cues), None)

    if term.kind == "mask" or first("aside", "hypothesis", "asked_after", "past", "nothing"):
        return None
    if first("unassessed") and not any(cue.what == "graded" and cue.start < mention.end for cue in clause.every):
        return None
    gone, negation = first("gone", "gone_after"), first("negated", "denied_after")
    doubt = first("doubt", "doubt_after", "either", "asked")
    link = first("link")
    if doubt is None and link is not None and not (negation is not None and _of_its_head(negation, link, clause)):
        doubt = link
    if term.kind in ("normal", "group"):
        # What denies a finding, itself denied or doubted, says nothing sure, nor does what is said of a zone.
        side = limit_of(mention, clause) if term.kind == "group" else ""
        if negation or doubt or gone or side == "zone":
            return None
        return made("present" if term.finding == NO_FINDING else "absent")._replace(side=side)
    if doubt is not None and (negation is None or doubt.start > negation.start):
        return made("uncertain", doubt)
    cause = gone or negation
    if cause is not None:
        # No large effusion is no word on a small one: a narrower thing that is absent leaves the wider open.
        limited = cause is negation and _limited(cause, mention, clause)
        return None if term.kind == "narrower" else made("absent", cause)._replace(limited=limited)
    open_ = first("or")
    return made("uncertain" if term.kind == "vague" or open_ else "present", open_)
