"""Report text: de-identification marks, sections, masking of words, and the digest by which equal texts are known."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from data_modules.copied_text import plain as plain_text
from data_modules.corpus_config import MISSING
from data_modules.headings import HEADINGS, is_view, plain, section_of

FINDINGS = "findings"
TOLD = (FINDINGS, "impression", "addendum", "wet read")
"""Sections that tell what is seen, so that a heading of a view or a part of the body stays within them."""
UNTOLD = "hold no findings, only headings, an indication, a comparison, a technique or the like"
"""What is said of reports in which `told` finds nothing."""
MOST = 100_000
"""signs of a report that labels are read from"""
MAIN = (FINDINGS, "impression", "indication", "comparison", "technique", "examination", "recommendation")
TITLE = 5
"""Words without a full stop that may stand before the first heading and be no findings, such as FINAL REPORT."""
CHEST = "chest"
_CHEST = re.compile(r"\b(?:chest|thora|torace|t[o\u00f3]ra[xc]|lung|pulm|poumon|cxr)", re.IGNORECASE)
_BEYOND = re.compile(
    r"\b(?:abdom|addom|pelvi|head|brain|skull|sinus|neck|spine|cervical|lumbar|knee|hand|wrist|hip|shoulder|foot|ankle|"
    r"femur|liver|kub|bauch|becken|sch[a\u00e4]del|kopf|hals|wirbels[a\u00e4]ul|bassin|cr[a\u00e2\u00e1]n|rachis|cabeza|"
    r"cuello|columna|collo|colonna|pesco[c\u00e7]o|coluna)",
    re.IGNORECASE,
)
"""Words for the chest and for other parts of the body, in the languages of the rules: what tells examinations apart."""
INDICATION = "indication"
BEFORE = (INDICATION, "comparison", "technique", "examination")
"""Sections that come before it."""

# Marks of MIMIC-CXR (___), Open-I (XXXX), older MIMIC notes ([** **]), and characters lost in a wrong decoding.
_MARKS = re.compile(r"(?:\[\*\*.*?\*\*\]|_{2,}|\bX{3,}\b)-?|\ufffd+", re.DOTALL)
_END_OF = re.compile(
    r"\bEND OF (?:THE )?(?:IMPRESSION|FINDINGS|REPORT|DICTATION|NARRATIVE|EXAM(?:INATION)?)\b[ \t]*:?"
    r"|\bSUMMARY[ \t]*:[ \t]*[1-9][ \t]*(?:-?[ \t]*(?:NO|NORMAL|ABNORMAL|SIGNIFICANT|POSSIBLE|PREVIOUSLY|CRITICAL)\b"
    r"[A-Z ,/-]*)?(?=\s*(?:\n|$|I have\b|ACCESSION\b))"
)
"""What ends the told part of a report of Stanford's (CheXpert Plus); a code of normality follows, and who signed."""
_SIGNED = re.compile(
    r"\bI,?(?: the [a-z ]{5,40},?)? have (?:personally )?reviewed the (?:images?|stud(?:y|ies)|examination|films?)\b"
    r"[^.]*\."
    r"|\bBy:[^\n:]{1,60}\s+on:[ \t]*[\d/.-]+|\bThis report has been anonymized\.[^.]*\."
)
_DATE = re.compile(r"[\d\s/:.,-]+(?:hours|hrs|h|[ap]\.?m)?\.?", re.IGNORECASE)
_SPACE_BEFORE_STOP = re.compile(r"\s+([.,;:])(?=\s|$)")
_PLACEHOLDERS = {"not given", *MISSING}
_STOP = re.compile(r"[^\W\d_]{2}\.(?:\s|$)")
_SENTENCE = re.compile(r"[.;?!]\s+[^\W\d_]{2}")
_NONE = re.compile(
    r"(?i:none|n/a|nil|keine?|ninguno|aucune?|nessuno)(?i: available| given)?"
    r"(?:[.;]\s+|[ \t]*\n|(?<=one|ble|ven) (?=[A-Z]))"
)
_NEXT_LINE = re.compile(r"\n\s*(?=\W{0,3}(?:[A-Z\u00c0-\u00de]|\d{1,2}[.)]\s))")
"""Before a line of its own, which the one above does not go on to."""
_ASKED = re.compile(
    r"\W*(?:clinical|history|reason|evaluat|assess|r/o|rule out|question|known|prior|previous|comparison|technique|"
    r"views?|images?|coronal|sagittal|axial|dose|dlp|ctdi|klini|anamnes|frage|indik|v\.? ?a\.|z\.? ?n\.|motivo|"
    r"indicaci|antecedent|quesito|motif)",
    re.IGNORECASE,
)
"""How a line begins that asks, or tells of how and when images were taken."""
_ORDINARY = {
    "advice", "aspect", "comment", "comments", "contrast", "description", "diagnosis", "dose", "esame", "follow-up",
    "modality", "motif", "prior", "priors", "protocol", "reason", "report", "result", "results", "symptoms", "views",
}  # fmt: skip
"""Headings that stand in sentences too, so that they count at the start of a line or sentence only."""
_INSIDE = {name for name, section in HEADINGS.items() if section in MAIN and len(name) > 3} - _ORDINARY
# In the middle of a line a heading counts in capitals only; accents are folded away before it is looked for.
_INLINE = re.compile(r"(?<![\w/])(?P<name>[A-Z][A-Z &/'-]{2,60})(?<! )[ \t]*(?P<colon>:)(?!\d)")
_AMID = {"contrast", "dose", "views", "modality"}
"""Headings that divide a technique, so that they count at the start of a line only."""
_NOUNS = {
    "anamnese", "befund", "befunde", "bericht", "beschreibung", "beurteilung", "diagnose", "empfehlung", "ergebnis",
    "fazit", "fragestellung", "indikation", "klinik", "methode", "technik", "vergleich", "voraufnahme", "voraufnahmen",
    "voruntersuchung", "voruntersuchungen", "zusammenfassung",
}  # fmt: skip
"""German headings: nouns have capitals within a sentence too (im Befund:)."""


