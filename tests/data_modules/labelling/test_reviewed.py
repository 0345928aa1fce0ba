"""Accepted labels beside those that were given; tests/radz/runs/test_denoise.py has the table of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_corpus import SALT, one_image_each

from data_modules.errors import InputError
from data_modules.findings import ABSENT, PRESENT, UNMENTIONED
from data_modules.labelling.reviewed import apply_reviewed
from data_modules.privacy import pseudonym
from data_modules.study import StudyTable

HEALTHY, ILL, BOTH = "s0", "s1", "s2"
EDEMA, NONE, DEVICES = ("edema", "no_finding", "support_devices")


def given() -> StudyTable:
    """One study without a finding, one with edema, and one whose labels contradict each other as they are given."""
    states = np.array([[UNMENTIONED, PRESENT, UNMENTIONED], [PRESENT, UNMENTIONED, ABSENT], [PRESENT, PRESENT, ABSENT]])
    return one_image_each(["a", "b", "c"], ["train"] * 3, states, (EDEMA, NONE, DEVICES))


def write(path: Path, *cells: tuple[str, str, str]) -> Path:
    rows = (f"ours,{pseudonym('ours', study, SALT)},{finding},{code}\n" for study, finding, code in cells)
    path.write_text("corpus,study,finding,accepted\n" + "".join(rows))
    return path


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([(HEALTHY, EDEMA, "1")], "row 2: edema is accepted as present, but no_finding is present in that study too"),
        ([(ILL, DEVICES, "1"), (ILL, NONE, "1")], "row 3: no_finding is accepted as present, but edema is present"),
        ([(BOTH, EDEMA, "1")], "row 2: edema is accepted as present, but no_finding is present"),
    ],
)
def test_a_disease_is_not_accepted_beside_no_finding(
    tmp_path: Path, cells: list[tuple[str, str, str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        apply_reviewed(given(), write(tmp_path / "reviewed.csv", *cells), SALT)


def test_what_contradicts_no_finding_can_be_settled(tmp_path: Path) -> None:
    """A device is no disease, and labels that nobody looked at stay as they were given."""
    table = given()
    cells = (HEALTHY, EDEMA, "1"), (HEALTHY, NONE, "0"), (BOTH, DEVICES, "1"), (ILL, EDEMA, "1")
    assert apply_reviewed(table, write(tmp_path / "reviewed.csv", *cells), SALT) == 3
    assert table.states.tolist() == [
        [PRESENT, ABSENT, UNMENTIONED], [PRESENT, UNMENTIONED, ABSENT], [PRESENT, PRESENT, PRESENT]
    ]  # fmt: skip
