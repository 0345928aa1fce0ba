"""Reports without stops and lines, as broken exports have them, are labelled in bounded time."""

from __future__ import annotations

import time

import pytest

from data_modules.labelling.labeller import Labeller
from data_modules.labelling.sentences import LONGEST, split

SIGNS = 3000
SECONDS = 10
"""on a busy machine; without the bounds the first takes 30 and the others minutes"""


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    made = Labeller("chest_xray")
    made.label("No effusion.")  # reads the rules
    return made


@pytest.mark.parametrize(
    "part",
    ["no effusion, ", "no pneumonia with edema, ",
     *(pytest.param(part, marks=pytest.mark.slow) for part in (
         "1) no effusion ", "effusion and edema or ", "pneumonia or edema ", "heart is enlarged, no effusion ",
         "? effusion "))],
)  # fmt: skip
def test_many_mentions_in_one_sentence(labeller: Labeller, part: str) -> None:
    begun = time.process_time()
    found = labeller.label(part * (SIGNS // len(part)))
    assert time.process_time() - begun < SECONDS
    once = labeller.label(part)
    assert {name: proof.state for name, proof in found.items() if name in once}.keys() == once.keys()


@pytest.mark.parametrize("blanks", ["\t", "\n", " ", "\n ", "\n\n"])
def test_many_blanks_within_a_report(labeller: Labeller, blanks: str) -> None:
    begun = time.process_time()
    found = labeller.label(f"No effusion.{blanks * (SIGNS // len(blanks))}Mild edema.")
    assert time.process_time() - begun < SECONDS
    assert {name: proof.state for name, proof in found.items()} == {"pleural_effusion": "absent", "edema": "present"}


def test_a_sentence_is_cut_at_a_blank_and_keeps_its_words() -> None:
    text = "no non-calcified nodule " * 1000
    pieces = split(text)
    assert len(pieces) == 3 and max(map(len, pieces)) <= LONGEST and " ".join(pieces) == text.strip()
    assert split("no effusion " * 800) == [("no effusion " * 800).strip()]


def test_a_no_reaches_over_a_long_list(labeller: Labeller) -> None:
    many = ", ".join(["effusion", "edema", "pneumothorax", "mass"] * 90)
    found = labeller.label(f"No evidence of {many} or fracture")
    assert {proof.state for proof in found.values()} == {"absent"} and len(found) == 6
