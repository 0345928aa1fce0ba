"""Reports in German, French, Spanish, Italian and Portuguese, and what they say of findings."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from csv_rows import rows_of

from data_modules.labelling.labeller import Labeller
from data_modules.labelling.rules import languages

STATES = {"+": "present", "-": "absent", "?": "uncertain"}
LUNG = (
    "lung_opacity", "consolidation", "pneumonia", "edema", "atelectasis", "nodule", "mass", "infiltration",
    "lung_lesion",
)  # fmt: skip
GROUPS = {"CLEAR": LUNG, "NORMAL": (*LUNG, "pneumothorax", "pleural_effusion", "cardiomegaly")}
"""what clear lungs and a normal chest deny"""


@cache
def labeller() -> Labeller:
    return Labeller("chest_xray")


def expected(marks: str) -> dict[str, str]:
    """{finding: state} of marks such as `CLEAR edema+ nodule?`."""
    wanted: dict[str, str] = {}
    for mark in marks.split():
        wanted |= dict.fromkeys(GROUPS[mark], "absent") if mark in GROUPS else {mark[:-1]: STATES[mark[-1]]}
    return wanted


ROWS = [tuple(row.values()) for row in rows_of(Path(__file__).with_name("reports_in_other_languages.csv"))]
"""language, report, marks"""


@pytest.mark.parametrize(("code", "report", "marks"), ROWS)
def test_report_in_another_language(code: str, report: str, marks: str) -> None:
    assert labeller().language(report) == code
    assert {name: proof.state for name, proof in labeller().label(report).items()} == expected(marks)


@pytest.mark.parametrize("code", [code for code in languages() if code != "en"])
def test_capitals_and_lost_accents_change_nothing(code: str) -> None:
    for _, report, marks in [row for row in ROWS if row[0] == code][:6]:
        found = {name: proof.state for name, proof in labeller().label(report.upper()).items()}
        assert found == expected(marks), report
