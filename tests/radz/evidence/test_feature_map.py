"""Neighbours in the feature map, and shares of attention, against plain counterparts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from radz.evidence import attention, feature_map
from radz.models.encoder import Encoder

Build = Callable[..., Encoder]


def test_neighbours_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    values = draw.normal(size=(40, 5)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    found = feature_map.neighbours(values, np.arange(40))
    plain = NearestNeighbors(n_neighbors=10, metric="cosine").fit(values).kneighbors(return_distance=False)
    assert [set(line) for line in found] == [set(line) for line in plain]
    # A patient with a second study that looks alike: neither is a neighbour of the other.
    people = np.array([*range(20), *range(20)])
    found = feature_map.neighbours(np.concatenate([values[:20], values[:20]]), people)
    near = NearestNeighbors(n_neighbors=5, metric="cosine").fit(values[:20]).kneighbors(return_distance=False)
    assert [sorted(line % 20) for line in found] == [sorted([*line, *line]) for line in [*near, *near]]
    labels = np.array([1, 1, 0, np.nan], dtype=np.float32)
    near, alone = np.array([[1, 2], [0, 3], [0, 1], [0, 1]]), np.arange(4)
    assert feature_map.shared(labels, near, alone) == pytest.approx((2 / 3, 1 / 2))
    assert np.isnan(feature_map.shared(labels * 0, np.zeros((4, 2), int), alone)[0])
    # Without any order the share is the base, also where a patient has many studies.
    several = np.repeat(np.arange(40), 10)
    held = (several < 4).astype(np.float32)
    every = np.array([np.flatnonzero(several != person) for person in several])
    share, base = feature_map.shared(held, every, several)
    assert share == base == pytest.approx(30 / 390)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_shares_of_attention_add_up_and_an_even_token_is_even(make_encoder: Build, padding: str) -> None:
    """Two studies of different length: padding is in no group, and even attention gives each group its size."""
    encoder = make_encoder({}, padding=padding).eval()
    pixels = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad(), encoder.backbone.eager():
        given = encoder.image_sequences(pixels, torch.tensor([1, 2]), ["chest_xray"] * 2)
        layer = encoder.backbone.decode_all(given.embeddings, given.mask, given.content, attention=True).attention[1]
    groups = attention.grouped(given)
    assert [(groups == n).sum().item() for n in (0, 2, 3)] == [3 * 16, 2, 4] and (groups[~given.mask] == -1).all()
    found = attention.shares(layer, given, groups)
    assert found.shape == (2, 2, 4)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2))
    fair = attention.even(given, groups)
    length = given.mask.sum(1)
    # The last modality token sees all of its sequence.
    torch.testing.assert_close(fair[:, -1, 0], torch.tensor([16.0, 32.0]) / length)
    torch.testing.assert_close(fair[:, -1, 3], 2.0 / length)
    by_hand = layer[1].mean(0)[given.tokens[1]][:, given.content[1]].sum(-1)
    torch.testing.assert_close(found[1, :, 0], by_hand)
