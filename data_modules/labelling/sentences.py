"""Sentences of a report, each with the section that it stands in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import wrap

from data_modules import reports
from data_modules.labelling.rules import waiting
from data_modules.labelling.spelling import NUMBER

LONGEST = 10_000
"""Signs after which a sentence is cut at a blank: what it says takes time by the square of its length and more. What
reaches over a cut is lost, such as a "no" before a list, so that no sentence that anybody wrote may be cut."""
_END = re.compile(
    r"\|\s*"  # a column
    r"|(?<=[.!?;\u3002])[\"'\u201d)\]]*\s+(?=\S)"  # a stop and a blank
    r"|(?:(?<=[a-z\u00df-\u00ff][.!?;])|(?<=[A-Z\u00c0-\u00de]{2}[.!?;])|(?<=\d[.;]))(?!\s)"  # a stop, no blank,
    r"(?:[^\w?(\[+<>=/&%]|_)*+(?:(?<=[^\W\d][.;])\d{1,2}[.)]\s*+)?(?=[A-Z\u00c0-\u00de])"  # or marks, 2.
    r"|\n\s*+(?=[-*\u2022]\s|\(?\d{1,2}[.)]\s)|\n[ \t]*\n"  # items of a list, paragraphs
    r"|[\u2022\u2023\u25aa\u25cf\u25e6\u25a0]\s*|\s[\"\u201c\u201d]+\s*|[\"\u201c\u201d]\s+"  # dots, quotes
)
_ITEM = re.compile(r"^\s*(?:\(?(?:\d{1,2}[.)]|[a-hA-H]\))\s|[-*\u2022\"\u201c])\s*")
_NUMBER = re.compile(
    r"(?<![^\s.;,])(?P<open>\(?)(?:(?P<digits>\d{1,2})(?P<close>[.)])|(?P<letter>[a-hA-H])\))\s+(?=\S)"
)
"""The mark of an item within a line: 1) or (1) or 1. or a), which others follow."""
_QUESTION = re.compile(r"(?:(?P<mark>^|[,;:(.]\s)|\s)\s*\?$")
_BREAK = re.compile(r"[\n\t]\s*(?=(\S+))")
_NEAR = 40
"""signs before a number in which a bracket that it closes may open"""
SHORT, NARROW = 60, 40
"""Signs below which a line was ended and not wrapped; NARROW where capitals do not tell that a new statement begins."""
_CLOSED = ("", *".!?:;|\u3002")
"""What a line may end with and needs no stop."""
_STOPS, _MANY, _RARE = ".!?:;", 3, 10
"""A text is wrapped where, of MANY lines without a stop and more, the next word had a place on one of RARE at most."""
_JOINS = frozenset({"or", "and", "nor", "oder", "und", "ou", "et", "ni"})
"""Words that begin no statement."""
_INFLECTED = re.compile(
    r"[a-zäöüß]{3,}(?:e|er|es|em)$|\b(?:[Kk]ein\w*|[Oo]hne|[Ff]raglich\w*|[Mm]öglich\w*)(?: [a-zäöüß]+)*$"
)
"""A German line that ends before the noun that it waits for."""
_SHORT = re.compile(
    r"(?:^|[\s(])(?:dr|mr|mrs|vs|nr|approx|ca|resp|fig|e\.g|i\.e|z\.b|bzw|v\.a|z\.n|d\.h|u\.a|i\.v|st\.n|evtl|ggf|vgl|pat|[A-Z])\.$",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"[^\s:=\u2013\u2014-](?:\s+|\s*[(,]\s*)n[o\u00ba\u00b0]\.$", re.IGNORECASE)
"""Before a number: nodule no. 1, but not Nodule: no."""
_LONG = 12
"""signs of which the last are looked at for it, more than the longest has"""
_MARKED = re.compile(r"[_\[\ufffd]|XXX|\s[.,;:]|not given|\bnan\b|\bnone\b|n/a", re.IGNORECASE)
"""What `reports.clean` may change beside blanks; few sentences have any of it."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report."""

    section: str
    text: str


def sentences(report: str, nouns: bool = False) -> list[Sentence]:
    """The sentences of what a report tells as seen (`reports.told`), in order.

    `nouns`: its language writes them with a capital, as German does.
    """
    told = reports.told(report)
    return [Sentence(name, sentence) for name, text in told.items() for sentence in split(text, nouns)]


def split(text: str, nouns: bool = False) -> list[str]:
    """Sentences of a text, on one line each: cut behind stops that end one, at items of lists and paragraphs.

    A line without a stop ends one too, where the next begins with a capital and it does not wait for more (`_ended`).
    A sentence without an end is cut after LONGEST signs.
    """
    parts, start = [], 0
    for first, last in _cuts(text, nouns):
        before = text[start:first]
        if first >= start and not _asks(before, text[last : last + 1]):
            parts.append(before)
            start = last
    parts.append(text[start:])
    lone = (_plain(_ITEM.sub("", part)) for part in parts)
    short = (piece for part in lone for piece in _within(part))
    return [part for part in short if any(sign.isalpha() for sign in part)]


