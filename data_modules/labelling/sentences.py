"""Sentences of a report, each with the section that it stands in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from data_modules import reports

MOST = 100_000
"""signs of a report that are read"""
_END = re.compile(
    r"(?<=[.!?;\u3002])[\"'\u201d)\]]*\s+(?=\S)"  # a stop and a blank
    r"|(?<=[a-z\u00df-\u00ff][.;])(?=[A-Z\u00c0-\u00de])"  # a stop whose blank was forgotten
    r"|\n\s*(?=[-*\u2022]\s|\(?\d{1,2}[.)]\s)|\n[ \t]*\n"  # items of a list, paragraphs
    r"|\s[\"\u201c\u201d\u2022]+\s*|[\"\u201c\u201d\u2022]\s+"  # quotes and dots that stand for an item
)
_ITEM = re.compile(r"^\s*(?:\(?\d{1,2}[.)]\s|[-*\u2022\"\u201c])\s*")
_SHORT = re.compile(
    r"(?:^|[\s(])(?:dr|mr|mrs|vs|nr|approx|ca|resp|fig|e\.g|i\.e|z\.b|bzw|v\.a|z\.n|d\.h|u\.a|i\.v|st\.n|evtl|ggf|vgl|pat|[A-Z])\.$",
    re.IGNORECASE,
)
_LONG = 12
"""signs of which the last are looked at for it, more than the longest has"""
_MARKED = re.compile(r"[_\[\ufffd]|XXX|\s[.,;:]|not given|\bnan\b|\bnone\b|n/a", re.IGNORECASE)
"""What `reports.clean` may change beside blanks; few sentences have any of it."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report."""

    section: str
    text: str


def sentences(report: str) -> list[Sentence]:
    """The sentences of what a report tells as seen, in order; of a report without headings, all.

    Indications, comparisons and techniques are not told: they name what is asked, or what was there before.
    """
    parts = reports.sections(report[:MOST])
    chosen = {name: text for name, text in parts.items() if name in reports.TOLD} or {"": parts.get("", "")}
    return [Sentence(name, sentence) for name, text in chosen.items() for sentence in split(text)]


def split(text: str) -> list[str]:
    """Sentences of a text, on one line each: cut behind stops that end one, at items of lists and paragraphs."""
    parts, start = [], 0
    for end in _END.finditer(text):
        before = text[start : end.start()]
        if end[0].strip() or "\n" in end[0] or not _SHORT.search(before[-_LONG:]):  # Dr. Smith, vs. pneumonia
            parts.append(before)
            start = end.end()
    parts.append(text[start:])
    lone = (_plain(_ITEM.sub("", part)) for part in parts)
    return [part for part in lone if any(sign.isalpha() for sign in part)]


def _plain(part: str) -> str:
    return reports.clean(part) if _MARKED.search(part) else " ".join(part.split())
