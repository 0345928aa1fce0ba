"""How common findings are among the training labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from radz.models.labels import LabelView, training_prior
from radz.models.losses import category

NAN = float("nan")
NAMES = ("edema", "nodule", "mass")
POLICY = torch.tensor([[0.0, 1, NAN, 0], [0, 1, NAN, NAN]])[:, None].expand(2, 3, 4)
"""two corpora: in one silence is absence, in the other unknown"""
VIEW = LabelView(NAMES, NAMES, POLICY, POLICY)


def drawn(states: list[list[int]], corpus: list[int], draws: list[float]) -> Any:
    """A data module of studies; those with draws are its training split."""
    table = SimpleNamespace(
        states=np.array(states, dtype=np.int8), corpus=np.array(corpus), rows=lambda split: np.arange(len(draws))
    )
    return SimpleNamespace(table=table, training_draws=lambda: np.array(draws))


def test_log_odds_are_those_of_the_known_training_labels() -> None:
    """What no study knows has even odds."""
    data = drawn([[1, 3, 3], [3, 3, 2], [1, 1, 3], [3, 0, 3], [1, 1, 1]], [0, 0, 1, 1, 0], [1, 1, 1, 1])
    found = training_prior(VIEW, data, ["edema", "mass", "nodule"], "sigmoid")
    # edema: present in 0 and 2, absent in 1; mass: absent in 0; nodule: absent in 0, 1, 3, present in 2
    wanted = [np.log(2.5 / 1.5), np.log(0.5 / 1.5), np.log(1.5 / 3.5)]
    assert np.allclose(found.numpy(), wanted)


def test_of_two_findings_that_exclude_each_other_the_softmax_takes_the_shares() -> None:
    """Nine studies of one, one of the other: their log-odds would differ by log 81."""
    data = drawn([[1, 0], [0, 1]], [0, 0], [9.0, 1.0])
    view = LabelView(NAMES[:2], NAMES[:2], POLICY[:, :2], POLICY[:, :2])
    prior = training_prior(view, data, NAMES[:2], "softmax")
    assert float(prior[0] - prior[1]) == pytest.approx(np.log(9.5 / 1.5))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_features_that_say_nothing_do_best_with_equal_similarities(kind: str) -> None:
    """Studies of several findings, with unknown labels, drawn unequally often."""
    states = [[1, 0, 0], [0, 1, 0], [1, 1, 0], [3, 0, 1], [1, 2, 0], [0, 1, 2], [0, 0, 0], [3, 3, 3]]
    corpus, draws = [0, 0, 0, 1, 1, 0, 0, 1], [9000, 1000, 500, 3000, 700, 200, 4000, 50]
    prior = training_prior(VIEW, drawn(states, corpus, draws), NAMES, kind).requires_grad_(True)
    labels = VIEW.of_states(torch.tensor(states), torch.tensor(corpus), NAMES).repeat_interleave(torch.tensor(draws), 0)
    nothing, bias = torch.zeros(len(labels), 3), torch.zeros(1) if kind == "sigmoid" else None
    settings: dict[str, Any] = {"temperature": 0.1, "prior": prior, "bias": bias}
    category(nothing, torch.eye(3), labels, torch.ones(len(labels), dtype=torch.bool), **settings)[0].backward()
    assert prior.grad is not None and prior.grad.abs().max() < 2e-4 < prior.detach().std()