def _one_of(names: Iterable[str]) -> str:
    """A regular expression of headings in a folded text, longest first."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return "|".join(re.escape(name).replace(r"\ ", "[ ]") for name in longest_first)


_NAMES = _one_of({name for name, section in HEADINGS.items() if section in (*MAIN, *TOLD)} - _AMID)
# At the start of a sentence a known heading counts in any case: Cough. Findings: Heart big.
_STARTED = re.compile(rf"(?<=[.?!;|\t)\]])[ \t]*+(?P<name>{_NAMES})[ \t]*(?P<colon>:)(?!\d)", re.IGNORECASE)
# Behind other words it must begin with a capital, tell, and be no ordinary word: Cough Findings: Heart big.
_TITLED = re.compile(
    rf"(?<=\s)(?=[A-Z])(?!(?<=[a-z]\s)(?i:{_one_of(_NOUNS)})\b)"
    rf"(?P<name>(?i:{_one_of(name for name in _INSIDE if HEADINGS[name] in TOLD)}))[ \t]*(?P<colon>:)(?!\d)"
)
_MARKED = re.compile(
    rf"(?:^|(?<=[.?!;]))(?P<before>[ \t]*+)"
    rf"(?:\[[ \t]*(?P<name>{_NAMES})[ \t]*\][ \t]*:?|(?P<capitals>{_NAMES})[ \t]*;)",
    re.MULTILINE | re.IGNORECASE,
)
"""A heading with other marks than a colon: [Findings], FINDINGS;."""
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
    word = text.casefold()
    return "" if word in _PLACEHOLDERS or word.rstrip(" .") in _PLACEHOLDERS else text


def lines(text: str) -> str:
    """Return the text of `copied_text.plain` with a colon behind each known heading that has another mark."""
    return _colons(_SIGNED.sub("\n", _END_OF.sub("\nStatus:\n", plain_text(text))))


def _colons(text: str) -> str:
    """The text with a colon behind each known heading that has another mark."""
    parts, done = [], 0
    for match in _MARKED.finditer(text.translate(_FOLD)):
        kind = "name" if match["name"] else "capitals"
        heading = text[slice(*match.span(kind))]
        if kind == "name" or heading.isupper():
            parts += [text[done : match.end("before")], heading, ":"]
            done = match.end()
    return "".join((*parts, text[done:]))


@lru_cache(1)  # the training text and what is told are read one after the other
def sections(text: str) -> Mapping[str, str]:
    """Return {section: text of `lines`}, in order; '' holds what stands before the first heading.

    Headings are those of `headings`. What describes a view or a part of the body belongs to the findings, or stays
    part of the impression that it stands in. Sections under variants of a heading are joined, and the last occurrence
    of one heading wins (as in the MIMIC-CXR section parser: a report repeats it to correct itself). Where headings or
    titles tell of another part of the body in between, those of each are joined instead. Where nothing is headed as
    findings, these are what stands before the first heading or under an unknown one, and what follows an indication, a
    comparison or a technique after a blank line. Where that leaves nothing told, they are the lines below the first of
    the last of those sections, and what stands behind "none", unless that is an indication: what is asked, or known,
    has lines too.
    """
    text = lines(text)
    cuts = _cuts(text)
    found: dict[str, dict[str, str]] = {"": {"": text[: cuts[0].start] if cuts else text}}
    region, start = CHEST, 0
    for cut, end in zip(cuts, [*(cut.start for cut in cuts[1:]), len(text)], strict=False):
        body = text[cut.body : end].strip()
        title = _title(text[start : cut.start], start > 0), _title(text[cut.start : cut.body], False)
        region = _region(" ".join((*title, body if cut.section in ("examination", "technique") else ""))) or region
        start = cut.body
        if cut.heading == "narrative":
            body = _without_title(body)
        if body and not _DATE.fullmatch(body):
            bodies, heading = found.setdefault(cut.section, {}), f"{cut.heading} {region}"
            bodies.pop(heading, None)
            bodies[heading] = body
    if cuts and FINDINGS not in found:
        _untitled(found, next((cut.section for cut in reversed(cuts) if cut.section in BEFORE), INDICATION))
    elif cuts and cuts[0].section == FINDINGS and cuts[0].heading not in HEADINGS and _tells(found[""][""]):
        found[FINDINGS] = {**found.pop(""), **found[FINDINGS]}  # Heart big. Lungs: clear
    joined = {name: "\n".join(bodies.values()).strip() for name, bodies in found.items()}
    return {name: body for name, body in joined.items() if body}


def _without_title(narrative: str) -> str:
    """A narrative without a first line that only says what was taken, and when: TWO VIEWS OF THE CHEST: 10/17/14."""
    first, _, rest = narrative.partition("\n")
    taken, _, day = first.partition(":")
    titled = is_view(first) or (is_view(taken) and _DATE.fullmatch(day.strip()) is not None)
    return rest.strip() if titled else narrative


def _title(before: str, behind: bool) -> str:
    """The title of an examination in the last line before a heading, such as CT ABDOMEN or Abdomen:; else empty.

    `behind`: the first line stands behind a heading itself, and is no title.
    """
    _, line_end, last = before.strip(" \t").rstrip().rpartition("\n")
    title = last.strip(" \t:")
    marked = last != "" and (last == last.upper() or last.endswith(":")) and (line_end != "" or not behind)
    known = marked and len(title) <= LENGTH and section_of(title, True) in ("view", "place")
    return title if known else ""


def _region(text: str) -> str:
    """The part of the body that the head of an examination names; empty where it names none."""
    return CHEST if _CHEST.search(text) else " ".join(sorted(found[0].casefold() for found in _BEYOND.finditer(text)))


_KEPT = "\u00ad"
"""Marks the sections of a text of `kept`: `lines` takes it out of every report, and no page shows it."""
_PART = re.compile(rf"{_KEPT}(?:({'|'.join(TOLD).upper()}):\n)?{_KEPT}([^{_KEPT}]+)")
_OF_KEPT = re.compile(f"(?:{_PART.pattern})++")


def told(text: str) -> dict[str, str]:
    """{section: text} of what a report tells as seen, in order: what labels are read from; without headings, all.

    Indications, comparisons and techniques are not told: they name what is asked, or what was there before. A text of
    `kept` has these sections again.
    """
    if _OF_KEPT.fullmatch(text):
        chosen = {name.casefold(): body for name, body in _PART.findall(text)}
    else:
        parts = sections(text[:MOST])
        chosen = {name: body for name, body in parts.items() if name in TOLD} or {"": parts.get("", "")}
    return {name: body.strip() for name, body in chosen.items() if clean(body)}


def kept(text: str) -> str:
    """What is told as one text, lines and headings included, so that whoever reads it finds the same sections."""
    titled = ((f"{name.upper()}:\n" if name else "", body) for name, body in told(text).items())
    return "\n\n".join(f"{_KEPT}{title}{_KEPT}{body}" for title, body in titled)


@dataclass(frozen=True)
class _Cut:
    """Where a section begins: `start` of its heading, `body` of its text."""

    start: int
    body: int
    heading: str
    section: str


def _cuts(text: str) -> list[_Cut]:
    """Where sections begin, in order.

    A text that holds its view, its findings and what follows from them alone needs no cut within a line: all is told.
    """
    folded = text.translate(_FOLD)
    matches = [*_LINE.finditer(text), *_INLINE.finditer(folded)]
    cuts = _opening(text, [*matches, *_STARTED.finditer(folded), *_TITLED.finditer(folded)])
    before = text[: cuts[0].start].strip() if cuts else ""
    if all(cut.section in TOLD for cut in cuts) and (not before or is_view(before)):
        return _opening(text, matches)
    return cuts


def _opening(text: str, matches: list[re.Match[str]]) -> list[_Cut]:
    """Those of the matches that are headings."""
    found: list[_Cut] = []
    here, free = "", 0
    for match in sorted(matches, key=lambda match: match.start("name")):
        start, end, line = match.start("name"), match.end(), match.re is _LINE
        heading, dash, _ = match["name"].partition(" - ") if line else (match["name"], "", "")
        if match.re is _INLINE:
            heading = _inside(heading)
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
        # Only a heading of the report's own parts is repeated to correct itself, and not within a line.
        name = plain(heading)
        corrects = match.re in (_LINE, _INLINE) or all(cut.heading != name for cut in found)
        name = name if section in _SECTIONS and corrects else f"{start}"
        found.append(_Cut(match.start() if line else start, end if known else start, name, here))
        free = end
    return found


def undivided(text: str) -> str:
    """The text of one section on one line, with a dash for the colon of each heading that would cut it in two."""
    for cut in reversed(_cuts(text)):
        if text[cut.start : cut.body].endswith(":"):
            text = f"{text[: cut.body - 1].rstrip()} \u2013{text[cut.body :]}"
    return text


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
    if _SENTENCE.search(heading) or (bare and here in TOLD and heading.endswith(".")):
        return None  # no acute bony findings, wrapped before the last word
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


def _tells(text: str) -> bool:
    """Whether what stands before the first heading is more than a title."""
    return len(text.split()) > TITLE or _STOP.search(text) is not None


def _untitled(found: dict[str, dict[str, str]], last: str) -> None:
    """Give the findings what no heading claims for another section; `last`: the last of BEFORE."""
    told: dict[str, str] = {}
    for name, bodies in list(found.items()):
        if name == "":
            if _tells(bodies[""]):
                told[""] = found.pop("")[""]
        elif name not in _SECTIONS:
            told |= found.pop(name)
        elif name in BEFORE:
            for heading, body in bodies.items():
                first, *rest = re.split(r"\n[ \t]*\n", body, maxsplit=1)
                if rest:
                    bodies[heading], told[f"after {heading}"] = first, rest[0]
    if not told and last != INDICATION and last in found and found.keys().isdisjoint(TOLD):
        heading, body = found[last].popitem()
        none = _NONE.match(body)
        first, *rest = [none[0], body[none.end() :]] if none else _NEXT_LINE.split(body)
        while rest and _ASKED.match(rest[0]):
            first += f"\n{rest.pop(0)}"
        found[last][heading] = first
        told = {f"after {heading}": "\n".join(rest)} if rest else {}
    if told:
        found[FINDINGS] = told


def without_heading(paragraph: str) -> str:
    """A paragraph without the line end, or the words before a colon, with which it begins."""
    return _LINE.sub("", paragraph, count=1)


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
