"""Taking out what all features of a side share, and sinks, which make every mean the same vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor

from radz.config.scoring import ScoringConfig
from radz.models.centre import FEWEST, MOMENTUM, SHRINK, Centre, Shared
from radz.models.encoder import Encoder
from radz.models.geometry import geometry
from radz.models.losses import Features, cosine
from radz.models.zero_shot import ClassTexts, ZeroShot

WORDS = ["effusion", "mass", "nodule", "edema", "hernia", "fibrosis", "pneumonia"]
REPORTS = [f"There is {word} on the left." for word in WORDS]


def features(rows: Tensor) -> Features:
    return Features(rows, 2 * rows, torch.zeros(()))


def test_running_means_are_those_of_numpy() -> None:
    """An exponential mean over steps without the pull to its start at zero; rows without a text are left out."""
    generator = torch.Generator().manual_seed(0)
    centre = Centre(4).double()
    every, steps = [], [torch.randn(6, 4, generator=generator, dtype=torch.float64) + 3 for _ in range(5)]
    used = torch.tensor([True, True, False, True, False, True])
    for rows in steps:
        found = centre.training_step(features(rows), "text", used, of_batch=False)
        every.append(rows[used].mean(0).numpy())
        weights = (1 - MOMENTUM) * MOMENTUM ** np.arange(len(every))[::-1]
        expected = np.average(every, axis=0, weights=weights)
        assert np.allclose(centre.mean("text_overall").numpy(), expected)
        assert np.allclose(centre.mean("text_local").numpy(), 2 * expected)
        assert np.allclose(found.overall.numpy(), rows.numpy() - expected)
        centre.training_step(features(rows * float("inf")), "text", torch.zeros(6, dtype=torch.bool), of_batch=False)
        assert np.allclose(centre.mean("text_overall").numpy(), expected)
    assert centre.mean("image_overall").tolist() == [0.0] * 4


def test_the_mean_of_a_step_carries_its_gradient_and_the_running_one_none() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    used = torch.tensor([True, False, True, True, True])
    wanted = torch.randn(5, 3, dtype=torch.float64)
    centre = Centre(3).double()
    for of_batch in (True, False):
        found = centre.training_step(features(rows), "image", used, of_batch).overall
        (gradient,) = torch.autograd.grad((found * wanted).sum(), rows)
        expected = wanted.clone()
        if of_batch:
            assert torch.allclose(found[used].mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
            expected[used] -= wanted.sum(0) / used.sum()
        assert torch.allclose(gradient, expected)


def test_the_means_come_back_from_a_checkpoint() -> None:
    centre, again = Centre(3), Centre(3)
    centre.training_step(features(torch.randn(4, 3)), "image", torch.ones(4, dtype=torch.bool), of_batch=False)
    again.load_state_dict(centre.state_dict())
    assert torch.equal(again.mean("image_local"), centre.mean("image_local"))


@pytest.mark.parametrize("head", ["identity", "mlp"])
def test_one_study_equals_one_of_many(make_encoder: Any, head: str) -> None:
    encoder: Encoder = make_encoder({"centre": "running", "token_norm": "unit", "head": head}, train="frozen").eval()
    with torch.no_grad():
        raw = encoder.encode_texts(REPORTS, raw=True)
        encoder.centre.training_step(raw, "text", torch.ones(len(REPORTS), dtype=torch.bool), of_batch=True)
        together = encoder.encode_texts(REPORTS)
        for number, report in enumerate(REPORTS):
            alone = encoder.encode_texts([report])
            assert torch.allclose(alone.overall[0], together.overall[number], atol=1e-5)
            assert torch.allclose(alone.local[0], together.local[number], atol=1e-5)
    assert torch.allclose(together.overall, raw.overall - raw.overall.mean(0), atol=1e-5)


def ready(encoder: Encoder, findings: list[str]) -> ZeroShot:
    def known(names: list[str]) -> ClassTexts:
        return ClassTexts(tuple(names), tuple(names), tuple(f"{name}, a change of the lung" for name in names))

    zero = ZeroShot(encoder, known(findings), known(WORDS), encoder.config, ScoringConfig(), ["chest_xray"])
    anchors = encoder.encode_descriptions([f"{name}, a change of the lung" for name in WORDS], "decoder")
    zero.refresh(anchors, anchors[[WORDS.index(name) for name in findings]])
    return zero


@torch.no_grad()
def test_a_shared_direction_changes_no_score_and_neither_do_other_findings(make_encoder: Any) -> None:
    """Heads add a constant far longer than the features: with the means taken out nothing of it is left."""
    scores = {}
    for shift in (0.0, 100.0):
        encoder: Encoder = make_encoder({"centre": "running", "loss": "global_local"}, train="frozen").double().eval()
        for head in encoder.heads.values():
            head.bias.add_(shift * torch.linspace(-1, 1, len(head.bias)))
        pixels = torch.randint(0, 256, (6, 1, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        images = pixels, torch.ones(6, dtype=torch.int64), ["chest_xray"] * 6
        for side, raw in (("image", encoder.encode_images(*images, raw=True)), ("text", encoder.encode_texts(REPORTS))):
            encoder.centre.training_step(raw, side, torch.ones(len(raw.overall), dtype=torch.bool), of_batch=False)
        scores[shift] = ready(encoder, WORDS).score(*images)
        alone = ready(encoder, WORDS[2:3]).score(*images)
        for scorer, values in alone.items():
            assert torch.allclose(values[:, 0], scores[shift][scorer][:, 2], atol=1e-7), scorer
        token = encoder.patch_features(torch.ones(1, encoder.backbone.hidden_size, dtype=torch.float64))
        scores[shift]["patches"] = ready(encoder, WORDS).patch_scores(token, "chest_xray", "anchor")
    for scorer, values in scores[0.0].items():
        assert torch.allclose(values, scores[100.0][scorer], atol=1e-5), scorer
        assert values.std(0, correction=0).max() > 1e-4 or scorer == "patches"


class WithSink:
    """The first word of every sequence is sixty times as long as the others."""

    def __init__(self, backbone: Any) -> None:
        self.decode, self.start = backbone.decode, len(backbone.start)
        sink = torch.randn(backbone.hidden_size, generator=torch.Generator().manual_seed(1))
        self.sink = sink / sink.norm()

    def __call__(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        states = self.decode(embeddings, mask)
        first = mask.int().argmax(1) + self.start
        states[torch.arange(len(states)), first] += 60 * states.norm(dim=-1).mean() * self.sink
        return states


@torch.no_grad()
def test_a_sink_is_not_the_whole_mean(make_encoder: Any) -> None:
    """As the first word of a model without BOS."""
    ranks = {}
    for norm in ("none", "unit", "rms"):
        encoder: Encoder = make_encoder({"token_norm": norm, "head": "identity"}, train="frozen").eval()
        object.__setattr__(encoder.backbone, "decode", WithSink(encoder.backbone))
        found = encoder.encode_texts(REPORTS)
        ranks[norm] = geometry(found.local - found.local.mean(0))["effective_rank"]
        assert (found.peak_share[0] > 0.5) == (norm == "none")
        if norm == "none":
            assert cosine(found.local, found.local).min() > 0.95
        lengths = encoder._token_states(torch.randn(2, 3, 8) * 7).norm(dim=-1)
        if norm != "none":
            assert torch.allclose(lengths, torch.full((2, 3), 1.0 if norm == "unit" else 8**0.5))
    assert ranks["unit"] == pytest.approx(ranks["rms"], rel=0.01) and ranks["unit"] > ranks["none"]


@drawn_from(
    rows=st.integers(0, 5), sets=st.lists(st.integers(1, 3), max_size=1), whiten=st.booleans(), alike=st.booleans()
)
def test_of_fewer_than_three_nothing_is_taken(rows: int, sets: list[int], whiten: bool, alike: bool) -> None:
    """A batch may hold no sentence at all, and rows may be all the same: what is left is finite, and can be undone."""
    values = torch.ones(rows, *sets, 4) if alike else torch.randn(rows, *sets, 4) + 3
    values.requires_grad_()
    shared = Shared.of(values, whiten)
    found = shared.taken_from(values)
    assert found.shape == values.shape and found.isfinite().all()
    found.square().sum().backward()
    assert values.grad is not None and values.grad.isfinite().all()
    if rows < FEWEST:
        assert torch.equal(found, values) and shared.whitening is None
    else:
        assert torch.allclose(shared.mean, values.flatten(0, -2).mean(0), atol=1e-5)
        assert (shared.whitening is not None) == whiten


def test_texts_that_are_all_the_same_whiten_to_numbers() -> None:
    """Rounding leaves their running covariance a little below zero."""
    for seed in range(20):
        centre = Centre(4, whiten=True)
        row = torch.randn(1, 4, generator=torch.Generator().manual_seed(seed)) * 10
        found = centre.training_step(features(row.expand(6, 4)), "text", torch.ones(6, dtype=torch.bool), False)
        assert found.overall.isfinite().all() and found.local.isfinite().all()


def inverse_root(covariance: Any) -> Any:
    """By scipy; the mean variance is kept."""
    even = np.trace(covariance) / len(covariance)
    mixed = (1 - SHRINK) * covariance + SHRINK * even * np.eye(len(covariance))
    return np.sqrt(even) * np.linalg.inv(sqrtm(mixed))


def test_whitening_is_the_inverse_root_of_the_running_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    stretch = torch.diag(torch.tensor([9.0, 3, 1, 0.2], dtype=torch.float64))
    centre, used = Centre(4, whiten=True).double(), torch.tensor([True] * 5 + [False])
    steps = [torch.randn(6, 4, generator=generator, dtype=torch.float64) @ stretch + 2 for _ in range(4)]
    for count, rows in enumerate(steps, 1):
        found = centre.training_step(features(rows), "image", used, of_batch=False)
        weights = (1 - MOMENTUM) * MOMENTUM ** np.arange(count)[::-1]
        mean = np.average([one[used].mean(0).numpy() for one in steps[:count]], axis=0, weights=weights)
        seconds = [one[used].numpy().T @ one[used].numpy() / 5 for one in steps[:count]]
        covariance = np.average(seconds, axis=0, weights=weights) - np.outer(mean, mean)
        assert np.allclose(found.overall.numpy(), (rows.numpy() - mean) @ inverse_root(covariance))
        assert np.allclose(found.local.numpy(), 2 * (rows.numpy() - mean) @ inverse_root(covariance))
    shared = centre.shared("image_overall")
    assert torch.allclose(shared.given_back(shared.taken_from(rows)), rows)
    again = Centre(4, whiten=True).double()
    again.load_state_dict(centre.state_dict())
    assert torch.equal(again.shared("image_local").whitening, centre.shared("image_local").whitening)


def test_measured_means_take_the_place_of_running_ones() -> None:
    """Over batches of different size, of the rows that are used, and with full weight from then on."""
    generator = torch.Generator().manual_seed(0)
    centre, of = Centre(3, whiten=True).double(), torch.ones(4, dtype=torch.bool)
    centre.training_step(features(torch.randn(4, 3, dtype=torch.float64)), "text", of, of_batch=False)
    parts = [torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (4, 3, 1)]
    used = [torch.tensor([True, False, True, True]), torch.tensor([True, True, False]), torch.tensor([False])]
    centre.measure(("text", features(rows), mask) for rows, mask in zip(parts, used, strict=True))
    rows = torch.cat([rows[mask] for rows, mask in zip(parts, used, strict=True)]).numpy()
    assert np.allclose(centre.get_buffer("text_overall"), rows.mean(0)) and centre.get_buffer("text_weight") == 1
    assert np.allclose(centre.get_buffer("text_local_second"), 4 * rows.T @ rows / len(rows))
    assert centre.get_buffer("image_weight") == 0  # nothing was measured of it, nothing is changed


def test_whitened_anchors_are_less_alike(make_encoder: Any) -> None:
    """One direction that most anchors differ in hides the others until the bank is whitened."""
    generator = torch.Generator().manual_seed(0)
    encoder: Encoder = make_encoder({"centre": "whiten", "head": "identity"}, train="frozen")
    bank = torch.randn(8, encoder.backbone.hidden_size, generator=generator) * 0.1 + 5
    bank[:, 0] += 3 * torch.randn(8, generator=generator)
    mean_alone = Shared.of(bank, whiten=False).taken_from(bank)
    whitened = encoder.of_bank(bank).taken_from(bank)
    assert geometry(whitened)["effective_rank"] > geometry(mean_alone)["effective_rank"] + 1
    covariance = np.cov(bank.numpy().T, bias=True)
    assert np.allclose(whitened.numpy(), mean_alone.numpy() @ inverse_root(covariance), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("findings", [2, 3])
def test_a_bank_of_two_findings_has_too_few_however_many_sentences(make_encoder: Any, findings: int) -> None:
    """docs/method.md 2.4: prompts then lose the mean of reports."""
    encoder: Encoder = make_encoder({"centre": "running"}, train="frozen").eval()
    raw = encoder.encode_texts(REPORTS, raw=True)
    encoder.centre.training_step(raw, "text", torch.ones(len(REPORTS), dtype=torch.bool), of_batch=False)
    names = tuple(WORDS[:findings])
    texts = ClassTexts(names, names, names)
    scoring = ScoringConfig(prompts=["There is {finding}.", "{Finding}."])
    zero = ZeroShot(encoder, texts, texts, encoder.config, scoring, ["chest_xray"])
    anchors = encoder.encode_descriptions(list(names), "decoder")
    zero.refresh(anchors, anchors)
    assert torch.equal(zero.prompts()[1].mean, encoder.centre.mean("text_overall")) == (findings == 2)


@torch.no_grad()
@pytest.mark.parametrize("count", [2, 3])
def test_sentences_on_fewer_than_three_things_lose_what_reports_share(make_encoder: Any, count: int) -> None:
    """In prompts, statements and single sentences alike."""
    encoder: Encoder = make_encoder({"centre": "running"}, train="frozen")
    assert encoder.centre is not None
    encoder.centre.training_step(features(torch.randn(6, 32) + 2), "text", torch.ones(6, dtype=torch.bool), False)
    overall, local = torch.randn(2, 4, 32)
    of_reports = [encoder.centre.mean("text_overall"), encoder.centre.mean("text_local")]
    own = [overall.mean(0), local.mean(0)]
    for shared, wanted in zip(encoder.of_texts(overall, local, count), of_reports if count < 3 else own, strict=True):
        assert torch.allclose(shared.mean, wanted, atol=1e-6)
