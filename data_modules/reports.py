"""Report text: de-identification marks, sections, masking of words, and the digest by which equal texts are known."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable

# Marks of MIMIC-CXR (___), Open-I (XXXX), older MIMIC notes ([** **]), and characters lost in a wrong decoding.
_MARKS = re.compile(r"(?:\[\*\*.*?\*\*\]|_{2,}|\bX{3,}\b)-?|\ufffd+", re.DOTALL)
_SPACE_BEFORE_STOP = re.compile(r"\s+([.,;:])(?=\s|$)")
_PLACEHOLDERS = {"not given.", "not given", "nan", "none", "n/a"}

_HEADINGS = {
    "findings": "findings", "finding": "findings",
    "impression": "impression", "impressions": "impression", "conclusion": "impression", "conclusions": "impression",
    "opinion": "impression", "findings/impression": "findings", "findings and impression": "findings",
    "indication": "indication", "indications": "indication", "history": "indication", "clinical history": "indication",
    "clinical information": "indication", "reason for exam": "indication", "reason for examination": "indication",
    "reason for study": "indication", "clinical indication": "indication", "patient history": "indication",
    "comparison": "comparison", "comparisons": "comparison", "comparison exam": "comparison",
    "comparison film": "comparison", "reference exam": "comparison",
    "technique": "technique", "procedure": "technique",
    "examination": "examination", "exam": "examination", "study": "examination",
    "type of examination": "examination",
    "recommendation": "recommendation", "recommendations": "recommendation",
    "recommendation(s)": "recommendation", "notification": "notification",
}  # fmt: skip
MISSPELT = 0.8
"""How like a known heading (ratio of difflib) an unknown one in capitals must be to count as its misspelling, such as
FINDNGS, IMPRESSON, COMPARISION, INDICTION or TECHNQIUE, of which MIMIC-CXR has dozens."""
_NAMES = "|".join(re.escape(name) for name in sorted(_HEADINGS, key=len, reverse=True)).replace("\\ ", "[ \t]+")
_CAPITALS = "|".join(re.escape(n.upper()) for n in sorted(_HEADINGS, key=len, reverse=True)).replace("\\ ", "[ \t]+")
# A known heading in any case at the start of a line, or in capitals anywhere; an unknown one only in capitals at the
# start of a line, so that "Lines and tubes: none" stays part of its section.
_HEADING = re.compile(
    rf"(?:^[ \t]*(?P<line>(?i:{_NAMES}))|(?<![\w/])(?P<inline>{_CAPITALS})|^[ \t]*(?P<other>[A-Z][A-Z ()/,-]{{2,}}))"
    r"[ \t]*:",
    re.MULTILINE,
)


def clean(text: str) -> str:
    """Return the text without de-identification marks and lost characters, on one line; placeholders become empty."""
    text = " ".join(_MARKS.sub(" ", text).split())
    text = _SPACE_BEFORE_STOP.sub(r"\1", text)
    return "" if text.casefold() in _PLACEHOLDERS else text


def sections(text: str) -> dict[str, str]:
    """Return {section: text as written}, in order; '' holds what stands before the first heading.

    Variants of a heading count as one section, and the last occurrence wins (as in the MIMIC-CXR section parser:
    a report repeats a heading to correct itself).
    """
    matches = list(_HEADING.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    found = {"": text[: matches[0].start()] if matches else text}
    for match, end in zip(matches, ends, strict=True) if matches else ():
        heading = " ".join((match["line"] or match["inline"] or match["other"]).casefold().split())
        body = text[match.end() : end]
        if body.strip():
            found[_section(heading)] = body
    return {name: body.strip() for name, body in found.items() if body.strip()}


def _section(heading: str) -> str:
    """The section of a case-folded heading; an unknown one that is not a misspelling is a section of its own."""
    if heading not in _HEADINGS:
        heading = next(iter(difflib.get_close_matches(heading, _HEADINGS, 1, MISSPELT)), heading)
    return _HEADINGS.get(heading, heading)


def select(text: str, wanted: list[str]) -> str:
    """Return the cleaned text of the wanted sections, joined in that order.

    A report without headings is used whole. One with headings but none of the wanted sections gives what stands before
    its first heading, or its last paragraph: never empty because of a missing heading alone.
    """
    found = sections(text)
    chosen = [clean(found[name]) for name in wanted if name in found]
    if chosen:  # placeholders alone, such as "none", leave nothing
        return " ".join(part for part in chosen if part)
    if found.keys() <= {""}:
        return clean(text)
    before = clean(found.get("", ""))
    if len(before.split()) > 5:  # shorter is a title such as FINAL REPORT
        return before
    last = [part for part in re.split(r"\n[ \t]*\n", text) if part.strip()][-1]
    return clean(_HEADING.sub("", last, count=1))


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
