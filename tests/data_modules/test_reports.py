from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.reports import clean, digest64, mask_terms, sections, select

WORDS = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=8), min_size=1, max_size=12).map(" ".join)
NAMES = st.lists(
    st.sampled_from(["findings", "impression", "indication", "comparison", "technique"]), min_size=1, unique=True
)
MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for infection

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation, pleural effusion or pneumothorax.  Lines and tubes: none.
 The heart is normal.

 IMPRESSION:

 No acute process .
"""


def test_sections_of_a_mimic_report() -> None:
    found = sections(MIMIC)
    assert list(found) == ["", "examination", "indication", "comparison", "findings", "impression"]
    assert found["findings"].startswith("There is no focal") and found["findings"].endswith("normal.")
    chosen = select(MIMIC, ["impression", "findings"])
    assert chosen.startswith("No acute process. There is no focal") and "  " not in chosen and "\n" not in chosen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 52-year-old man; note: see below.", "A 52-year-old man; note: see below."),  # free text is used whole
        ("Impression: old.\nIMPRESSION: new.", "new."),  # the last occurrence corrects the first
        ("FINDINGS: clear. IMPRESSION: normal.", "clear. normal."),  # headings inside a line
        ("INDICATION: cough.\n\nHeart is large. Lungs clear.", "Heart is large. Lungs clear."),
        ("Portable chest with a tube in place.\nCOMPARISON: none", "Portable chest with a tube in place."),
        ("FINDINGS:\nIMPRESSION: normal", "normal"),
        ("___-year-old, XXXX-year-old.", "year-old, year-old."),
        ("Not given.", ""),
        (" \n ", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_select(text: str, expected: str) -> None:
    assert select(text, ["findings", "impression"]) == expected


def test_clean_removes_marks_only() -> None:
    assert clean("Mr. ___ , [**Last Name 12**] seen \ufffd\ufffd by XXXX .") == "Mr., seen by."
    assert clean("snake_case and XX stay") == "snake_case and XX stay"


@given(st.text())
def test_clean_is_idempotent_and_on_one_line(text: str) -> None:
    once = clean(text)
    assert clean(once) == once and "\n" not in once and once == once.strip()


@given(WORDS)
def test_text_without_headings_is_used_whole(text: str) -> None:
    assert select(text, ["findings", "impression"]) == clean(text)


def test_wanted_sections_of_placeholders_alone_are_empty() -> None:
    assert select("Findings: none\nImpression: N/A", ["findings", "impression"]) == ""


@given(NAMES, st.data())
def test_sections_come_back_as_written(names: list[str], data: st.DataObject) -> None:
    bodies = {name: data.draw(WORDS) for name in names}
    upper = data.draw(st.booleans())
    text = "\n".join(f"{name.upper() if upper else name.title()}: {body}" for name, body in bodies.items())
    assert sections(text) == bodies
    wanted = data.draw(st.permutations(names))
    assert select(text, wanted) == " ".join(part for part in (clean(bodies[name]) for name in wanted) if part)


@given(st.text(string.printable))
def test_no_section_invents_text(text: str) -> None:
    for body in sections(text).values():
        assert body in text and body.strip()


def test_mask_terms_hides_whole_words_in_any_case() -> None:
    text = "Covid-19 and COVID; covidien tube. sars-cov-2, viral  pneumonia."
    masked = mask_terms(text, ["COVID", "COVID-19", "SARS-CoV-2", "viral pneumonia"])
    assert masked == "___ and ___; covidien tube. ___, ___."
    assert mask_terms(text, []) == text


@given(WORDS, st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=3), max_size=4))
def test_no_masked_word_stays(text: str, terms: list[str]) -> None:
    assert not set(mask_terms(text, terms).split()) & set(terms)


def test_digest_ignores_case_and_spacing_and_fits_int64() -> None:
    assert digest64("No  acute\nprocess.") == digest64("no acute process.") != digest64("No acute process")
    assert digest64("") == -1970711489451281740, "must never change: checkpoints and caches compare it"
    assert all(-(2**63) <= digest64(str(i)) < 2**63 for i in range(100))
    assert min(digest64(str(i)) for i in range(100)) < 0 < max(digest64(str(i)) for i in range(100))


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("FINDNGS", "findings"), ("FINDINS", "findings"), ("FINDIINGS", "findings"), ("IMPRESSON", "impression"),
        ("IMPRESION", "impression"), ("COMPARISION", "comparison"), ("COMPARSION", "comparison"),
        ("INDICTION", "indication"), ("TECHNQIUE", "technique"), ("EXAMINIATION", "examination"),
        ("TYPE OF EXAMINATION", "examination"), ("CLINICAL INDICATION", "indication"),
        ("REFERENCE EXAM", "comparison"), ("WET READ", "wet read"), ("ADDENDUM", "addendum"), ("HEART", "heart"),
        ("BONES", "bones"), ("LUNGS", "lungs"),
    ],
)  # fmt: skip
def test_misspelt_headings_of_mimic(heading: str, section: str) -> None:
    text = f"FINAL REPORT\n {heading}:  Words of the section.\n\n NOTIFICATION:  Told."
    assert sections(text)[section] == "Words of the section."
