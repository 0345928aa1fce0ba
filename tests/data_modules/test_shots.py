"""Few shots of each finding: nested, one study of a patient, as many without any finding, and nothing else."""

from __future__ import annotations

import logging
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import Make, one_image_each, ready

from data_modules.config import DataConfig
from data_modules.errors import InputError
from data_modules.findings import ABSENT, PRESENT, UNCERTAIN, UNMENTIONED
from data_modules.shots import few_shots
from data_modules.study import StudyTable

FINDINGS = ("edema", "mass", "no_finding", "pneumonia")
VALUES = np.array([0, 1, np.nan, np.nan], dtype=np.float32)
"""of the four states"""


def table(states: np.ndarray, patients: list[str], split: list[str] | None = None) -> StudyTable:
    return one_image_each(patients, split or ["train"] * len(states), states, FINDINGS)


def drawn(of: StudyTable, shots: int, seed: int = 0) -> StudyTable:
    return few_shots(of, VALUES[of.states], shots, seed)


def kept(of: StudyTable, shots: int, seed: int = 0) -> set[str]:
    found = drawn(of, shots, seed)
    return set(found.study_id[found.rows("train")])


def apart(each: int = 40, without: int = 200) -> StudyTable:
    """Every finding on its own in so many studies, and others without any; a patient each."""
    states = np.zeros((3 * each + without, 4))
    for number, k in enumerate((0, 1, 3)):
        states[number * each : (number + 1) * each, k] = PRESENT
    states[3 * each :, 2] = PRESENT
    return table(states, [f"p{i}" for i in range(len(states))])


@st.composite
def tables(draw: st.DrawFn) -> StudyTable:
    """Up to 30 studies of up to 12 patients with labels of every state, some of them of the test split."""
    n = draw(st.integers(1, 30))
    states = draw(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=n, max_size=n))
    patients = draw(st.lists(st.integers(0, 11), min_size=n, max_size=n))
    names = [f"p{number}" for number in patients]
    found = table(np.array(states), names, ["test" if number > 9 else "train" for number in patients])
    positive = (found.states[found.rows("train")] == PRESENT)[:, [0, 1, 3]]
    if not positive.any():
        found.states[0, 0], found.split[:1], found.patient[:1] = PRESENT, "train", "p0"
    return found


@given(tables(), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))
def test_fewer_lie_in_more_and_a_patient_gives_one_study(of: StudyTable, few: int, more: int, seed: int) -> None:
    small, large = drawn(of, few, seed), drawn(of, few + more, seed)
    assert set(small.study_id) <= set(large.study_id)
    for found in (small, large):
        rows = found.rows("train")
        assert max(Counter(found.patient[rows]).values()) == 1
        assert list(found.study_id[found.rows("test")]) == list(of.study_id[of.rows("test")])
        positive = (found.states[rows] == PRESENT)[:, [0, 1, 3]].any(1)
        assert (~positive).sum() <= positive.sum() > 0
        assert not (found.states[rows][~positive][:, [0, 1, 3]] == UNCERTAIN).any()


@given(tables(), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_order_of_the_table_changes_nothing(of: StudyTable, shots: int, random: Random) -> None:
    order = random.sample(range(len(of)), len(of))
    assert kept(of, shots) == kept(of.take(order), shots)


@given(tables(), st.integers(1, 6))
def test_where_patients_have_one_study_every_finding_has_its_shots(of: StudyTable, shots: int) -> None:
    of.patient[:] = [f"q{i}" for i in range(len(of))]
    found = drawn(of, shots)
    every, few = (one.states[one.rows("train")][:, [0, 1, 3]] == PRESENT for one in (of, found))
    assert (few.sum(0) >= np.minimum(every.sum(0), shots)).all()


def test_findings_that_stand_apart_have_exactly_so_many() -> None:
    for shots in (1, 4, 16):
        found = drawn(apart(), shots)
        assert (found.states == PRESENT).sum(0).tolist() == [shots, shots, 3 * shots, shots]
    assert len(drawn(apart(each=2, without=3), 5)) == 6 + 3


def test_a_finding_is_had_without_others_where_that_can_be() -> None:
    """Masses and edema alone and together: neither has more than asked for, whatever is drawn."""
    states = np.zeros((70, 4))
    states[:15, 1], states[10:30, 0] = PRESENT, PRESENT
    of = table(states, [f"p{i}" for i in range(70)])
    for seed in range(8):
        for shots in (1, 6):
            assert (drawn(of, shots, seed).states == PRESENT).sum(0).tolist() == [shots, shots, 0, 0]


def test_a_wider_finding_may_have_more_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    states = np.zeros((40, 4))
    states[:10, 0], states[10:14, 3], states[:14, 1] = PRESENT, PRESENT, PRESENT  # a mass stands wherever others do
    with caplog.at_level(logging.INFO):
        found = drawn(table(states, [f"p{i}" for i in range(40)]), 8)
    assert (found.states == PRESENT).sum(0).tolist() == [8, 12, 0, 4]
    assert "12 studies with a finding and 12 without any (of 26), one of a patient, of 40 training studies" in (
        caplog.text
    )
    assert "fewer: pneumonia 4" in caplog.text and "more, since other findings bring it: mass 12" in caplog.text


def test_the_seed_draws() -> None:
    assert len({frozenset(kept(apart(), 2, seed)) for seed in range(4)}) == 4


def test_doubtful_and_unlabelled_studies_are_not_without_findings() -> None:
    states = np.full((6, 4), UNMENTIONED)
    states[0, 0], states[1:3] = PRESENT, ABSENT
    states[1, 1] = UNCERTAIN
    assert kept(table(states, list("abcdef")), 4) == {"s0", "s2"}


def test_the_data_module_trains_on_the_shots_and_says_so(make: Make) -> None:
    module = ready(make(shots=1, batch_size=1))
    # The small corpus: six training studies of three patients; two studies of COVID-19, of patients 00 and 01.
    assert module.counts()["ours"]["train"] == {"studies": 2, "patients": 2, "images": 2}
    assert module.environment()["shots"] == 1
    assert np.nansum(module.loss_labels(module.table.rows("train")), axis=0).tolist() == [1, 1]
    assert len(module.table.rows("test")) == len(ready(make()).table.rows("test"))


def test_faults_are_one_line(make: Make) -> None:
    with pytest.raises(InputError, match=r"data\.shots=-1: must be at least 0"):
        DataConfig(shots=-1)
    with pytest.raises(InputError, match=r"data\.shots=4: conflicts with data\.fraction=0\.1"):
        DataConfig(shots=4, fraction=0.1)
    nothing = table(np.full((3, 4), UNMENTIONED), ["a", "b", "c"])
    with pytest.raises(InputError, match=r"data\.shots=2: no training label says that a finding is present"):
        drawn(nothing, 2)
    states = np.zeros((3, 4))
    states[:, 2] = PRESENT
    with pytest.raises(InputError, match="no training label"):  # no_finding is none
        drawn(table(states, ["a", "b", "c"]), 2)
