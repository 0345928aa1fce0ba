"""Zero-shot scorers against hand-made values, numpy and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from data_modules.errors import InputError
from radz.config.schema import DfatConfig
from radz.config.scoring import ClassPrompts, ScoringConfig
from radz.models.encoder import Encoder
from radz.models.losses import Features, cosine
from radz.models.prompts import Wording
from radz.models.zero_shot import SCORERS, ClassTexts, ZeroShot, fused, pair_similarity, to_unit


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def features(rows: int, seed: int) -> Features:
    return Features(random(rows, 6, seed=seed), random(rows, 6, seed=seed + 1), torch.zeros(()))


# ---- Pairs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["trained", "global", "local"])
@pytest.mark.parametrize("loss", ["cross", "global", "global_local"])
def test_pair_similarity_is_that_of_the_trained_pair(loss: str, kind: str) -> None:
    image, text = features(5, 0), features(3, 10)
    wide, near = image.overall.numpy(), image.local.numpy()
    far, words = text.overall.numpy(), text.local.numpy()
    expected = {
        "cross": (cosine_similarity(wide, words) + cosine_similarity(near, far)) / 2,
        "global": cosine_similarity(wide, far),
        "local": cosine_similarity(near, words),
        "global_local": 0.3 * cosine_similarity(wide, far) + 0.7 * cosine_similarity(near, words),
    }[loss if kind == "trained" else kind]
    found = pair_similarity(image, text, kind, DfatConfig(loss=loss, global_weight=0.3))
    assert found.dtype == torch.float32 and np.allclose(found.numpy(), expected, atol=1e-6)


def test_the_kinds_are_different_numbers() -> None:
    image, text = features(5, 0), features(3, 10)
    found = [pair_similarity(image, text, k, DfatConfig(loss="cross")) for k in ("trained", "global", "local")]
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in [(found[0], found[1]), (found[1], found[2])])


# ---- Fused ---------------------------------------------------------------------------------------------------------


def test_fused_centred_by_hand() -> None:
    image = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.2, 0.8]])
    prompt = torch.tensor([[0.5, 0.4, 0.3]])
    # Row 1: (.3, .2, -.5) against (.1, 0, -.1): .08 / (sqrt(.38) sqrt(.02)); row 2: (-.2, -.2, .4): -.06 / ...
    expected = [[0.08 / (0.38 * 0.02) ** 0.5], [-0.06 / (0.24 * 0.02) ** 0.5]]
    assert torch.allclose(fused(image, prompt, "centred", 0.05), torch.tensor(expected), atol=1e-5)


def test_fused_authors_by_hand() -> None:
    image = torch.tensor([[0.3, 0.1, 0.2]])
    prompt = torch.tensor([[0.2, 0.1, 0.0], [0.0, 0.1, 0.2]])
    inner = np.array([0.3 * 0.2 + 0.01, 0.01 + 0.04]) / 0.5**2
    assert np.allclose(fused(image, prompt, "authors", 0.5).numpy(), softmax(inner), atol=1e-6)


def test_fused_centred_survives_anchors_that_resemble_each_other() -> None:
    """Anchors share a large common part; a constant added to a row changes nothing in the centred form only."""
    image, prompt = random(7, 5, seed=0) * 0.01, random(4, 5, seed=1) * 0.01
    shift = torch.linspace(0.8, 0.9, 7)[:, None]
    plain, moved = (
        {form: fused(i, p, form, 0.05) for form in ("centred", "authors")}
        for i, p in ((image, prompt), (image + shift, prompt + 0.7))
    )
    assert torch.allclose(plain["centred"], moved["centred"], atol=1e-3)
    assert not torch.allclose(plain["authors"], moved["authors"], atol=1e-2)


@pytest.mark.parametrize("form", ["centred", "authors"])
@pytest.mark.parametrize("anchors", [1, 2])
def test_fewer_than_three_anchors_are_refused(form: str, anchors: int) -> None:
    with pytest.raises(InputError, match=f"three anchors or more, the bank has {anchors}"):
        fused(random(2, anchors, seed=0), random(2, anchors, seed=1), form, 0.05)


# ---- The map into [0, 1] -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2.0**-6, 2.0**-14, 2.0**-23])
@pytest.mark.parametrize("centre", [-0.5, 0.0, 0.625])
def test_the_map_keeps_the_ranking_and_its_ties(centre: float, step: float) -> None:
    """Exact for similarities on a grid as fine as fp32 is at 1, ties included."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    raw = (centre + step * (generator.integers(-20, 20, 400) + 5 * labels)).astype(np.float32)
    found = to_unit(torch.from_numpy(raw)).numpy()
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    assert len(np.unique(found)) == len(np.unique(raw)) < 60
    assert roc_auc_score(labels, found) == roc_auc_score(labels, raw)


