"""What labels say of health: docs/method.md 3.4 over all states and policies, and through a training step."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from data_modules.batch import StudyBatch
from data_modules.corpus_config import LabelPolicy, Unmentioned
from data_modules.findings import policy_table
from radz.models.labels import LabelView
from radz.models.losses import category, category_targets, same_labels

ABSENT, PRESENT, UNCERTAIN, UNMENTIONED = range(4)
FINDINGS = ("no_finding", "pleural_effusion", "nodule", "support_devices")
POLICIES = [
    LabelPolicy(uncertain=uncertain, unmentioned=Unmentioned(loss=silent))
    for uncertain in ("ignore", "absent", "present")
    for silent in ("absent", "unknown")
]


def told(states: list[list[int]], policy: LabelPolicy, wanted: tuple[str, ...] = FINDINGS) -> torch.Tensor:
    table = torch.from_numpy(policy_table([policy], FINDINGS, "loss"))
    view = LabelView(FINDINGS, FINDINGS, table, table)
    one = torch.zeros(len(states), dtype=torch.int64)
    batch = StudyBatch(one, one, [""] * len(states), one, torch.tensor(states, dtype=torch.int8), one, one, one)
    return view.for_losses(batch, wanted)


def by_hand(states: tuple[int, ...], policy: LabelPolicy) -> float:
    """no_finding of a study: 1, 0 or NaN."""
    own, *others = states
    if own in (ABSENT, PRESENT):
        return float(own)
    loss = {UNCERTAIN: policy.uncertain, UNMENTIONED: policy.unmentioned.loss}
    diseases = others[:2]
    if any(state == PRESENT or loss.get(state) == "present" for state in diseases):
        return 0.0
    if loss[own] in ("ignore", "unknown") and diseases == [ABSENT, ABSENT]:
        return 1.0
    return math.nan


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: f"{p.uncertain}-{p.unmentioned.loss}")
def test_all_states_of_a_study(policy: LabelPolicy) -> None:
    every = list(itertools.product(range(4), repeat=4))
    found = told([list(states) for states in every], policy)
    expected = torch.tensor([by_hand(states, policy) for states in every])
    assert torch.equal(found[:, 0].nan_to_num(9), expected.nan_to_num(9))
    assert {0.0, 1.0} <= set(found[:, 0].tolist())


def test_the_cases_that_went_wrong() -> None:
    """Each is [no_finding, effusion, nodule, device]; CheXpert's policy makes absence of silence."""
    chexpert = LabelPolicy(uncertain="ignore", unmentioned=Unmentioned(loss="absent"))
    rows = [
        [ABSENT, ABSENT, ABSENT, ABSENT],  # RSNA: no opacity, not normal
        [UNMENTIONED, UNMENTIONED, UNMENTIONED, UNMENTIONED],  # CheXpert: a disease outside the bank
        [UNCERTAIN, ABSENT, ABSENT, PRESENT],  # healthy but for a device
        [UNMENTIONED, UNMENTIONED, UNMENTIONED, PRESENT],  # a device alone says nothing
    ]
    labels = told(rows, chexpert)
    target, known, used = category_targets(labels)
    assert target[:, 0].tolist() == [0, 0, 0.5, 0] and target[3].tolist() == [0, 0, 0, 1]
    assert known[:, 0].tolist() == [True, False, True, False]
    assert used.tolist() == [False, False, True, True]
    assert not same_labels(labels[:2]).any()


@pytest.mark.parametrize("bias", [None, torch.zeros(1)], ids=["softmax", "sigmoid"])
def test_a_study_that_is_not_normal_is_never_pulled_to_the_anchor_of_no_finding(bias: torch.Tensor | None) -> None:
    labels = told([[ABSENT, ABSENT, ABSENT, ABSENT]], LabelPolicy())
    features, anchors = torch.tensor([[1.0, 0.3, -0.2, 0.5, 0.1]]), torch.eye(4, 5).requires_grad_(True)
    category(features, anchors, labels, torch.tensor([True]), temperature=0.1, bias=bias)[0].backward()
    rise = (anchors.grad[0] @ features[0]).item()  # of the loss, as the anchor comes nearer
    assert rise == 0 if bias is None else rise > 0


def test_silence_under_a_policy_teaches_nothing_of_no_finding() -> None:
    """Neither loss reads the column."""
    labels = told([[UNMENTIONED] * 4], LabelPolicy(unmentioned=Unmentioned(loss="absent")))
    for bias in (None, torch.zeros(1)):
        anchors = torch.eye(4, 5).requires_grad_(True)
        features = torch.tensor([[1.0, 0.3, -0.2, 0.5, 0.1]])
        category(features, anchors, labels, torch.tensor([True]), temperature=0.1, bias=bias)[0].backward()
        assert not anchors.grad[0].any()


def test_a_bank_without_pathology_knows_no_health() -> None:
    labels = told([[UNCERTAIN, ABSENT, ABSENT, ABSENT]], LabelPolicy(), ("no_finding", "support_devices"))
    assert labels[0].isnan().tolist() == [True, False]
