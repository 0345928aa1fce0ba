"""Shares of the training patients: nested, by patient, drawn by the seed, and nothing else."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from small_corpus import Make, one_image_each, ready

from data_modules.config import DataConfig
from data_modules.errors import InputError
from data_modules.findings import UNMENTIONED
from data_modules.study import StudyTable
from data_modules.subsets import fraction_of_patients

PATIENTS = 200


def table(name: str = "ours", order_seed: int | None = None) -> StudyTable:
    """One to three training studies of each of 200 patients, and 40 studies of validation and test."""
    draw = np.random.default_rng(0)
    patients = [f"p{i}" for i in range(PATIENTS) for _ in range(draw.integers(1, 4))]
    splits = ["train"] * len(patients) + ["val", "test"] * 20
    patients += [f"v{i}" for i in range(40)]
    order = np.arange(len(splits)) if order_seed is None else np.random.default_rng(order_seed).permutation(len(splits))

    def text(values: list[str]) -> list[str]:
        return [values[place] for place in order]

    studies, states = text([f"s{i}" for i in range(len(order))]), np.full((len(order), 1), UNMENTIONED)
    return one_image_each(text(patients), text(splits), states, ("edema",), studies, name)


def kept(share: float, seed: int = 0, of: StudyTable | None = None) -> set[str]:
    found = fraction_of_patients(of if of is not None else table(), share, seed)
    return set(found.patient[found.rows("train")])


def test_a_smaller_share_lies_inside_a_larger_one() -> None:
    for seed in range(3):
        shares = [kept(share, seed) for share in (0.001, 0.01, 0.1, 0.5, 1.0)]
        assert [len(patients) for patients in shares] == [1, 2, 20, 100, 200]
        assert all(small < large for small, large in itertools.pairwise(shares))


def test_a_patient_stays_whole_and_other_splits_are_untouched() -> None:
    whole = table()
    found = fraction_of_patients(whole, 0.1, 0)
    studies = Counter(whole.patient[whole.rows("train")])
    assert Counter(found.patient[found.rows("train")]) == {p: studies[p] for p in kept(0.1)}
    for split in ("val", "test"):
        assert list(found.study_id[found.rows(split)]) == list(whole.study_id[whole.rows(split)])
    assert found.digest() != whole.digest()


def test_the_seed_and_the_corpus_choose_and_the_order_of_the_table_does_not() -> None:
    assert kept(0.1) == kept(0.1, of=table(order_seed=1))
    assert len({frozenset(kept(0.1, seed)) for seed in range(4)}) == 4
    assert kept(0.1) != kept(0.1, of=table("theirs"))
    # Every patient has the same chance: over 200 seeds each is drawn about 20 times.
    times = Counter(patient for seed in range(200) for patient in kept(0.1, seed))
    assert len(times) == PATIENTS and max(times.values()) < 45


def test_each_corpus_keeps_its_share() -> None:
    both = StudyTable.concat([table("a"), table("b")])
    found = fraction_of_patients(both, 0.1, 0)
    assert [len(set(found.patient[found.rows("train", name)])) for name in ("a", "b")] == [20, 20]


def test_the_data_module_trains_on_the_share_and_says_so(make: Make) -> None:
    module = ready(make(fraction=0.34, batch_size=2))
    assert module.counts()["ours"]["train"] == {"studies": 2, "patients": 1, "images": 2}
    assert module.environment()["fraction"] == 0.34
    assert module.environment()["data_digest"] != ready(make()).environment()["data_digest"]
    assert len(module.table.rows("test")) == len(ready(make()).table.rows("test"))


@pytest.mark.parametrize("less", [{"fraction": 0.34, "batch_size": 2}, {"shots": 1, "batch_size": 1}])
def test_how_often_the_training_list_has_a_finding_does_not_move_with_what_is_trained_on(
    make: Make, less: dict[str, float]
) -> None:
    """Arms of other shares or shots compare by the same groups of findings."""
    whole, part = ready(make()), ready(make(**less))
    listed, left = ((of.metric_labels(of.table.rows("train")) == 1).mean(0).tolist() for of in (whole, part))
    assert list(part.training_shares) == ["ours"] and listed != left
    assert part.training_shares["ours"].tolist() == whole.training_shares["ours"].tolist() == listed


@pytest.mark.parametrize("share", [0.0, 1.5, -1.0, float("nan")])
def test_a_share_must_be_one(share: float) -> None:
    with pytest.raises(InputError, match=r"data\.fraction=.* above 0 and at most 1"):
        DataConfig(fraction=share)
