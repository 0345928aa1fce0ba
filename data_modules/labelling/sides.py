"""Sides and zones: what is said of one lung is not said of both.

A statement on many findings (the right lung is clear) is limited by a side or a zone that stands next to it. A denial
is of one side where the other side of the same finding is affirmed (small right effusion, none on the left).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from data_modules.labelling.clauses import AHEAD, BACK, JOINTS, SIDES, Clause
from data_modules.labelling.phrases import Match

_PLACES = (*SIDES, "zone")
BEFORE, BEHIND = 1, 3
"""words that may lie between a statement and a side before or behind it"""
CLOSE = 2
"""words between a denial and the side that it is of"""
FAR = 100
"""signs beyond which a side is of something else"""
_STOPS = (*JOINTS, "end")
_TURNS = tuple(kind for kind in (*AHEAD, *BACK) if kind not in ("aside", "hypothesis"))


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ARTICLES = _set(
    "the a an der die das den dem des ein eine el la los las un una le les l une il lo i gli o os as um uma"
)
_SMALL = _ARTICLES | _set(
    "on at in to of is are side sided one ones only just amount seite auf im ist sind nur ausgepragt lado al del en es "
    "son esta solo cote du sur dans est seul seulement lato sul nel sulla nella e sono no na ao so"
)
"""words that name no finding of their own"""
_ALSO = _set("so as well too also likewise auch ebenso wie tambien aussi anche cosi tambem bem")
"""words by which the other side is as the one is"""
_INCLUDING = _set("including inclusive einschließlich incluyendo compris compresi incluindo")
"""words behind which a zone is one of those that are meant"""
_TOP = ("upper", "apic", "apex", "ober", "spitz", "superior", "superieur", "vertice", "sommet")
_BOTTOM = ("lower", "bas", "unter", "inferi")
_WORD = re.compile(r"[^\W_]+")


def limit_of(mention: Match, clause: Clause) -> str:
    """The side that a statement is limited by, `zone` for less than a side, nothing where it is of both sides."""
    near = [side for side in clause.apart if side.what in _PLACES and _beside(side, mention, clause)]
    if any(side.what == "zone" for side in near) and not _from_top_to_bottom(near, clause):
        return "zone"
    if any(_follows(side, near, mention, clause) for side in clause.apart if side.what in SIDES):
        return ""
    for one, other in pairwise(side for side in clause.apart if side.what in SIDES):
        if one.what != other.what and (one in near or other in near) and _joined(one, other, mention, clause):
            return ""
    names = {side.what for side in near if side.what in SIDES}
    return "zone" if len(names) > 1 else "".join(names)


def _beside(side: Match, mention: Match, clause: Clause) -> bool:
    """Whether a side or zone stands within a statement, or next to it with nothing of its own between."""
    if mention.start <= side.start < mention.end:
        return True
    ahead = side.end <= mention.start
    start, end = min(side.end, mention.end), max(side.start, mention.start)
    if end - start > FAR or clause.words(side, mention) > (BEFORE if ahead else BEHIND):
        return False
    whole = clause.whole_of()
    if not ahead and not _INCLUDING.isdisjoint(_words(start, end, whole)):
        return False
    # Clear on the left; but normal in a left nephrectomized case.
    closes = ahead or not _WORD.search(clause.text, side.end, _next_stop(side, whole))
    return closes and not whole.between(start, end, *_STOPS, "with", *_TURNS)


def _joined(one: Match, other: Match, mention: Match, clause: Clause) -> bool:
    """Whether two sides are named as one: right and left lungs, right lung and left lung."""
    if other.start - one.end > FAR:
        return False
    named = _linking(one, other, clause)
    between = _words(one.end, other.start, clause) - _ARTICLES - named
    return bool(named) and between <= _words(other.end, min(mention.end, other.end + FAR), clause)


def _linking(one: Match, other: Match, clause: Clause, kinds: Sequence[str] = ("and", "or", "nor")) -> set[str]:
    """The words between two places that make one of them."""
    return {
        clause.text[cue.start : cue.end] for cue in (*clause.cues, *clause.inner)
        if cue.what in kinds and one.end <= cue.start < other.start
    }  # fmt: skip


def _follows(side: Match, near: Sequence[Match], mention: Match, clause: Clause) -> bool:
    """Whether the same is said of the other side right behind: the right lung is clear and so is the left."""
    if not 0 <= side.start - mention.end <= FAR or not any(one.what != side.what for one in near):
        return False
    whole = clause.whole_of()
    told = _words(mention.start, mention.end, whole)
    end = min(_next_stop(side, whole), side.end + FAR)
    joints = {whole.text[cue.start : cue.end] for cue in whole.between(mention.end, side.start, "and")}
    words = _words(mention.end, end, whole) - _words(side.start, side.end, whole) - joints
    judges = _WORD.findall(whole.text, mention.start, mention.end)[-1]
    return words <= told | _ARTICLES | _ALSO and bool(words & {judges, *_ALSO})


def _from_top_to_bottom(near: Sequence[Match], clause: Clause) -> bool:
    """Whether zones are the whole lungs: apices and bases, of no side."""
    whole = clause.whole_of()
    if whole.sides.cues:
        return False
    zones = [one for one in clause.apart if one.what == "zone"]
    ends = [one for one in zones if whole.text.startswith((*_TOP, *_BOTTOM), one.start)]
    for one, other in pairwise(ends):
        opposed = {whole.text.startswith(_TOP, end.start) for end in (one, other)} == {True, False}
        if not opposed or other.start - one.end > FAR or (one not in near and other not in near):
            continue
        named = _linking(one, other, whole, ("and",))
        zone_words = {whole.text[zone.start : zone.end] for zone in zones}
        return bool(named) and _words(one.end, other.start, whole) - named - _ARTICLES <= zone_words
    return False


def contrasted(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether a cue that denies works on one side of a mention, and the other side is affirmed."""
    whole = clause.whole_of()
    before, denied = whole.sides.last(cue.start, *SIDES), whole.sides.following(cue.end, *SIDES)
    if denied is None or not _denies(cue, denied, mention, whole):
        # The right effusion has resolved, the left is unchanged.
        denied = before if cue.what in BACK and before is not None and _of(before, mention, whole) else None
    if denied is None:
        return False
    if before is not None and before.what != denied.what and _owns(before, cue, mention, whole):
        return True
    other = whole.sides.following(denied.end, *(side for side in SIDES if side != denied.what))
    return other is not None and _affirmed(other, whole)


