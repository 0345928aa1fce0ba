"""The language of phrases: what it finds, what it refuses, and that no phrase of a user can run wild."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import InputError
from data_modules.labelling.phrases import Phrases, flat, longest
from data_modules.labelling.sentences import split


def words(phrase: str, text: str, plural: bool = True) -> list[str]:
    found = Phrases([(phrase, phrase)], "here", plural).found(flat(text))
    return [text[match.start : match.end] for match in found]


@pytest.mark.parametrize(
    ("phrase", "text", "expected"),
    [
        ("pleural effusion", "Pleural  effusions, pleural-effusion", ["Pleural  effusions", "pleural-effusion"]),
        ("effusion", "effusional noneffusion", []),
        ("atelecta*", "Atelectases and atelectatic changes", ["Atelectases", "atelectatic"]),
        ("(small|tiny) effusion", "a tiny effusion", ["tiny effusion"]),
        ("<left> <pleural> fluid", "left fluid; left pleural fluid",
         ["left fluid", "fluid", "left pleural fluid", "pleural fluid", "fluid"]),
        ("heart <is> <not>", "heart. heart is. heart is not", ["heart", "heart is", "heart is not"]),
        ("heart <size>", "heart size, heart.", ["heart size", "heart"]),
        ("heart .. enlarged", "heart size is enlarged", ["heart size is enlarged"]),
        ("heart .. enlarged", "heart, enlarged", []),
        ("heart .. enlarged", "heart a b c d e f enlarged", []),
        ("heart .. enlarged", "heart: enlarged; heart : is enlarged", ["heart: enlarged", "heart : is enlarged"]),
        ("heart .. enlarged", "heart is: enlarged", []),
        ("metastasis", "metastases", ["metastases"]),
        ("opacity", "opacities", ["opacities"]),
        ("Épanchement", "epanchement", ["epanchement"]),
        ("erguss", "ERGUSS", ["ERGUSS"]),
    ],
)  # fmt: skip
def test_what_a_phrase_finds(phrase: str, text: str, expected: list[str]) -> None:
    assert words(phrase, text) == expected


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("vergrosser*", "Vergroesserung", True), ("vergrosser*", "Vergrößerung", True), ("fur", "fuer", True),
        ("uberblah*", "ueberblaeht", True), ("neue", "neue", True), ("neu", "neue", False), ("neue", "neu", False),
        ("neu*", "neuer", True), ("zue*", "zuerst", True), ("pleuraerguss*", "Pleuraerguss", True),
        ("pleuraerguss*", "Pleuraergüsse", True), ("pleuraerguss*", "Pleuraerguesse", True),
        ("massig", "maessig", True), ("massig", "messig", False),
    ],
)  # fmt: skip
def test_umlauts_that_are_spelled_out(phrase: str, text: str, found: bool) -> None:
    assert bool(Phrases([(phrase, 1)], "here", umlauts=True).found(flat(text))) == found


@pytest.mark.parametrize(
    "phrase",
    [
        "", " ", "a" * 801, "(a+)+$", "heart [a-z]*", "x{3}", "\\w", "ef*", "e*fusion", "*", "..", ".. effusion",
        "effusion ..", "<only>", "(open", "a) b", "(one|)", "a .. b .. c .. d", 5,
    ],
)  # fmt: skip
def test_what_is_no_phrase(phrase: object) -> None:
    with pytest.raises(InputError, match=r"^data\.corpora\.0\.terms\.edema: "):
        Phrases([(phrase, 1)], "data.corpora.0.terms.edema")  # type: ignore[list-item]


def test_the_worst_phrase_on_the_worst_sentence_ends() -> None:
    phrase = "aaa .. " + "<aaa|aaa aaa> " * 40 + ".. aaa bbb"
    begun = time.process_time()
    assert words(phrase, "aaa " * 1000) == []
    assert time.process_time() - begun < 20  # a pattern that tries places again would take years


def test_a_longer_match_hides_what_stands_within() -> None:
    phrases = Phrases([("effusion", "pleural"), ("pericardial effusion", "pericardial"), ("effusion", "other")], "here")
    found = longest(phrases.found("pericardial effusion and effusion"))
    assert [match.what for match in found] == ["pericardial", "pleural", "other"]


@given(st.text(max_size=300))
def test_a_flat_text_keeps_every_place(text: str) -> None:
    assert len(flat(text)) == len(text)
    assert flat(flat(text)) == flat(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Heart normal. No effusion.", ["Heart normal.", "No effusion."]),
        ("Seen by Dr. Smith. No effusion.", ["Seen by Dr. Smith.", "No effusion."]),
        ("A nodule of 1.5 cm. Stable.", ["A nodule of 1.5 cm.", "Stable."]),
        ("1. Effusion\n2. Edema", ["Effusion", "Edema"]),
        ("- Effusion\n- Edema", ["Effusion", "Edema"]),
        ("Large effusion in the\nleft chest.", ["Large effusion in the left chest."]),
        ("Effusion.No edema.", ["Effusion.", "No edema."]),
        ('Lungs clear. "Hiatal hernia "', ["Lungs clear.", "Hiatal hernia"]),
        ("Stable XXXX. ___", ["Stable."]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert split(text) == expected
