"""Which image tokens are masked, that nothing of them is seen, and what a collapse costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from radz.config.dfat import DfatConfig
from radz.models.reconstruction import SPREAD, Reconstruction, reconstruction

PIXELS = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
COUNTS = torch.tensor([2, 1])
IMAGES = PIXELS, COUNTS, ["chest_xray"] * 2


def of(encoder: Any, **dfat: Any) -> Reconstruction:
    return Reconstruction(encoder, DfatConfig(reconstruction_weight=1.0, **dfat))


def test_a_study_has_its_own_tokens_masked_in_each_step(make_encoder: Any) -> None:
    hidden = of(make_encoder(), reconstruction_share=0.3)
    content = torch.zeros(2, 40, dtype=torch.bool)
    content[0, 2:34], content[1, 5:21] = True, True
    masked = hidden.masked(content, [7, 8], 4)
    assert not (masked & ~content).any() and masked.sum(1).tolist() == [round(0.3 * 32), round(0.3 * 16)]
    assert torch.equal(hidden.masked(content[1:], [8], 4)[0], masked[1])  # whatever stands beside it
    others = [hidden.masked(content, rows, step) for rows, step in (([7, 8], 5), ([8, 7], 4))]
    assert not any(torch.equal(one, masked) for one in others)
    assert of(make_encoder(), reconstruction_share=0.01).masked(content, [7, 8], 4).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3"])
def test_nothing_of_a_masked_token_reaches_the_decoder(make_family: Any, family: str, monkeypatch: Any) -> None:
    """Other values of the masked tokens, in any channel, change no prediction; of those that are left, they do."""
    encoder = make_family(family).eval()
    hidden, given = of(encoder), encoder.image_sequences(*IMAGES)
    masked, noise = hidden.masked(given.content, [0, 1], 0), torch.randn_like(given.embeddings)
    plain = hidden.predictions(encoder, IMAGES, [0, 1], 0)
    assert len(plain) == masked.sum() and plain.requires_grad
    for places, same in ((masked, True), (given.content & ~masked, False)):
        changed = given._replace(embeddings=torch.where(places[..., None], noise, given.embeddings))
        monkeypatch.setattr(encoder, "image_sequences", lambda *images, changed=changed: changed)
        assert torch.equal(hidden.predictions(encoder, IMAGES, [0, 1], 0), plain) == same


def test_targets_and_averages_have_no_gradient_and_no_dropout(make_encoder: Any) -> None:
    encoder = make_encoder(lora_dropout=0.5).train()
    hidden = of(encoder)
    averages = hidden.follow(encoder)
    trained = [weight for weight in encoder.backbone.parameters() if weight.requires_grad]
    assert all(map(torch.equal, averages, trained)) and len(averages) == len(trained) > 10
    first, second = (hidden.targets(encoder, averages, IMAGES, [0, 1], 0) for _ in range(2))
    assert torch.equal(first, second) and not first.requires_grad and encoder.training
    assert first.mean(1).abs().max() < 1e-5 and first.var(1, correction=0).max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("family", ["llava", "gemma3"])
def test_averages_give_the_targets_and_the_weights_stay(make_family: Any, family: str) -> None:
    """Also where embeddings and head are one (gemma3), whose new rows PEFT keeps in one module at two places."""
    encoder, other = make_family(family, depth="full"), make_family(family, depth="full")
    hidden, named = of(encoder), dict(encoder.backbone.named_parameters())
    before = {name: (weight, weight.detach().clone(), weight.requires_grad) for name, weight in named.items()}
    averages = [average + 0.1 * torch.randn_like(average) for average in hidden.follow(encoder)]
    found = hidden.targets(encoder, averages, IMAGES, [0, 1], 0)
    after = dict(encoder.backbone.named_parameters())
    assert after.keys() == before.keys()
    for name, (weight, value, trains) in before.items():
        assert after[name] is weight and torch.equal(weight, value) and weight.requires_grad == trains, name
    with torch.no_grad():
        for weight, average in zip((p for p in other.backbone.parameters() if p.requires_grad), averages, strict=True):
            weight.copy_(average)
        given = other.image_sequences(*IMAGES)
        states = other.backbone.decode(given.embeddings, given.mask, given.content)
    chosen = states[hidden.masked(given.content, [0, 1], 0)].float()
    torch.testing.assert_close(found, torch.nn.functional.layer_norm(chosen, chosen.shape[-1:]))


def test_it_starts_alike_whatever_has_drawn_before(make_encoder: Any) -> None:
    encoder = make_encoder()
    torch.manual_seed(3)
    one, state = of(encoder), torch.get_rng_state()
    torch.rand(5)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), of(encoder).parameters(), strict=True))
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)  # and leaves what follows as it was


def test_one_vector_for_all_tokens_costs_most() -> None:
    """What all targets share earns nothing, and predictions that spread as they do have no second term."""
    generator = torch.Generator().manual_seed(1)
    rest = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    shared = 50 * torch.randn(8, generator=generator, dtype=torch.float64)
    scaled = (rest - rest.mean(0)) / rest.std(0, correction=0)
    right, half, none = (reconstruction(share * scaled, rest + shared).item() for share in (1.0, 0.6, 0.0))
    assert right < 1e-6 < half < none - SPREAD and half < 0.2
    assert reconstruction(shared.expand(200, 8), rest + shared).item() > none