def closed(text: str, german: Callable[[], bool]) -> str:
    """The text with a stop at each line end that ends a statement and has none, so that it can stand on one line.

    `german`: whether the report is, asked only where its lines end otherwise then.
    """
    if "\n" not in text and "\t" not in text:
        return text
    plain, nouns = (_open_ends(text, nouns) for nouns in (False, True))
    parts, done = [], 0
    for place in nouns if plain != nouns and german() else plain:
        parts += [text[done:place].rstrip(","), "."]
        done = place
    return "".join((*parts, text[done:]))


def _open_ends(text: str, nouns: bool) -> list[int]:
    """Where sentences end at a blank, without a stop before it."""
    places, done = set(), 0
    for first, last in _cuts(text, nouns):
        if text[first:last].isspace():
            end = first
            while end > done and text[end - 1].isspace():
                end -= 1
            if end > done and text[end - 1 : end] not in _CLOSED:
                places.add(end)
        done = max(done, last)
    return sorted(places)


def _within(part: str) -> list[str]:
    return [part] if len(part) <= LONGEST else wrap(part, LONGEST, break_on_hyphens=False)


def _cuts(text: str, nouns: bool) -> list[tuple[int, int]]:
    """Where sentences end and the next begin, in order."""
    cuts = [(place, place) for place in _numbered(text)]
    for end in _END.finditer(text):
        before = text[max(0, end.start() - _LONG) : end.start()]
        if "|" in end[0] or "\n" in end[0]:
            cuts.append(end.span())
        elif not _SHORT.search(before) and not (_COUNTED.search(before) and NUMBER.match(text, end.end())):
            cuts.append(end.span())  # but Dr. Smith, vs. pneumonia
    return sorted(cuts + _line_ends(text, nouns))


def _line_ends(text: str, nouns: bool) -> list[tuple[int, int]]:
    """Where lines that end no sentence end a statement."""
    width, prose = max(len(line.strip()) for line in text.split("\n")), text.rstrip().endswith((".", "!", "?"))
    breaks, begun = [], 0
    for end in _BREAK.finditer(text):
        line, word = text[begun : end.start()].strip(), end[1]
        # The first line stood behind its heading, so that nothing says how long it was.
        breaks.append((end.span(), line, word, begun > 0 and len(line) + 1 + len(word) <= width))
        begun = end.end()
    free = [fits for _, line, _, fits in breaks[1:] if line[-1:] not in _STOPS]
    wrapped = width >= NARROW and len(free) >= _MANY and sum(free) * _RARE <= len(free)
    return [
        span for span, line, word, fits in breaks
        if (fits or not wrapped) and _ended(line, word, fits, prose, nouns)
    ]  # fmt: skip


def _numbered(text: str) -> list[int]:
    """Where the items of a list within lines begin: marks of one form that count on."""
    places: list[int] = []
    last: tuple[str, int, int] | None = None
    for mark in _NUMBER.finditer(text):
        before = text[max(0, mark.start() - _NEAR) : mark.start()]
        if before.rstrip().endswith((":", "=")) or before.rfind("(") > before.rfind(")"):
            continue  # Effusion: 1. (image 5)
        number = int(mark["digits"]) if mark["digits"] else ord(mark["letter"].casefold()) - ord("a") + 1
        form = f"{mark['open']}{'a' if mark['letter'] else mark['close']}"
        if last is not None and last[:2] == (form, number - 1):
            places += [last[2], mark.start()]
        last = form, number, mark.start()
    return sorted(set(places))


def _ended(line: str, word: str, fits: bool, prose: bool, nouns: bool) -> bool:
    """Whether a line without a stop ends a statement, before a line that begins with `word`.

    It does not where it was wrapped: where its last word waits for more, where the next begins small, or where capitals
    tell nothing, as those of nouns and of a text in capitals, and it is long. `fits`: the word had a place on it, so
    that it was not wrapped; `prose`: the text ends with a stop.
    """
    if (
        not line
        or not word[0].isalpha()
        or word.casefold() in _JOINS
        or line[-1] in ",:-(/&"
        or line.count("(") > line.count(")")
    ):
        return False
    last = line.rsplit(maxsplit=1)
    if last[-1].casefold() in waiting() and not (len(last) > 1 and last[0].endswith((":", "-", "="))):
        return False  # but Pneumothorax: No
    if not word[0].isupper():
        return fits and not prose
    if nouns or line.isupper():
        return not (nouns and _INFLECTED.search(line)) and (not prose or fits or len(line) < NARROW)
    return fits or not prose or len(line) < SHORT or not (len(word) > 1 and word.isupper())


def _asks(before: str, after: str) -> bool:
    """Whether the last sign of a part is a question mark that stands before what it asks: ? pneumonia."""
    asked = _QUESTION.search(before) if after.isalpha() else None
    return asked is not None and (asked["mark"] is not None or after.islower())


def _plain(part: str) -> str:
    return reports.clean(part) if _MARKED.search(part) else " ".join(part.split())
