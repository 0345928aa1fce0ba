"""Losses against hand-computed and independent values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics.pairwise import cosine_similarity

from radz.models.losses import (
    Features,
    Focus,
    alignment,
    category,
    category_targets,
    cosine,
    info_nce,
    known_cross_entropy,
    normalise,
    overlap,
    positive_pairs,
    same_labels,
    sigmoid_pairs,
)

NAN = float("nan")


def rows(seed: int, count: int = 6, width: int = 5) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_of(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


def test_info_nce_on_the_diagonal_is_the_symmetric_cross_entropy() -> None:
    a, b = rows(0), rows(1)
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.05
    target = torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    found = info_nce(a, b, torch.eye(6, dtype=torch.bool), all_of(6), 0.05)
    assert math.isclose(found.item(), expected.item(), rel_tol=1e-6)
    assert found.dtype == torch.float64


def test_equal_texts_share_the_mass() -> None:
    a, b = rows(0, 3), rows(1, 3)
    digest = torch.tensor([7, 7, 9])
    pairs = positive_pairs(torch.arange(3), digest, "same_text")
    assert pairs.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert positive_pairs(torch.arange(3), digest, "diagonal").tolist() == torch.eye(3, dtype=torch.bool).tolist()
    weights = pairs.double() / pairs.sum(1, keepdim=True)
    log_p = (normalise(a) @ normalise(b).T / 0.1).log_softmax(1)
    log_q = (normalise(b) @ normalise(a).T / 0.1).log_softmax(1)
    expected = -((weights * log_p).sum(1).mean() + (weights * log_q).sum(1).mean()) / 2
    assert torch.isclose(info_nce(a, b, pairs, all_of(3), 0.1), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["diagonal", "same_text", "same_labels", "overlap"])
def test_a_study_that_is_drawn_twice_matches_itself_in_both_places(kind: str) -> None:
    """Row 4 of the table twice, once with a rewritten text and nothing known of it: never a negative of itself."""
    labels = torch.tensor([[1.0, 0], [NAN, NAN], [0.0, 1]])
    pairs = positive_pairs(torch.tensor([4, 4, 9]), torch.tensor([7, 8, 9]), kind, labels)
    assert pairs.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_equal_labels_match_where_all_are_known() -> None:
    rows = [list(row) for row in itertools.product((0.0, 1.0, NAN), repeat=4)]
    found = same_labels(torch.tensor(rows))
    wanted = [[1 in one and not any(map(math.isnan, one)) and one == other for other in rows] for one in rows]
    assert found.tolist() == wanted and found.sum() == 15


def test_without_a_column_of_no_finding_nothing_says_that_studies_are_alike_healthy() -> None:
    labels = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 1], [1, 0, 1], [1, NAN, 1]])
    pairs = positive_pairs(torch.arange(5), torch.arange(5), "same_labels", labels)
    expected = torch.eye(5, dtype=torch.bool)
    expected[2, 3] = expected[3, 2] = True
    assert torch.equal(pairs, expected.float())


def test_overlap_is_the_share_of_the_findings_of_either_study_that_both_have() -> None:
    labels = [[1.0, 1, 0, 0], [1, 0, 0, 0], [1, NAN, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [NAN, NAN, NAN, NAN]]
    have = [{n for n, value in enumerate(row) if value == 1} for row in labels]
    wanted = [[len(a & b) / len(a | b) if a | b else 0.0 for b in have] for a in have]
    assert overlap(torch.tensor(labels)).tolist() == wanted
    pairs = positive_pairs(torch.arange(6), torch.arange(6), "overlap", torch.tensor(labels))
    assert pairs.diagonal().tolist() == [1.0] * 6 and pairs[0, 1] == 0.5 and pairs[4, 5] == 0


def test_matches_in_part_share_the_mass_in_proportion() -> None:
    a, b = rows(0), rows(1)
    share = torch.eye(6)
    share[0, 1] = share[1, 0] = 0.25
    found = info_nce(a, b, share, all_of(6), 0.05)
    terms = []
    for first, second in ((a, b), (b, a)):
        first, second = (torch.nn.functional.normalize(side, dim=1) for side in (first, second))
        target = share.to(first.dtype) / share.sum(1, keepdim=True)
        terms.append(torch.nn.functional.cross_entropy(first @ second.T / 0.05, target))
    assert torch.isclose(found, sum(terms) / 2)


def test_sigmoid_pairs_are_those_of_siglip() -> None:
    """The loss of arXiv 2303.15343, algorithm 1: -sum(logsigmoid(labels * logits)) / n, and studies without a text."""
    a, b, bias = rows(0), rows(1), torch.tensor([-3.0], dtype=torch.float64)
    first, second = (torch.nn.functional.normalize(side, dim=1) for side in (a, b))
    signs = 2 * torch.eye(6, dtype=torch.float64) - 1
    expected = -torch.nn.functional.logsigmoid(signs * (first @ second.T / 0.1 + bias)).sum() / 6
    assert torch.isclose(sigmoid_pairs(a, b, torch.eye(6), all_of(6), 0.1, bias), expected)
    usable = torch.tensor([True, True, False, True, True, False])
    part = sigmoid_pairs(a, b, torch.eye(6), usable, 0.1, bias)
    assert torch.isclose(part, sigmoid_pairs(a[usable], b[usable], torch.eye(4), all_of(4), 0.1, bias))


def test_a_study_without_text_takes_no_part() -> None:
    a, b = rows(0), rows(1)
    usable = torch.tensor([True, True, False, True, True, False])
    whole = info_nce(a[usable], b[usable], torch.eye(4, dtype=torch.bool), all_of(4), 0.05)
    part = info_nce(a, b, torch.eye(6, dtype=torch.bool), usable, 0.05)
    assert torch.isclose(whole, part, rtol=1e-9)
    a.requires_grad_(True)
    info_nce(a, b, torch.eye(6, dtype=torch.bool), all_of(6) & False, 0.05).backward()
    assert torch.equal(a.grad, torch.zeros_like(a))


@pytest.mark.parametrize("loss", ["cross", "global", "global_local"])
def test_alignment_pairs(loss: str) -> None:
    share = torch.tensor(0.1)
    image, text = Features(rows(0), rows(1), share), Features(rows(2), rows(3), share)
    digest, eye = torch.arange(6), torch.eye(6, dtype=torch.bool)

    def nce(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return info_nce(a, b, eye, all_of(6), 0.05)

    expected = {
        "cross": (nce(image.overall, text.local) + nce(image.local, text.overall)) / 2,
        "global": nce(image.overall, text.overall),
        "global_local": 0.3 * nce(image.overall, text.overall) + 0.7 * nce(image.local, text.local),
    }[loss]
    pairs = positive_pairs(torch.arange(6), digest, "same_text")
    found = alignment(image, text, pairs, all_of(6), loss=loss, temperature=0.05, global_weight=0.3)
    assert torch.isclose(found, expected)


def test_bfloat16_features_lose_nothing_in_the_loss() -> None:
    a, b = rows(0).bfloat16(), rows(1).bfloat16()
    found = info_nce(a, b, torch.eye(6, dtype=torch.bool), all_of(6), 0.05)
    assert found.dtype == torch.float32
    assert torch.isclose(found, info_nce(a.float(), b.float(), torch.eye(6, dtype=torch.bool), all_of(6), 0.05))


def test_zero_vector_has_a_finite_gradient() -> None:
    zero = torch.zeros(2, 3, requires_grad=True)
    normalise(zero).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_category_targets_follow_the_rules() -> None:
    # Columns: no_finding, effusion, nodule.
    labels = torch.tensor(
        [
            [0, 1, 1],  # two findings share the mass
            [1, 0, 0],
            [1, NAN, NAN],  # no_finding said so, nothing else known: one column left, not used
            [NAN, 0, NAN],  # not all known: no target
            [0, NAN, 1],  # the unknown column leaves the softmax
            [NAN, NAN, NAN],
            [0, 0, 0],  # something that has no anchor: no target
        ]
    )
    target, known, used = category_targets(labels)
    assert used.tolist() == [True, True, False, False, True, False, False]
    assert target[0].tolist() == [0, 0.5, 0.5]
    assert target[1].tolist() == [1, 0, 0]
    assert target[4].tolist() == [0, 0, 1]
    assert known[4].tolist() == [True, False, True]
    assert known[0].tolist() == [True, True, True]


def test_category_loss_by_hand() -> None:
    features, anchors = rows(0, 3), rows(1, 3)
    labels = torch.tensor([[0.0, 1, 1], [0, NAN, 1], [NAN, NAN, 1]])
    logits = normalise(features) @ normalise(anchors).T / 0.2
    first = -(logits[0].log_softmax(0)[1:].mean())
    second = -(logits[1, [0, 2]].log_softmax(0)[1])
    loss, share = category(features, anchors, labels, all_of(3), temperature=0.2)
    assert torch.isclose(loss, (first + second) / 2)
    assert math.isclose(share.item(), 2 / 3, rel_tol=1e-6)


def test_category_loss_without_any_usable_study_is_zero_with_zero_gradient() -> None:
    features = rows(0, 2).requires_grad_(True)
    labels = torch.full((2, 3), NAN)
    loss, share = category(features, rows(1, 3), labels, all_of(2), temperature=0.05)
    loss.backward()
    assert loss.item() == 0 and share.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_sigmoid_category_loss_is_the_mean_binary_cross_entropy_of_known_pairs() -> None:
    features, anchors, bias = rows(0, 3), rows(1, 3), torch.tensor(-1.5)
    labels = torch.tensor([[0.0, 1, 1], [0, NAN, 1], [NAN, NAN, NAN]], dtype=torch.float64)
    usable = torch.tensor([True, True, True])
    logits = normalise(features) @ normalise(anchors).T / 0.2 + bias
    known = ~labels.isnan()
    expected = torch.nn.functional.binary_cross_entropy(logits[known].sigmoid(), labels[known])
    loss, share = category(features, anchors, labels, usable, temperature=0.2, bias=bias)
    assert torch.isclose(loss, expected)
    assert math.isclose(share.item(), 2 / 3, rel_tol=1e-6)


def test_sigmoid_category_loss_learns_from_studies_without_any_finding() -> None:
    features, labels = rows(0, 2).requires_grad_(True), torch.zeros(2, 3)
    settings = {"temperature": 0.2}
    softmax, _ = category(features, rows(1, 3), labels, all_of(2), **settings)
    sigmoid, _ = category(features, rows(1, 3), labels, all_of(2), **settings, bias=torch.tensor(0.0))
    assert softmax.item() == 0 and sigmoid.item() > 0
    sigmoid.backward()
    assert (features.grad.norm(dim=1) > 0).all()


def test_of_a_set_of_anchors_the_nearest_counts() -> None:
    """Against scikit-learn, one set at a time; a set of one is the anchor itself."""
    features, sets = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), torch.randn(3, 4, 6)
    expected = np.stack([cosine_similarity(features, one).max(1) for one in sets], axis=1)
    assert np.allclose(cosine(features, sets), expected, atol=1e-6)
    assert torch.equal(cosine(features, sets[:, :1]), cosine(features, sets[:, 0]))


@pytest.mark.parametrize("focus", [Focus(0, 0, 0), Focus(1, 4, 0.05), Focus(0, 2, 0), Focus(0.5, 0.5, 0.2)])
def test_the_asymmetric_loss_is_that_of_its_formula(focus: Focus) -> None:
    """L+ = (1 - p)^g log p, L- = q^h log(1 - q) with q = max(p - m, 0) (arXiv 2009.14119, eqs. 5 and 7)."""
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(7, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, 2, (7, 3), generator=generator).double()
    labels[2, 1] = labels[5] = NAN
    terms = []
    for z, y in zip(logits.detach().flatten().tolist(), labels.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        q = max(p - focus.margin, 0.0)
        if y == 1:
            terms.append(-((1 - p) ** focus.present) * math.log(p))
        elif y == 0:
            terms.append(-(q**focus.absent) * math.log(1 - q) if q or focus.absent else 0.0)
    found = known_cross_entropy(logits, labels, focus)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-6)
    found.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert torch.equal(logits.grad[5], torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("focus", [Focus(0.5, 0, 0), Focus(0, 0.5, 0), Focus(0.5, 0.5, 0.05)])
def test_the_asymmetric_loss_of_sure_scores_is_finite(focus: Focus) -> None:
    """In float32, where a probability of 1 leaves nothing of the other."""
    logits = torch.tensor([[17.0, -17], [200, -200], [-200, 200]], requires_grad=True)
    loss = known_cross_entropy(logits, torch.tensor([[1.0, 0], [1, 0], [1, 0]]), focus)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert logits.grad[2, 0] < -0.1


def test_a_prior_is_added_to_the_logits_of_either_loss() -> None:
    """What is common need not be similar: with the log-odds of its labels, equal similarities are no error."""
    features, anchors, prior = rows(0), rows(1)[:3], torch.tensor([-3.0, 0.0, 1.0], dtype=torch.float64)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0], [0, NAN, 1]], dtype=torch.float64)
    unit = [torch.nn.functional.normalize(side, dim=1) for side in (features, anchors)]
    logits = unit[0] @ unit[1].T / 0.1 + prior
    bias = torch.tensor([0.5], dtype=torch.float64)
    found, _ = category(features, anchors, labels, all_of(6), temperature=0.1, bias=bias, prior=prior)
    known = ~labels.isnan()
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits + 0.5, labels.nan_to_num(), reduction="none")
    assert torch.isclose(found, each[known].mean())
    by_softmax, _ = category(features[:4], anchors, labels[:4], all_of(4), temperature=0.1, prior=prior)
    log_p = logits[:4].log_softmax(1)
    share = labels[:4] / labels[:4].sum(1, keepdim=True)
    assert torch.isclose(by_softmax, -(share * log_p).sum(1).mean())
