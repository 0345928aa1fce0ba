from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.config import LabelRule
from data_modules.corpora.labels import OUTSIDE, state_of, states_of
from data_modules.findings import ABSENT, PRESENT, UNCERTAIN, UNMENTIONED

CODING = {1: "present", 0: "absent", -1: "uncertain", "blank": "unmentioned"}
CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(str.strip)


@pytest.mark.parametrize(
    ("rule", "cell", "state"),
    [
        (LabelRule("c", equals="No Finding"), "No Finding", PRESENT),
        (LabelRule("c", equals="No Finding"), "No Finding 2", ABSENT),
        (LabelRule("c", equals="No Finding"), "no finding", ABSENT),
        (LabelRule("c", contains="COVID-19"), "Pneumonia/Viral/COVID-19", PRESENT),
        (LabelRule("c", contains="COVID-19"), "Pneumonia", ABSENT),
        (LabelRule("c", contains="COVID-19"), "", UNMENTIONED),
        (LabelRule("c", contains="COVID-19", blank="absent"), "", ABSENT),
        (LabelRule("c", token="Effusion"), "Mass|Effusion", PRESENT),
        (LabelRule("c", token="Effusion"), "Mass | Effusion ", PRESENT),
        (LabelRule("c", token="Effusion"), "Pericardial Effusion|Mass", ABSENT),
        (LabelRule("c", token="Effusion", separator=";"), "Mass|Effusion", ABSENT),
        (LabelRule("c", numeric=CODING), "1", PRESENT),
        (LabelRule("c", numeric=CODING), "1.0", PRESENT),
        (LabelRule("c", numeric=CODING), "-1.0", UNCERTAIN),
        (LabelRule("c", numeric=CODING), "", UNMENTIONED),
        (LabelRule("c", numeric=CODING), "2", OUTSIDE),
        (LabelRule("c", numeric=CODING), "nan", OUTSIDE),
        (LabelRule("c", numeric=CODING), "yes", OUTSIDE),
        (LabelRule("c", numeric={"1": "present"}), "1", PRESENT),
        (LabelRule("c", numeric={1: "present"}), "", OUTSIDE),
    ],
)
def test_rules_by_hand(rule: LabelRule, cell: str, state: int) -> None:
    assert state_of(rule, cell) == state


@given(st.lists(CELLS, max_size=30), CELLS.filter(bool))
def test_text_rules_agree_with_plain_python(cells: list[str], wanted: str) -> None:
    array = np.array([*cells, wanted], dtype=object)
    for rule, holds in (
        (LabelRule("c", equals=wanted), [cell == wanted for cell in array]),
        (LabelRule("c", contains=wanted), [wanted in cell for cell in array]),
        (LabelRule("c", token=wanted, separator="|"), [wanted in map(str.strip, cell.split("|")) for cell in array]),
    ):
        expected = [UNMENTIONED if not cell else int(h) for cell, h in zip(array, holds, strict=True)]
        assert states_of(rule, array).tolist() == expected


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.sampled_from(["{}", "{}.0", "+{}", " {}", "{}e0"]))
def test_numbers_compare_as_numbers(values: list[int], form: str) -> None:
    cells = np.array([form.format(v) if v >= 0 or form != "+{}" else str(v) for v in values], dtype=object)
    by_hand = {1: PRESENT, 0: ABSENT, -1: UNCERTAIN}
    assert states_of(LabelRule("c", numeric=CODING), cells).tolist() == [by_hand.get(v, OUTSIDE) for v in values]
