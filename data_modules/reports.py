"""Report text: de-identification marks, sections, masking of words, and the digest by which equal texts are known."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from data_modules.headings import HEADINGS, is_view, plain, section_of

FINDINGS = "findings"
TOLD = (FINDINGS, "impression", "addendum", "wet read")
"""Sections that tell what is seen, so that a heading of a view or a part of the body stays within them."""
MAIN = (FINDINGS, "impression", "indication", "comparison", "technique", "examination", "recommendation")
TITLE = 5
"""Words without a full stop that may stand before the first heading and be no findings, such as FINAL REPORT."""
BEFORE = ("indication", "comparison", "technique", "examination")
"""Sections that come before it."""

# Marks of MIMIC-CXR (___), Open-I (XXXX), older MIMIC notes ([** **]), and characters lost in a wrong decoding.
_MARKS = re.compile(r"(?:\[\*\*.*?\*\*\]|_{2,}|\bX{3,}\b)-?|\ufffd+", re.DOTALL)
_SPACE_BEFORE_STOP = re.compile(r"\s+([.,;:])(?=\s|$)")
_PLACEHOLDERS = {"not given.", "not given", "nan", "none", "n/a"}

_BREAK = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]|<br[ \t]*/?>|</?p>|(?:\\r)?\\n|\\\.br\\", re.IGNORECASE)
"""Ends of lines as other systems, web pages, escaped text and HL7 messages write them."""
_STOP = re.compile(r"[^\W\d_]{2}\.(?:\s|$)")
_SENTENCE = re.compile(r"[.;?!]\s+[^\W\d_]{2}")
_ORDINARY = {
    "advice", "aspect", "comment", "comments", "contrast", "description", "diagnosis", "dose", "esame", "follow-up",
    "modality", "motif", "prior", "priors", "protocol", "reason", "report", "result", "results", "symptoms", "views",
}  # fmt: skip
"""Headings that stand in sentences too, so that they count at the start of a line only."""
_INSIDE = {name for name, section in HEADINGS.items() if section in MAIN and len(name) > 3} - _ORDINARY
# In the middle of a line a heading counts in capitals only; accents are folded away before it is looked for.
_INLINE = re.compile(r"(?<![\w/])(?P<name>[A-Z][A-Z &/'-]{2,60})(?<! )[ \t]*(?P<colon>:)(?!\d)")
_SECTIONS = frozenset(HEADINGS.values())
_FOLD = {code: unicodedata.normalize("NFD", chr(code))[0] for code in range(0xC0, 0x180)}
_MARKUP = r"[ \t]*(?:[*#_>\u2022=-]{1,6}[ \t]*)?(?:\(?(?:\d{1,2}|[IVX]{1,4})[.)][ \t]*)?[*_]{0,4}"
_LINE = re.compile(
    rf"^{_MARKUP}(?P<name>[^\W\d_][^:\n*]*(?:(?<=\d):(?=\d)[^:\n*]*)*)[*_]{{0,4}}(?:(?P<colon>:[*_]{{0,4}}(?!\d))|$)",
    re.MULTILINE,
)
LENGTH = 80
"""Characters of the longest heading."""


def clean(text: str) -> str:
    """Return the text without de-identification marks and lost characters, on one line; placeholders become empty."""
    text = " ".join(_MARKS.sub(" ", text).split())
    text = _SPACE_BEFORE_STOP.sub(r"\1", text)
    return "" if text.casefold() in _PLACEHOLDERS else text


def lines(text: str) -> str:
    """Return the text with one kind of line end, of space and of colon, and composed letters."""
    text = _BREAK.sub("\n", unicodedata.normalize("NFC", text))
    return text.translate({0xA0: " ", 0x202F: " ", 0x2009: " ", 0x2007: " ", 0xFF1A: ":", 0xFEFF: ""})


def sections(text: str) -> dict[str, str]:
    """Return {section: text of `lines`}, in order; '' holds what stands before the first heading.

    Headings are those of `headings`. What describes a view or a part of the body belongs to the findings, or stays
    part of the impression that it stands in. Sections under variants of a heading are joined, and the last occurrence
    of one heading wins (as in the MIMIC-CXR section parser: a report repeats it to correct itself). Where nothing is
    headed as findings, these are what stands before the first heading or under an unknown one, and what follows an
    indication, a comparison or a technique after a blank line.
    """
    text = lines(text)
    cuts = _cuts(text)
    found: dict[str, dict[str, str]] = {"": {"": text[: cuts[0].start] if cuts else text}}
    for cut, end in zip(cuts, [*(cut.start for cut in cuts[1:]), len(text)], strict=False):
        body = text[cut.body : end].strip()
        if body:
            bodies = found.setdefault(cut.section, {})
            bodies.pop(cut.heading, None)
            bodies[cut.heading] = body
    if cuts and FINDINGS not in found:
        _untitled(found)
    joined = {name: "\n".join(bodies.values()).strip() for name, bodies in found.items()}
    return {name: body for name, body in joined.items() if body}


@dataclass(frozen=True)
class _Cut:
    """Where a section begins: `start` of its heading, `body` of its text."""

    start: int
    body: int
    heading: str
    section: str


def _cuts(text: str) -> list[_Cut]:
    matches = [*_LINE.finditer(text), *_INLINE.finditer(text.translate(_FOLD))]
    found: list[_Cut] = []
    here, free = "", 0
    for match in sorted(matches, key=lambda match: match.start("name")):
        start, end, line = match.start("name"), match.end(), match.re is _LINE
        heading, dash, _ = match["name"].partition(" - ") if line else (_inside(match["name"]), "", "")
        if dash:  # FINDINGS - Heart big
            end = start + len(heading) + len(dash)
        if not line:
            start = match.end("name") - len(heading)
        heading = heading.strip(" \t_")
        if start < free or not 0 < len(heading) <= LENGTH:
            continue
        bare = match["colon"] is None and not dash
        section = _opened(heading, here, bare) if line else section_of(heading, True)
        if section is None or (dash and section not in MAIN):
            continue
        # A part of the body and an unknown heading say something themselves, and stay in the text.
        known = section in _SECTIONS or section == "view"
        here = FINDINGS if section in ("place", "view") else section
        # Only a heading of the report's own parts is repeated to correct itself.
        name = plain(heading) if section in _SECTIONS else f"{start}"
        found.append(_Cut(match.start() if line else start, end if known else start, name, here))
        free = end
    return found


def _inside(capitals: str) -> str:
    """The heading in which words in capitals end, such as FINDINGS of COUGH FINDINGS; empty where it is none."""
    words = capitals.split(" ")
    ends = (" ".join(words[n:]) for n in range(len(words)))
    return next((end for end in ends if end.casefold() in _INSIDE), "")


def _opened(heading: str, here: str, bare: bool) -> str | None:
    """What a heading at the start of a line opens, standing in the section `here`; None where it opens nothing.

    `bare`: without a colon, it must be known and begin with a capital, or say nothing but the view.
    """
    capitals = heading == heading.upper()
    if _SENTENCE.search(heading):
        return None
    section = section_of(heading, capitals and not bare)
    if section == "view" and (bare or not capitals) and not is_view(heading):
        section = None
    if section in ("place", "view", None):
        if here in TOLD or (bare and section != "view"):
            return None
        if section == "place":
            return section if capitals or len(heading.split()) < 3 else None
        return section or (plain(heading) if capitals else None)
    return None if bare and not (heading[0].isupper() and section in (*MAIN, *TOLD)) else section


def _untitled(found: dict[str, dict[str, str]]) -> None:
    """Give the findings what no heading claims for another section."""
    told: dict[str, str] = {}
    for name, bodies in list(found.items()):
        if name == "":
            if len(bodies[""].split()) > TITLE or _STOP.search(bodies[""]):
                told[""] = found.pop("")[""]
        elif name not in _SECTIONS:
            told |= found.pop(name)
        elif name in BEFORE:
            for heading, body in bodies.items():
                first, *rest = re.split(r"\n[ \t]*\n", body, maxsplit=1)
                if rest:
                    bodies[heading], told[f"after {heading}"] = first, rest[0]
    if told:
        found[FINDINGS] = told


def select(text: str, wanted: list[str]) -> str:
    """Return the cleaned text of the wanted sections, joined in that order; an addendum follows the impression.

    A report without headings is used whole. One with headings but none of the wanted sections gives its findings, its
    impression, an addendum, a wet read or its last paragraph, whichever is there first: never empty because of a
    missing heading alone.
    """
    found = sections(text)
    late = ["addendum"] if "impression" in wanted else []
    chosen = [clean(found[name]) for name in dict.fromkeys([*wanted, *late]) if name in found]
    if chosen:  # placeholders alone, such as "none", leave nothing
        return " ".join(part for part in chosen if part)
    text = lines(text)
    for name in (FINDINGS, "impression", "addendum", "wet read"):
        if name in found:
            return clean(found[name])
    if found.keys() <= {""}:
        return clean(text)
    last = [part for part in re.split(r"\n[ \t]*\n", text) if part.strip()][-1]
    return clean(_LINE.sub("", last, count=1))


def mask_terms(text: str, terms: Iterable[str]) -> str:
    """Return the text with every whole-word occurrence of a term, in any case, replaced by ``___``."""
    words = sorted((term.strip() for term in terms), key=len, reverse=True)  # COVID-19 before COVID
    if not words:
        return text
    pattern = "|".join(r"\s+".join(map(re.escape, word.split())) for word in words)
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", "___", text, flags=re.IGNORECASE)


def digest64(text: str) -> int:
    """Return a signed 64-bit digest of the text without regard to case and spacing."""
    normalised = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.blake2b(normalised.encode(), digest_size=8).digest(), "big", signed=True)
