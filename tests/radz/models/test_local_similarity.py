"""Similarity of texts and single image tokens, and the scorer that is made of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.special import softmax

from radz.config.scoring import ScoringConfig
from radz.models.encoder import Encoder
from radz.models.local_similarity import local_similarity
from radz.models.losses import Features
from radz.models.zero_shot import ClassTexts, ZeroShot

GENERATOR = torch.Generator().manual_seed(0)
TOKENS = torch.randn(3, 5, 4, generator=GENERATOR, dtype=torch.float64)
TOKENS[1, 3:] = 0  # a study of three tokens
TEXTS = torch.randn(2, 4, generator=GENERATOR, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.02, 0.1, 10.0])
def test_it_is_the_mean_under_a_softmax_of_the_real_tokens(temperature: float) -> None:
    found = local_similarity(TOKENS, TEXTS, temperature)
    for study, count in enumerate((5, 3, 5)):
        tokens = TOKENS[study, :count] / TOKENS[study, :count].norm(dim=1, keepdim=True)
        for text in range(2):
            cosines = (tokens @ (TEXTS[text] / TEXTS[text].norm())).numpy()
            assert found[study, text].item() == pytest.approx((softmax(cosines / temperature) * cosines).sum())


def test_one_token_that_shows_it_decides_where_a_mean_does_not_see_it() -> None:
    text = torch.tensor([[1.0, 0.0]])
    tokens = torch.tensor([[-0.2, 1.0]]).repeat(64, 1)[None].repeat(2, 1, 1)
    tokens[1, 7] = torch.tensor([1.0, 0.1])
    without, within = local_similarity(tokens, text, 0.03)[:, 0].tolist()
    assert within > 0.9 and without < 0
    assert tokens.mean(1)[1, 0] < 0


def test_of_a_set_of_texts_the_nearest_counts() -> None:
    sets = torch.stack([TEXTS, TEXTS.flip(0)])
    each = local_similarity(TOKENS, TEXTS, 0.1)
    assert torch.allclose(local_similarity(TOKENS, sets, 0.1), each.amax(1, keepdim=True).expand(3, 2))


def test_tokens_without_a_length_stay_zero_under_a_mean() -> None:
    """Padding has no direction, and a mean taken from it would give it one."""
    from radz.models.centre import Centre

    centre, rows = Centre(4).double(), torch.randn(3, 4, dtype=torch.float64)
    given = Features(rows, rows, torch.zeros(()), TOKENS)
    for of_batch in (True, False):
        found = centre.training_step(given, "image", torch.ones(3, dtype=torch.bool), of_batch)
        assert found.tokens is not None
        assert torch.equal(found.tokens[1, 3:], torch.zeros(2, 4, dtype=torch.float64))
        assert torch.allclose(found.tokens[0], TOKENS[0] - rows.mean(0))
    again = centre(given, "image")
    assert again.tokens is not None and torch.allclose(again.tokens[0], TOKENS[0] - rows.mean(0))


def test_the_scorer_is_there_with_its_loss_alone(make_encoder: Any) -> None:
    """Studies of one and of two images, scored together and alone; a finding without an anchor has no score."""
    texts = ClassTexts(("edema", "nodule"), ("edema", "nodule"), ("Fluid.", "A round opacity."))
    pixels, counts = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8), torch.tensor([2, 1])
    for weight in (0.0, 1.0):
        encoder: Encoder = make_encoder({"local_weight": weight}, train="frozen").eval()
        classifier = ZeroShot(encoder, texts, texts, encoder.config, ScoringConfig(), ["chest_xray"])
        anchors = torch.randn(2, encoder.backbone.hidden_size)
        classifier.refresh(anchors, torch.stack([anchors[0], torch.full_like(anchors[0], torch.nan)]))
        with torch.no_grad():
            scores = classifier.score(pixels, counts, ["chest_xray"] * 2)
            alone = classifier.score(pixels[2:], counts[1:], ["chest_xray"])
        assert ("local" in scores) == (weight > 0)
        if weight:
            assert scores["local"][:, 1].isnan().all() and (scores["local"][:, 0] > 0).all()
            assert torch.allclose(scores["local"][1:], alone["local"], atol=1e-5, equal_nan=True)