def test_off_the_grid_the_map_never_swaps_two_scores() -> None:
    """Between the steps of fp32 at 1 it may tie neighbours, which moves an AUROC by next to nothing."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 1000)
    raw = (0.6 + 1e-3 * (generator.uniform(-1, 1, 1000) + 0.3 * labels)).astype(np.float32)
    found = to_unit(torch.from_numpy(raw)).numpy()
    assert (np.diff(found[np.argsort(raw)]) >= 0).all()
    assert abs(roc_auc_score(labels, found) - roc_auc_score(labels, raw)) < 1e-4


def test_the_ends_of_the_range_and_rounding_beyond_them() -> None:
    found = to_unit(torch.tensor([-1.0, 0.0, 1.0, 1 + 1e-6, -1 - 1e-6]))
    assert found.tolist() == [0.0, 0.5, 1.0, 1.0, 0.0]
    assert to_unit(torch.tensor([0.3], dtype=torch.bfloat16)).dtype == torch.float32


# ---- The whole ----------------------------------------------------------------------------------------------------

NAMES = ("pleural effusion", "nodule", "edema")
DESCRIBED = ("A crescent at the base.", "", "A hazy veil.")
PROMPTS = ["This is a {modality} showing {finding}.", "{finding}", "There is {finding} here."]


@pytest.fixture
def ready(make_encoder: Any) -> Any:
    def build(dfat: dict[str, Any] | None = None, **scoring: Any) -> tuple[ZeroShot, Encoder, Tensor, Tensor]:
        encoder = make_encoder(dfat, train="frozen").eval()
        texts = ClassTexts(tuple(n.replace(" ", "_") for n in NAMES), NAMES, DESCRIBED)
        zero = ZeroShot(encoder, texts, texts, encoder.config, ScoringConfig(**scoring), ["chest_xray"])
        with torch.no_grad():
            bank = encoder.encode_descriptions(["Round.", "A veil.", "Air at the apex.", "A wide heart."], "decoder")
            classes = encoder.encode_descriptions(list(NAMES), "decoder")
        classes[1] = float("nan")
        zero.refresh(bank, classes)
        return zero, encoder, bank, classes

    return build


def scored(zero: ZeroShot, image: Features) -> dict[str, Tensor]:
    return zero.scores(image, ["chest_xray"] * len(image.overall))


def pictures(encoder: Encoder) -> Features:
    pixels = torch.randint(0, 256, (5, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return encoder.encode_images(pixels, torch.ones(5, dtype=torch.int64), ["chest_xray"] * 5)


@pytest.mark.parametrize("form", ["centred", "authors"])
@pytest.mark.parametrize("loss", ["cross", "global", "global_local"])
def test_scores_are_float32_in_range_and_missing_where_nothing_is_known(ready: Any, loss: str, form: str) -> None:
    zero, encoder, _, _ = ready({"loss": loss}, fused=form)
    found = scored(zero, pictures(encoder))
    assert tuple(found) == SCORERS
    for name, values in found.items():
        assert values.shape == (5, 3) and values.dtype == torch.float32
        missing = values.isnan()
        assert (missing == torch.tensor([False, name in ("description", "anchor"), False])).all(), name
        known = values[~missing]
        assert known.min() >= 0 and known.max() <= 1 and known.std() > 0
    if form == "authors":
        assert torch.allclose(found["fused"].sum(1), torch.ones(5), atol=1e-5)


def test_each_scorer_is_what_the_method_says(ready: Any) -> None:
    zero, encoder, bank, classes = ready({"loss": "cross", "head": "linear"}, prompts=PROMPTS[:1])
    image = pictures(encoder)
    found = scored(zero, image)
    with torch.no_grad():
        prompts = encoder.encode_texts([f"This is a chest X-ray showing {name}." for name in NAMES])
        anchors = encoder.heads["anchor"](bank)
        classes = encoder.heads["anchor"](classes.nan_to_num())
        described = encoder.encode_texts([DESCRIBED[0], DESCRIBED[2]])
    mixed = (cosine(image.overall, prompts.local) + cosine(image.local, prompts.overall)) / 2
    assert torch.allclose(found["prompt"], (mixed + 1) / 2, atol=1e-6)
    mixed = (cosine(image.overall, described.local) + cosine(image.local, described.overall)) / 2
    assert torch.allclose(found["description"][:, [0, 2]], (mixed + 1) / 2, atol=1e-5)
    assert torch.allclose(found["anchor"][:, [0, 2]], (cosine(image.overall, classes)[:, [0, 2]] + 1) / 2, atol=1e-6)
    profile = cosine(prompts.overall, anchors)
    axes = cosine(image.overall, anchors)
    centred = cosine_similarity(axes - axes.mean(1, keepdim=True), profile - profile.mean(1, keepdim=True))
    assert np.allclose(found["fused"], (centred + 1) / 2, atol=1e-5)


def test_prompt_features_choose_the_pair(ready: Any) -> None:
    found = {}
    for kind in ("trained", "global", "local"):
        zero, encoder, _, _ = ready({"loss": "cross"}, prompt_features=kind)
        found[kind] = scored(zero, pictures(encoder))["prompt"]
    assert not torch.allclose(found["trained"], found["global"], atol=1e-4)
    assert not torch.allclose(found["global"], found["local"], atol=1e-4)


@pytest.mark.parametrize("scorer", ["prompt", "fused"])
def test_an_ensemble_is_the_mean_of_its_similarities(ready: Any, scorer: str) -> None:
    zero, encoder, bank, _ = ready(prompts=PROMPTS)
    image = pictures(encoder)
    together = scored(zero, image)[scorer]
    if scorer == "prompt":
        singles = []
        for prompt in PROMPTS:
            single, again, _, _ = ready(prompts=[prompt])
            singles.append(scored(single, pictures(again))["prompt"])
        assert torch.allclose(together, torch.stack(singles).mean(0), atol=1e-6)
        assert not torch.allclose(singles[0], singles[1], atol=1e-4)
        return
    with torch.no_grad():
        anchors = encoder.anchor_features(bank)
        words = [[p.format(finding=name, modality="chest X-ray") for p in PROMPTS] for name in NAMES]
        profile = torch.stack([cosine(encoder.encode_texts(row).overall, anchors).mean(0) for row in words])
    expected = to_unit(fused(cosine(image.overall, anchors), profile, "centred", 0.05))
    assert torch.allclose(together, expected, atol=1e-5)


def test_scores_of_an_image_do_not_depend_on_the_others(ready: Any) -> None:
    zero, encoder, _, _ = ready()
    image = pictures(encoder)
    together = scored(zero, image)
    alone = scored(zero, image.rows(torch.tensor([3])))
    for name in SCORERS:
        assert torch.allclose(together[name][3], alone[name][0], atol=1e-6, equal_nan=True)


def test_negative_prompts_are_subtracted(ready: Any) -> None:
    positive, negative = "Findings: {Finding}.", "No {finding}."
    zero, encoder, bank, _ = ready({"loss": "global"}, prompts=[positive, "{finding}"], negative_prompts=[negative])
    image = pictures(encoder)
    found = scored(zero, image)
    with torch.no_grad():
        capital = [name[0].upper() + name[1:] for name in NAMES]
        sides = [[f"Findings: {name}." for name in capital], list(NAMES), [f"No {name}." for name in NAMES]]
        texts = [encoder.encode_texts(side).overall for side in sides]
        axes = encoder.anchor_features(bank)
    first, second, third = (cosine(image.overall, text) for text in texts)
    assert torch.allclose(found["prompt"], (((first + second) / 2 - third) / 2 + 1) / 2, atol=1e-6)
    first, second, third = (cosine(text, axes) for text in texts)
    expected = fused(cosine(image.overall, axes), (first + second) / 2 - third, "centred", 0.05)
    assert torch.allclose(found["fused"], to_unit(expected), atol=1e-5)


def test_two_anchors_leave_fused_empty(ready: Any) -> None:
    zero, encoder, bank, classes = ready()
    zero.refresh(bank[:2], classes)
    found = scored(zero, pictures(encoder))
    assert found["fused"].isnan().all() and not found["prompt"].isnan().any()


@pytest.mark.parametrize(
    ("scoring", "limit", "what"),
    [({}, 1000, []), ({}, 3, ["sentences of the findings: ", "descriptions: 2 of 2 "]),
     ({"class_prompts": {"edema": {"positive": ["fluid " * 40]}}}, 30, ["sentences of the findings: 1 of "])],
)  # fmt: skip
def test_class_texts_that_will_be_cut_are_told(
    ready: Any, caplog: pytest.LogCaptureFixture, scoring: dict[str, Any], limit: int, what: list[str]
) -> None:
    ready(
        {"max_text_tokens": limit}, **{key: {k: ClassPrompts(**v) for k, v in x.items()} for key, x in scoring.items()}
    )
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(what) and all(map(str.startswith, told, what)), told
    assert all(f"longer than dfat.max_text_tokens={limit} tokens" in line for line in told)


def test_prompts_name_the_modality_of_each_study(make_encoder: Any) -> None:
    """Studies of both modalities score as they do among their own kind."""
    encoder = make_encoder(train="frozen").eval()
    texts = ClassTexts(tuple(n.replace(" ", "_") for n in NAMES), NAMES, DESCRIBED)
    settings = ScoringConfig(prompts=["A {modality} with {finding}."])
    kinds = ["chest_xray", "chest_ct", "chest_ct", "chest_xray", "chest_ct"]
    image, found = pictures(encoder), {}
    with torch.no_grad():
        bank = encoder.encode_descriptions(["Round.", "A veil.", "Air at the apex."], "decoder")
    for known in (["chest_xray", "chest_ct"], ["chest_xray"], ["chest_ct"]):
        zero = ZeroShot(encoder, texts, texts, encoder.config, settings, known)
        zero.refresh(bank, bank)
        found[len(known), known[0]] = zero.scores(image, kinds if len(known) == 2 else known * 5)
    mixed = found.pop((2, "chest_xray"))
    for scorer, values in mixed.items():
        for i, kind in enumerate(kinds):
            torch.testing.assert_close(values[i], found[1, kind][scorer][i], equal_nan=True)
    alone = found[1, "chest_ct"]["prompt"]
    assert (mixed["prompt"] - alone)[0].abs().max() > 1e-6, "the word changes the score"


def test_prompts_count_once_for_each_finding_by_what_asserts_it(ready: Any) -> None:
    """Denials and further wordings of the same findings are no direction that features lack."""
    own = ClassPrompts(positive=["Fluid in the lungs.", "Wet lungs."], negative=["Dry."])
    zero, encoder, *_ = ready(prompts=PROMPTS[1:], negative_prompts=["No {finding}."], class_prompts={"edema": own})
    found, _ = zero.prompts()
    said = [[name, f"There is {name} here."] for name in NAMES[:2]] + [own.positive]
    with torch.no_grad():
        expected = [encoder.encode_texts(texts, 8).overall.mean(0) for texts in said]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("aggregate", ["joint", "mean", "max"])
def test_a_prompt_set_ranks_as_a_run_with_its_sentences(ready: Any, aggregate: str) -> None:
    """Several sentences a side, and none denied; studies of one, three and one images."""
    pixels = torch.randint(0, 256, (5, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    counts, kinds = torch.tensor([1, 3, 1]), ["chest_xray"] * 3
    for positive, negative in ((("{Finding}", "A {finding}."), ("no {finding}",)), (("There is {Finding}",), ())):
        own, _, _, _ = ready(prompts=list(positive), negative_prompts=list(negative), aggregate=aggregate)
        other, _, _, _ = ready(prompts=["Findings: {Finding}."], aggregate=aggregate)
        other.encode_wordings({"set": Wording(positive, negative, apart=False)})
        with torch.no_grad():
            wanted = own.score(pixels, counts, kinds)["prompt"]
            found = other.agreement(other.encode(pixels, counts, kinds), counts, kinds)["set"]
        scale = 2 if negative else 1
        assert torch.allclose(to_unit(found / scale), wanted, atol=1e-6)
        assert not torch.allclose(other.score(pixels, counts, kinds)["prompt"], wanted, atol=1e-4)
