"""A sentence cut into clauses, each with the mentions of findings and the cues that stand in it.

1. Mentions: the terms of findings that stand in the sentence; a longer one hides what stands within it.
2. Cues: words and marks that turn what is said; rules/en.yaml tells what each kind does.
3. Clauses: the sentence ends one where a new statement begins, and a cue works within its clause (`scopes`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from operator import attrgetter

from data_modules.labelling.phrases import Match, longest
from data_modules.labelling.rules import Term

NEAR = 20
"""words that may lie between the two halves of a `near` rule"""
JOINTS = ("comma", "and")
AHEAD = ("negated", "doubt", "link", "gone", "aside", "hypothesis")
"""kinds of cues that turn what follows"""
BACK = ("denied_after", "doubt_after", "gone_after", "asked_after", "unassessed")
"""kinds that turn what stands before them"""
SIDES = ("left", "right")
APART = (*SIDES, "zone", "limiting")
_TWINS = (("negated", "denied_after"), ("doubt", "doubt_after"), ("link", "doubt_after"), ("gone", "gone_after"))
"""kinds that share words, which stand before or behind what they turn"""
_PREDICATES = ("verb", "affirmed_after", *BACK)
_OPENERS = ("negated", "nothing", "same")
_LEADING = frozenset(re.findall(
    r"\w+",
    "a an the any acute early focal superimposed underlying due to from related secondary represent represents "
    "representing reflect reflects reflecting be caused by d de del di du da do des un una une um uma l la le les "
    "el los las lo il i gli o os as per ein eine einen einer eines einem der die das",
))  # fmt: skip
"""words between a cue and the mention that it means"""
_TOLD = re.compile(r"\b(?:is|are|was|were|not|ist|sind|nicht|es|son|est|sont|pas)\b")
"""words of a statement behind a `with`: heart size with this technique is normal"""
_YET = re.compile(r"\b(?:but|though|aber|pero|mais|mas|ma)(?: (?:is|are|still|remains?|otherwise))* *$")
"""what ends a gap that says otherwise of no matter: slightly increased but normal"""
_WORD = re.compile(r"[^\W_]+")
_MARK = re.compile(r"[,;:?]")
_MARKS = {",": "comma", ";": "end", ":": "end", "?": "asked"}
_ASKING = re.compile(r"(?<![^\s(,;:])\?\s*(?=[^\W_])")
"""A question mark that stands before what it asks: ? pneumonia."""


@dataclass(frozen=True)
class Clause:
    """A clause with what stands in it; places count from the start of the sentence."""

    text: str
    """of the whole sentence, flat"""
    mentions: list[Match]
    cues: list[Match]
    """outside the mentions, in order"""
    inner: list[Match]
    """cues inside the mentions: small, in small effusion"""
    apart: list[Match]
    """words for sides, zones and limits in the whole sentence, which are no cues"""
    whole: Clause | None = None
    """the sentence as one clause; None of that itself"""

    def whole_of(self) -> Clause:
        return self.whole or self

    @property
    def every(self) -> list[Match]:
        """The cues of the clause, and those in its mentions."""
        return [*self.cues, *(cue for cue in self.inner if inside(cue, self.mentions))]

    def between(self, start: int, end: int, *kinds: str) -> list[Match]:
        """The cues of these kinds that begin between two places, in order."""
        found: list[Match] = []
        for places, cues in (self._of_kind[kind] for kind in kinds if kind in self._of_kind):
            found += cues[bisect_left(places, start) : bisect_left(places, end)]
        return found if len(kinds) == 1 else sorted(found, key=attrgetter("start"))

    @cached_property
    def _at(self) -> dict[int, set[str]]:
        """Place -> the kinds of the cues that begin there."""
        kinds: dict[int, set[str]] = {}
        for cue in self.cues:
            kinds.setdefault(cue.start, set()).add(cue.what)
        return kinds

    @cached_property
    def _of_kind(self) -> dict[str, tuple[list[int], list[Match]]]:
        """Kind -> where its cues begin, and they, in order; many mentions ask for them."""
        kinds: dict[str, tuple[list[int], list[Match]]] = {}
        for cue in self.cues:
            places, cues = kinds.setdefault(cue.what, ([], []))
            places.append(cue.start)
            cues.append(cue)
        return kinds

    def latest(self, *kinds: str) -> int:
        """Where the last cue of these kinds begins, -1 without one."""
        return max((self._of_kind[kind][0][-1] for kind in kinds if kind in self._of_kind), default=-1)

    def last(self, place: int, *kinds: str) -> Match | None:
        """The last cue of these kinds that begins before a place."""
        found = [
            cues[number - 1] for places, cues in (self._of_kind[kind] for kind in kinds if kind in self._of_kind)
            if (number := bisect_left(places, place)) > 0
        ]  # fmt: skip
        return max(found, key=attrgetter("start"), default=None)

    def following(self, place: int, *kinds: str) -> Match | None:
        """The first cue of these kinds that begins at a place or behind it."""
        found = [
            cues[number] for places, cues in (self._of_kind[kind] for kind in kinds if kind in self._of_kind)
            if (number := bisect_left(places, place)) < len(cues)
        ]  # fmt: skip
        return min(found, key=attrgetter("start"), default=None)

    @cached_property
    def sides(self) -> Clause:
        """The sides that the sentence names, alone."""
        return Clause(self.text, [], [one for one in self.apart if one.what in SIDES], [], [])

    @cached_property
    def begun(self) -> list[int]:
        """Where its mentions begin, in order."""
        return sorted(mention.start for mention in self.mentions)

    def next_to(self, place: int) -> set[str]:
        """The kinds of the cues that begin at a place or behind blanks there."""
        while self.text[place : place + 1].isspace():
            place += 1
        return self._at.get(place, set())

    def words(self, one: Match, other: Match) -> int:
        """How many words lie between two matches."""
        return _words(self.text, min(one.end, other.end), max(one.start, other.start))


def _words(text: str, start: int, end: int) -> int:
    begun = _begun(text)
    return max(0, bisect_left(begun, end) - bisect_left(begun, start))


def _reach(text: str, mention: Match) -> tuple[int, int]:
    """Where the last word begins that is too far before a mention, and the last behind it that is near enough."""
    begun = _begun(text)
    before, behind = bisect_left(begun, mention.start) - NEAR - 1, bisect_left(begun, mention.end) + NEAR
    return begun[before] if before >= 0 else -1, begun[behind] if behind < len(begun) else len(text)


@lru_cache(maxsize=4)
def _begun(text: str) -> list[int]:
    """Where its words begin; many mentions ask for those of one sentence."""
    return [word.start() for word in _WORD.finditer(text)]


def inside(match: Match, others: Sequence[Match]) -> bool:
    return any(other.start <= match.start and match.end <= other.end for other in others)


def mentions_of(terms: Sequence[Match], cues: Sequence[Match], text: str) -> list[Match]:
    """The longest terms, since a pericardial effusion holds no (pleural) effusion; masks are among them."""
    named = [match for match in terms if isinstance(match.what, Term)]
    longer = longest([match for match in named if not _contradicted(match, named, cues, text)])
    masks = [match for match in longer if match.what.kind == "mask"]
    halves = [match for match in terms if isinstance(match.what, str) and not inside(match, masks)]
    # The heart is not enlarged: the normal phrase contradicts a term of the same words.
    normal = {(match.start, match.end, match.what.finding) for match in longer if match.what.kind == "normal"}
    return [
        match for match in longer
        if (match.what.kind != "terms" or (match.start, match.end, match.what.finding) not in normal)
        and (match.what.kind != "near" or _paired(match, halves, text))
    ]  # fmt: skip


def _contradicted(mention: Match, named: Sequence[Match], cues: Sequence[Match], text: str) -> bool:
    """Whether a gap of what denies findings passes what says otherwise: heart enlarged with normal vessels."""
    if mention.what.kind not in ("normal", "group") or not mention.gaps:
        return False
    finding = mention.what.finding if mention.what.kind == "normal" else None
    terms = [term for term in named if term.what.kind not in ("mask", "normal", "group")]
    # Without infiltrates and clear: what is denied there says nothing otherwise.
    begun = {term.start for term in terms}
    denials = {cue.end + 1: cue.start for cue in cues if cue.what == "negated" and cue.end + 1 in begun}
    against = [
        cue for cue in cues
        if (cue.what == "against" and cue.start not in denials.values())
        or (cue.what == "with" and not _TOLD.search(text, cue.end, mention.end))
    ]  # fmt: skip
    against += [term for term in terms if finding in (None, term.what.finding) and term.start not in denials]
    gaps = [(start, end) for start, end in mention.gaps if not _YET.search(text, max(start, 0), max(end, 0))]
    return any(start < one.end <= end for start, end in gaps for one in against)


def _paired(mention: Match, halves: Sequence[Match], text: str) -> bool:
    """Whether the other half of a `near` term stands close enough, and nothing of its `unless`."""
    term: Term = mention.what
    first, last = _reach(text, mention)
    close = {half.what for half in halves if half.end > first and half.start <= last}
    return f"unless {term.group}" not in close and (term.alone or f"beside {term.group}" in close)


def clauses_of(text: str, mentions: Sequence[Match], found: Sequence[Match]) -> Iterator[Clause]:
    """The clauses of a sentence that hold a mention."""
    spoken_for = [cue for cue in found if cue.what == "same"]  # clear from apex to base
    apart = [cue for cue in found if cue.what in APART and not inside(cue, spoken_for)]
    found = [cue for cue in found if cue.what not in APART]
    inner = [cue for cue in found if inside(cue, mentions)]
    # No acute findings or pneumothorax: the `no` of what denies many findings denies the rest of its list too.
    denying = {mention.start for mention in mentions if mention.what.kind in ("normal", "group")}
    hidden = {cue for cue in inner if cue.what != "negated" or cue.start not in denying}
    cues = longest([cue for cue in found if cue not in hidden])
    denials = {len(text[: cue.start].rstrip()) for cue in cues if cue.what in BACK}
    asking = {sign.start() for sign in _ASKING.finditer(text)}
    marks = (
        Match(sign.start(), sign.end(), "doubt" if sign.start() in asking else _MARKS[sign[0]])
        for sign in _MARK.finditer(text)
    )
    cues += [
        mark for mark in marks
        if not inside(mark, mentions) and not (mark.what == "end" and mark.end in denials)
    ]  # fmt: skip
    cues.sort(key=lambda cue: cue.start)
    whole = Clause(text, list(mentions), cues, inner, apart)
    for start, end in pairwise([0, *_ends(text, cues), len(text)]):
        here = [mention for mention in mentions if start <= mention.start < end]
        if here:
            clause = Clause(text, here, [cue for cue in cues if start <= cue.start < end], inner, apart)
            yield Clause(text, here, [cue for cue in clause.cues if _faces(cue, clause)], inner, apart, whole)


def _ends(text: str, cues: Sequence[Match]) -> list[int]:
    """Where clauses end: at strong marks and words, and at a comma or an `and` behind which a new statement begins."""
    ends = [0]
    places = sorted({cue.start for cue in cues if cue.what in ("end", *JOINTS)})
    strong = {cue.start for cue in cues if cue.what == "end"}
    for place, following in pairwise([*places, len(text)]):
        behind = {cue.what for cue in cues if ends[-1] <= cue.start < place}
        ahead = [cue for cue in cues if place <= cue.start < following]
        told = not behind.isdisjoint(_PREDICATES)
        tells = any(cue.what in _PREDICATES for cue in ahead)
        opens = any(cue.what in _OPENERS and _words(text, place, cue.start) <= 2 for cue in ahead)
        # The heart is enlarged and edema is seen; the heart is enlarged, no effusion; cardiomegaly, no effusion.
        if place in strong or (told and (tells or opens)) or (opens and "negated" not in behind):
            ends.append(place)
    return ends[1:]


def leads(cue: Match, mention: Match, clause: Clause) -> bool:
    """Whether nothing but small words stands between a cue and a mention behind it: less likely due to pneumonia."""
    between = clause.text[cue.end : mention.start]
    told = " ".join(clause.text[one.start : one.end] for one in clause.between(cue.end, mention.start, "affirmed"))
    small = _LEADING.union(told.split())
    return "  " not in between and not any(sign in between for sign in ",;:(") and small.issuperset(between.split())


def _faces(cue: Match, clause: Clause) -> bool:
    """Whether a cue works in the direction of its kind: of twins one does.

    They look ahead where no mention stands before them, or one follows at once: suspect nodule, but nodule suspect.
    """
    same = {other.what for other in clause.cues if (other.start, other.end) == (cue.start, cue.end)}
    pair = next((pair for pair in _TWINS if cue.what in pair and same.issuperset(pair)), None)
    if pair is None:
        return True
    following = next((mention for mention in clause.mentions if mention.start >= cue.end), None)
    ahead = following is not None
    if following is not None and clause.mentions[0].end <= cue.start:
        ahead = following.what.kind not in ("normal", "group") and leads(cue, following, clause)
    if not ahead and pair[1] == "doubt_after":
        negated = clause.between(0, cue.start, "negated")
        if negated and not clause.between(negated[-1].end, cue.start, "comma"):
            return False  # pas de nodule suspect
    return (cue.what == pair[0]) == ahead
