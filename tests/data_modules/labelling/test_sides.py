"""What is affirmed of the other side, and what is said of both lungs in one sentence.

Each row was labelled wrongly once, but for those that hold the other side of a rule.
"""

from __future__ import annotations

import time
from functools import cache

import pytest

from data_modules.labelling.labeller import Labeller

SIGNS = 9900
SECONDS = 3
"""on a busy machine; it takes half a second, and took above ten"""
STATES = {"+": "present", "-": "absent"}


@cache
def labeller() -> Labeller:
    return Labeller("chest_xray")


@pytest.mark.parametrize(("report", "finding", "mark"), [
    ("No left pneumothorax, stable postsurgical changes on the right.", "pneumothorax", "-"),
    ("No right pneumothorax, mild volume loss on the left.", "pneumothorax", "-"),
    ("No left pneumothorax, mild elevation on the right.", "pneumothorax", "-"),
    ("No right effusion, stable elevation of the hemidiaphragm on the left.", "pleural_effusion", "-"),
    ("No left rib fracture, old deformity on the right.", "fracture", "-"),
    ("No right hilar adenopathy, mild fullness on the left.", "lymphadenopathy", "-"),
    ("Right pneumothorax is resolved with the left lung stable.", "pneumothorax", "-"),
    ("Kein Pleuraerguss rechts, leichte Zwerchfellhochstand links.", "pleural_effusion", "-"),
    ("No left effusion, only a small one on the right side.", "pleural_effusion", "+"),
    ("No left effusion, the right is unchanged.", "pleural_effusion", "+"),
    ("No effusion on the left, minimal on the right.", "pleural_effusion", "+"),
    ("No pleural effusion on the left, mild on the right.", "pleural_effusion", "+"),
    ("No effusion or pneumothorax on the left, small on the right.", "pleural_effusion", "-"),
    ("No effusion on the left, stable scarring on the right.", "pleural_effusion", "-"),
])  # fmt: skip
def test_the_other_side_of_a_denial(report: str, finding: str, mark: str) -> None:
    assert labeller().label(report)[finding].state == STATES[mark]


@pytest.mark.parametrize(("report", "finding"), [
    ("The right lung and the left lung are clear.", "consolidation"),
    ("The right lung is clear and the left is clear.", "consolidation"),
    ("The right lung is clear and so is the left.", "consolidation"),
    ("The right lung is clear, as is the left lung.", "consolidation"),
    ("The right lung is clear as is the left lung.", "consolidation"),
    ("Lungs are clear including the apices.", "consolidation"),
    ("Lung apices and bases are clear.", "consolidation"),
    ("The lungs are clear at the apices and bases.", "consolidation"),
    ("Der rechte und der linke Randwinkel sind frei einsehbar.", "pleural_effusion"),
])  # fmt: skip
def test_both_lungs_in_one_sentence(report: str, finding: str) -> None:
    assert labeller().label(report)[finding].state == "absent"


@pytest.mark.parametrize("report", [
    "The right lung is clear and the left.",
    "The right lung is clear and so is the left lung apex.",
    "The right lung is clear and the left lung is not clear.",
    "The right lung is clear and the left is not included.",
    "The right upper and left lower lung are clear.",
    "The left upper and lower lung zones are clear.",
    "The lungs are clear at the left apex and base.",
    "The lungs are clear at the apices.",
])  # fmt: skip
def test_less_than_both_lungs(report: str) -> None:
    assert "consolidation" not in labeller().label(report)


@pytest.mark.parametrize("part", ["the aorta tortuous ", "The lungs right lung left lung clear and "])
def test_many_findings_and_sides_in_one_sentence(part: str) -> None:
    labeller().label("No effusion.")  # reads the rules
    begun = time.process_time()
    labeller().label(part * (SIGNS // len(part)))
    assert time.process_time() - begun < SECONDS
