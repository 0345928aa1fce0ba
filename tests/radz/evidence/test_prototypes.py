"""Shots of a finding: brute force, nested, one study of a patient, and a finding that always stands with another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from data_modules.findings import ontology
from radz.evidence import prototypes

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    """Labels [N], other findings [N, 3], patients [N] and an order of up to 14 studies."""
    n = draw(st.integers(1, 14))
    labels = draw(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=n, max_size=n))
    others = draw(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=n, max_size=n))
    people = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
    order = draw(st.permutations(range(n)))
    return np.array(labels, np.float32), np.array(others), np.array(people), np.array(order)


def by_hand(labels: np.ndarray, others: np.ndarray, people: np.ndarray, order: np.ndarray) -> tuple[list, list]:
    """Positives and their partners, study by study."""
    positives: list[int] = []
    for count in range(4):
        for study in order:
            if labels[study] == 1 and others[study].sum() == count:
                positives.append(int(study))
    first: list[int] = []
    for study in positives:
        if people[study] not in people[first]:
            first.append(study)
    partners: list[int] = []
    for study in first:
        best = None
        for other in order:
            usable = labels[other] == 0 and people[other] not in people[labels == 1]
            if usable and people[other] not in people[partners]:
                apart = int((others[other] != others[study]).sum())
                if best is None or apart < best[0]:
                    best = apart, int(other)
        if best is None:
            break
        partners.append(best[1])
    return first, partners


@given(columns())
def test_curated_shots_are_those_by_hand(of: Columns) -> None:
    found = prototypes.curated(*of)
    assert (found.positives.tolist(), found.absent.tolist()) == by_hand(*of)


@given(columns())
def test_plain_shots_come_in_order(of: Columns) -> None:
    labels, _, people, order = of
    found = prototypes.plain(labels, people, order)
    having = set(people[labels == 1])
    for studies, label in ((found.positives, 1), (found.absent, 0)):
        kept: list[int] = []
        for study in order:
            of_patient = people[study] not in people[kept] and (label or people[study] not in having)
            if labels[study] == label and of_patient:
                kept.append(int(study))
        assert studies.tolist() == kept


@given(columns(), st.integers(1, 5), st.integers(1, 5))
def test_what_few_use_more_use_too_and_a_patient_gives_one_study(of: Columns, few: int, more: int) -> None:
    labels, others, people, order = of
    for found in (prototypes.plain(labels, people, order), prototypes.curated(labels, others, people, order)):
        for small, large, every in zip(found.first(few), found.first(few + more), found.first(None), strict=True):
            assert small.tolist() == large.tolist()[: len(small)] == every.tolist()[: len(small)]
            assert len(small) == min(few, len(every))
        both = np.concatenate(found.first(None))
        assert len(set(people[both])) == len(both)
        assert (labels[found.positives] == 1).all() and (labels[found.absent] == 0).all()


def test_a_prototype_is_a_difference_of_means_and_scores_are_cosines() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(9, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    made = prototypes.prototype(features, np.array([0, 3]), np.array([1, 4, 5]))
    by_hand = [(features[0, d] + features[3, d]) / 2 - sum(features[i, d] for i in (1, 4, 5)) / 3 for d in range(5)]
    np.testing.assert_allclose(made, by_hand, atol=1e-6)
    for row, value in zip(features, prototypes.cosines(features, made), strict=True):
        assert value == pytest.approx(row @ made / np.linalg.norm(made), abs=1e-5)
    assert not prototypes.cosines(features, np.zeros(5, np.float32)).any()


def company(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels [n, 2] and features [n, 6]: the first finding never stands without the second, which stands alone too."""
    draw = np.random.default_rng(seed)
    second = draw.random(n) < 0.4
    first = second & (draw.random(n) < 0.4)
    features = 0.3 * draw.normal(size=(n, 6))
    features[:, 0] += first
    features[:, 1] += 2 * second
    features[:, 2] += 2
    labels = np.stack([first, second], axis=1).astype(np.float32)
    return labels, (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("number", [4, 16, None])
def test_a_finding_that_always_stands_with_another_is_no_copy_of_it(number: int | None) -> None:
    """Among studies without the first finding, plain means find the second one; curated ones do not."""
    labels, features = company(400, 0)
    of_split, split = company(400, 1)
    people = np.arange(len(labels))
    lacking = of_split[:, 0] == 0
    copied: dict[str, list[float]] = {"plain": [], "curated": []}
    own: dict[str, list[float]] = {"plain": [], "curated": []}
    for draw in range(5):
        order = np.random.default_rng(draw).permutation(len(labels))
        kinds = {
            "plain": prototypes.plain(labels[:, 0], people, order),
            "curated": prototypes.curated(labels[:, 0], labels[:, 1:] == 1, people, order),
        }
        for kind, found in kinds.items():
            scores = prototypes.cosines(split, prototypes.prototype(features, *found.first(number)))
            copied[kind].append(roc_auc_score(of_split[lacking, 1], scores[lacking]))
            beside = of_split[:, 1] == 1
            own[kind].append(roc_auc_score(of_split[beside, 0], scores[beside]))
    assert np.mean(copied["plain"]) > 0.95
    assert 0.3 < np.mean(copied["curated"]) < 0.6
    # What is left tells the finding from its company, better than plain means do.
    assert np.mean(own["curated"]) > np.mean(own["plain"]) + 0.05


def test_the_fewest_others_come_first() -> None:
    others = np.array([[1, 1], [0, 0], [1, 0], [0, 0]], dtype=bool)
    labels = np.array([1, 1, 1, 0], np.float32)
    for order in itertools.permutations(range(4)):
        assert prototypes.curated(labels, others, np.arange(4), np.array(order)).positives.tolist() == [1, 2, 0]


def test_wider_and_narrower_findings_are_no_company() -> None:
    names = ("pneumonia", "covid19", "no_finding", "edema", "cardiomegaly")
    known = ontology()
    assert "pneumonia" in known.ancestors("covid19")
    assert prototypes.company_of("pneumonia", names, known).tolist() == [False, False, False, True, True]
    assert prototypes.company_of("covid19", names, known).tolist() == [False, False, False, True, True]
    assert prototypes.company_of("edema", names, known).tolist() == [True, True, False, False, True]
    assert not prototypes.company_of("no_finding", names, known).any()