def _denies(cue: Match, side: Match, mention: Match, whole: Clause) -> bool:
    """Whether a cue denies a side behind it: no left effusion, no effusion on the left, not seen on the left."""
    if side.start - cue.end > FAR or whole.between(cue.end, side.start, *_STOPS, "with"):
        return False
    if _near(cue, side, whole):
        return True
    own = cue.end <= mention.start and mention.end <= side.start and not whole.between(cue.end, side.start, "or", "nor")
    return own and _near(mention, side, whole)


def _owns(side: Match, cue: Match, mention: Match, whole: Clause) -> bool:
    """Whether a side before a cue that denies is one of the mention that it does not deny."""
    return _of(side, mention, whole) if cue.what in BACK else _shares(side, cue, whole)


def _near(one: Match, other: Match, clause: Clause) -> bool:
    start, end = min(one.end, other.end), max(one.start, other.start)
    return end - start <= FAR and clause.words(one, other) <= CLOSE


def _of(side: Match, mention: Match, whole: Clause) -> bool:
    """Whether a side is that of a mention: right effusion, effusion on the right."""
    start, end = min(side.end, mention.end), max(side.start, mention.start)
    return end - start <= FAR and not whole.between(start, end, *_STOPS, "with")


def _shares(side: Match, cue: Match, whole: Clause) -> bool:
    """Whether a side right before a cue waits for the noun behind it: small right and no left effusion."""
    if not _near(side, cue, whole) or whole.words(side, cue) > 1 or not whole.between(side.end, cue.start, *_STOPS):
        return False
    joint = whole.last(side.start, *JOINTS)
    return _bare(joint.end if joint else 0, side.end, whole)


def _affirmed(side: Match, whole: Clause) -> bool:
    """Whether a side is affirmed in an item of its own, without a noun: small on the left; the left is unchanged.

    A word that is no cue and not small may be another finding: stable postsurgical changes on the right.
    """
    stop, end = whole.last(side.start, *_STOPS), _next_stop(side, whole)
    if stop is None or side.start - stop.end > FAR or end - side.end > FAR:
        return False
    told = [cue for cue in whole.between(stop.end, end, "affirmed") if (cue.start, cue.end) != (side.start, side.end)]
    last = _words(side.end, end, whole) <= _SMALL or not whole.next_to(side.end).isdisjoint(("verb", "affirmed"))
    known = [*whole.between(stop.end, end, "affirmed", "verb"), *whole.sides.between(stop.end, end, *SIDES)]
    words = _words(stop.end, end, whole) - _SMALL
    named = set().union(*(_words(cue.start, cue.end, whole) for cue in known))
    return bool(told) and last and words <= named and _bare(stop.end, end, whole)


def _words(start: int, end: int, clause: Clause) -> set[str]:
    return set(_WORD.findall(clause.text, start, end))


def _next_stop(side: Match, whole: Clause) -> int:
    stop = whole.following(side.end, *_STOPS)
    return len(whole.text) if stop is None else stop.start


def _bare(start: int, end: int, whole: Clause) -> bool:
    """Whether neither a mention nor a cue that turns one stands between two places."""
    return not whole.between(start, end, *_TURNS) and bisect_left(whole.begun, start) == bisect_left(whole.begun, end)
