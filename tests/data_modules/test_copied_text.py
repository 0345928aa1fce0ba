"""Reports as rich text, web pages, HL7 messages and wrong decodings have them."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.copied_text import garbled, mended, plain
from data_modules.labelling.labeller import Labeller
from data_modules.labelling.sentences import split
from data_modules.reports import clean, lines

FIRST, SECOND = "No pneumothorax.", "Small left pleural effusion."
LABELLER = Labeller("chest_xray")
RTF = r"{\rtf1\ansi\deff0{\fonttbl{\f0 Arial;}}\pard No pneumothorax.\par Small left pleural effusion.\par}"


@pytest.mark.parametrize(
    "between",
    [
        "\\line ", "<hr>", "<hr/>", "<br clear='all'>", "</td><td>", "</tr><tr class=x><td>", "</dd><dt>", "~",
        "\\X0D\\", "\\X0D0A\\", "\\.sp\\", "\\.sp+2\\", "\\.br\\", ".\u2022", "\u2022", ".-", "-", "- ", ".", "..",
        "&#8226;", "&bull;", "&#13;&#10;", "*", " \u25aa ", "\u25cf", "2. ", "2) ", "|", "_", "\"",
    ],
)  # fmt: skip
def test_two_sentences_stay_two(between: str) -> None:
    for text in (f"{FIRST}{between}{SECOND}", f"{FIRST.upper()}{between}{SECOND.upper()}"):
        found = {name: proof.state for name, proof in LABELLER.label(text).items()}
        assert found == {"pneumothorax": "absent", "pleural_effusion": "present"}, text


@pytest.mark.parametrize(
    "text",
    [
        "<table><tr><td><b>Pneumothorax</b></td>\n<td>No</td></tr><tr><td>Effusion</td><td>Small left</td></tr>",
        r"{\rtf1\trowd Pneumothorax\cell No\cell\row\trowd Effusion\cell Small left\cell\row}",
        "<tr><td>No pneumothorax</td><td>Small left pleural effusion</td></tr>",
        "<tr><td>Findings</td><td>No pneumothorax.</td><td>Effusion.</td></tr>",
    ],
)
def test_cells_of_a_row_are_a_finding_and_its_answer(text: str) -> None:
    found = {name: proof.state for name, proof in LABELLER.label(text).items()}
    assert found == {"pneumothorax": "absent", "pleural_effusion": "present"}


@pytest.mark.parametrize(
    "text",
    [
        "A nodule of 4.5 x 3 cm.", "Seen by Dr.Smith.", "Dr. X saw it.", "Z.n.Pneumonie, V.a.Erguss.", "e.g.Pneumonia.",
        "An A.P.View at T4.5.", "Opacity.5 cm", "10.5.2020 and 1.5-2.5 mm.",
    ],
)  # fmt: skip
def test_a_stop_within_a_sentence_ends_none(text: str) -> None:
    assert split(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RTF, "No pneumothorax. Small left pleural effusion."),
        (r"{\rtf1\ansi\ansicpg1252{\*\generator X;}{\info{\author Dr. No}}{\b Gro\'dfe} Pleuraerg\'fcsse\line "
         r"100\~\{b\} \u201?x\uc0\u8804 3\tab y}", "Große Pleuraergüsse 100 {b} Éx≤3 y"),
        (r"{\rtf1 Heart\par}{\rtf1 big}", "Heart big"),
        ("Gro&szlig;e Pleuraerg&uuml;sse", "Große Pleuraergüsse"),
        ("&Eacute;panchement &amp; 3&nbsp;mm &lt; 5", "Épanchement & 3 mm < 5"),
        ("A&E, R&ampP and &nosuch; stay", "A&E, R&ampP and &nosuch; stay"),
        ("A \\T\\ B \\H\\big\\N\\ heart", "A & B big heart"),
        ("Pleuraerg\u00c3\u00bcsse, \u00c3\u2030panchement", "Pleuraergüsse, Épanchement"),
        ("5\u00c2\u00b0, it\u00e2\u20ac\u2122s", "5°, it\u2019s"),
        ("MANH\u00c3, N\u00c3O, \u00c2ge, gro\u00df\u2026, \u00ab\u00e9\u00bb", "MANHÃ, NÃO, Âge, groß…, «é»"),
        ("<5 mm, > 3, a < b and c > d, ~5 mm", "<5 mm, > 3, a < b and c > d, ~5 mm"),
    ],
)  # fmt: skip
def test_markup_becomes_text(text: str, expected: str) -> None:
    assert clean(lines(text)) == expected


def test_text_decoded_wrongly_is_known() -> None:
    assert [garbled(text) for text in ("Pleuraerg\u00c3\u00bcsse", "Ergüsse «é» NÃO", "")] == [True, False, False]


@given(st.text("äöüßéèàçñÄÖÜÉõ°µ\u2019\u2013\u2022 abc.", max_size=40), st.sampled_from(["latin-1", "cp1252"]))
def test_utf8_that_was_read_in_one_byte_comes_back(text: str, encoding: str) -> None:
    try:
        wrong = text.encode().decode(encoding)
    except UnicodeDecodeError:
        return
    assert mended(wrong) == text


@given(st.text(string.printable.replace("&", "").replace("~", "").replace("\\", "").replace("<", "")))
def test_plain_text_stays_but_for_its_line_ends(text: str) -> None:
    assert "".join(plain(text).split()).replace("-", "") == "".join(text.split()).replace("-", "")


@pytest.mark.parametrize("part", ["a", "ab-", "{\\rtf1 ", "<p ", "&a", "\\X0D", "\u00c3", "a.", ".-", "\\u1", "a-\n"])
def test_broken_exports_take_bounded_time(part: str) -> None:
    begun = time.process_time()
    split(lines(part * (40_000 // len(part))))
    split(lines("{\\rtf1 " + part * (40_000 // len(part))))
    assert time.process_time() - begun < 5, "39 s for 40,000 letters without the bound"
