"""Linear probes against scikit-learn and heads on encoders, from features of backbones, CLIP folders and runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_run import SMALL
from study_batch import study_batch
from tiny_families import SHAPE, TEXTS

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz.config.clip import TinyClipConfig
from radz.config.files import load_experiment
from radz.config.schema import SupervisedConfig
from radz.methods import logistic_regression
from radz.methods.clip_huggingface import ClipEncoder, write_tiny_clip
from radz.methods.finetune import Finetune
from radz.methods.study_features import StudyFeatures, _weights_digest
from radz.models.encoder import Encoder
from radz.models.labels import LabelView
from radz.runs.evaluate import evaluate_run
from radz.runs.train import train

PIXELS = torch.randint(0, 256, (6, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
COUNTS, PLACE = torch.tensor([1, 3, 2]), ["chest_xray"] * 3


def test_a_fit_equals_scikit_learn_and_is_chosen_on_validation() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(3, 5, (260, 12)).astype(np.float32)
    x[:160, 3], x[160:, 3] = 0.1, 0.2  # the deviation of equal fractions is rounding, not 0
    truth = draw.normal(size=(12, 2))
    y = (x @ truth + draw.normal(0, 12, (260, 2)) > (x @ truth).mean(0)).astype(np.float32)
    y[::5, 0] = np.nan
    y = np.column_stack([y, np.ones(260)]).astype(np.float32)
    parts = slice(0, 160), slice(160, 210), slice(210, 260)
    strengths = (1e-5, 0.1, 10.0)
    val = x[parts[1]], y[parts[1]], np.zeros(50, int)
    found = logistic_regression.fit(x[parts[0]], y[parts[0]], val, strengths, 0.1, "probe")
    scores, macro = {}, {}
    for strength in strengths:
        columns = []
        for k in range(2):
            known = ~np.isnan(y[parts[0], k])
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-8))
            # The scaler of the probe sees all training studies, those with an unknown label too.
            scaler = StandardScaler().fit(x[parts[0]])
            model = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
            model.fit(scaler.transform(x[parts[0]])[known], y[parts[0], k][known])
            columns.append(model.predict_proba(scaler.transform(x))[:, 1])
        scores[strength] = np.stack(columns, 1)
        val = [(y[parts[1], k], scores[strength][parts[1], k]) for k in range(2)]
        macro[strength] = np.mean([roc_auc_score(a[~np.isnan(a)], b[~np.isnan(a)]) for a, b in val])
    assert found.strength == max(strengths, key=lambda s: macro[s])
    assert np.abs(found.scores(x)[:, :2] - scores[found.strength]).max() < 2e-3
    assert np.isnan(found.scores(x)[:, 2]).all() and found.spread[3] == 1


def test_the_strength_is_the_best_within_corpora() -> None:
    """Rows of both corpora together would choose the one that knows best where the finding is frequent."""
    draw = np.random.default_rng(15)
    corpus = np.arange(320) % 2
    y = (draw.random((320, 1)) < np.where(corpus == 1, 0.7, 0.2)[:, None]).astype(np.float32)
    x = draw.normal(size=(320, 12)).astype(np.float32)
    x[:, :2] += np.stack([2 * corpus, y[:, 0]], axis=1)
    val, strengths = (x[80:], y[80:], corpus[80:]), (1e-4, 0.01, 1.0)
    within, pooled = {}, {}
    for strength in strengths:
        scores = logistic_regression.fit(x[:80], y[:80], None, [strength], strength, "probe").scores(val[0])
        pooled[strength] = roc_auc_score(val[1], scores)
        within[strength] = np.mean([roc_auc_score(val[1][val[2] == n], scores[val[2] == n]) for n in (0, 1)])
    found = logistic_regression.fit(x[:80], y[:80], val, strengths, 0.01, "probe").strength
    assert found == max(within, key=lambda s: within[s]) == 1.0 and max(pooled, key=lambda s: pooled[s]) == 0.01


@pytest.mark.parametrize("value", [0.1, 700.3, -3e-8, 0.0])
def test_a_constant_feature_is_known_by_its_size(value: float) -> None:
    """Also where it moves by rounding; one that is small, or moves by a ten-thousandth, is not constant."""
    x = np.full((20_000, 3), value, np.float32)
    x[::2, 1] = np.nextafter(x[0, 0], np.float32(np.inf))
    x[::2, 2] = value * (1 + 1e-4) + 1e-9
    spread = logistic_regression.mean_and_spread(x)[1]
    assert spread[0] == spread[1] == 1 and 0 < spread[2] < 0.2
    rng = np.random.default_rng(0)
    x[:, 1], x[:, 2] = rng.normal(0, 1e-9, len(x)), rng.normal(0, 1, len(x))
    assert logistic_regression.mean_and_spread(x)[1] == pytest.approx([1, 1, 1], abs=0.05), "noise stays small"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    shape = TinyClipConfig(vision_width=32, width=32, layers=2, projection=24, vocabulary=400, context=40)
    write_tiny_clip(folder, shape, SHAPE["image_size"], TEXTS * 20)
    return folder


@torch.no_grad()
def test_features_are_those_of_the_encoder(make_encoder: Callable[..., Encoder], clip: Path) -> None:
    encoder = make_encoder().eval()
    plain = encoder.encode_images(PIXELS, COUNTS, PLACE)
    expected = {"global": plain.overall, "local": plain.local, "both": torch.cat([plain.overall, plain.local], 1)}
    for kind, values in expected.items():
        features = StudyFeatures(encoder, kind).eval()
        assert torch.equal(features(PIXELS, COUNTS, PLACE), values) and values.shape[1] == features.width
    two = ClipEncoder(clip).eval()
    images = torch.nn.functional.normalize(two.images(PIXELS), dim=-1)
    found = StudyFeatures(two, "both")(PIXELS, COUNTS, PLACE)
    assert torch.allclose(found[1], images[1:4].mean(0), atol=1e-6) and found.shape == (3, 24)


def batch() -> StudyBatch:
    return study_batch(PIXELS, COUNTS.tolist(), states=torch.tensor([[0, 1], [1, 0], [1, 2]], dtype=torch.int8))


def finetuned(encoder: Any, **settings: Any) -> Finetune:
    policy = torch.tensor([[[0, 1, torch.nan, 0]] * 2])
    labels = LabelView(("nodule", "edema"), ("nodule", "edema"), policy, policy)
    config = SupervisedConfig(dropout=0.0, **settings)
    made = Finetune(StudyFeatures(encoder, "both"), config, labels, ("nodule", "edema"), ("edema",), ("chest_xray",))
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("kind", ["backbone", "clip"])
def test_all_that_trains_has_a_gradient_and_the_loss_falls(
    make_encoder: Callable[..., Encoder], clip: Path, kind: str
) -> None:
    encoder = make_encoder() if kind == "backbone" else ClipEncoder(clip)
    made = finetuned(encoder, head="mlp", learning_rate=1e-3, head_learning_rate=1e-2)
    loss = made.training_step(batch(), 0)
    loss.backward()
    trained = {name: p for name, p in made.named_parameters() if p.requires_grad}
    lacking = {name for name, p in trained.items() if p.grad is None}
    assert not lacking
    assert any(name.startswith("features.encoder.") for name in trained)
    optimizer = torch.optim.Adam(trained.values(), lr=3e-3)
    for _ in range(10):
        optimizer.zero_grad()
        made.training_step(batch(), 0).backward()
        optimizer.step()
    assert made.training_step(batch(), 0) < 0.5 * loss


def test_rows_of_tokens_and_what_is_no_matrix_are_not_decayed(make_encoder: Callable[..., Encoder]) -> None:
    made = finetuned(make_encoder(train="full"), weight_decay=0.5)
    made.trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    names = {parameter: name for name, parameter in made.named_parameters() if parameter.requires_grad}
    groups = made.configure_optimizers()["optimizer"].param_groups
    decays = {names[parameter]: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(decays) == len(names) and "head.2.weight" not in {name for name in decays if not decays[name]}
    shapes = {name: parameter.ndim for parameter, name in names.items()}
    assert [
        name for name, decay in decays.items() if not decay and shapes[name] > 1 and "embed_tokens" not in name
    ] == []
    assert any("embed_tokens" in name and shapes[name] == 2 and not decay for name, decay in decays.items())


def test_a_head_alone_leaves_the_encoder(make_encoder: Callable[..., Encoder]) -> None:
    made = finetuned(make_encoder(), train_encoder=False).train()
    made.training_step(batch(), 0).backward()
    assert {name.split(".")[0] for name, p in made.named_parameters() if p.requires_grad} == {"head"}
    assert not made.features.training and made.head.training
    checkpoint: dict[str, Any] = {"state_dict": made.state_dict()}
    made.base_digest = "abc"
    made.on_save_checkpoint(checkpoint)
    assert all(name.startswith("head.") for name in checkpoint["state_dict"])
    made.on_load_checkpoint(checkpoint)
    other = finetuned(make_encoder(), train_encoder=True)
    other.base_digest = "abc"
    with pytest.raises(InputError, match="its trainable parts are others, first features"):
        other.on_load_checkpoint(checkpoint)
    made.base_digest = "abd"
    with pytest.raises(InputError, match="of another encoder"):
        made.on_load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"encoder": "tower"}, "supervised.encoder"),
        ({"encoder": "run"}, "supervised.run: names a trained run exactly where"),
        ({"run": "x"}, "supervised.run: names a trained run exactly where"),
        ({"strengths": []}, "supervised.strengths: name one"),
        ({"strengths": [0.0]}, "supervised.strengths=0.0: must be above 0"),
        ({"dropout": 1.0}, "supervised.dropout"),
        ({"features": "all"}, "supervised.features"),
        ({"head": "deep"}, "supervised.head"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SupervisedConfig(**keys)


@pytest.mark.slow
def test_a_probe_of_a_run_and_its_repeated_score(trained_run: Path, tmp_path: Path, cache_dir: Path) -> None:
    """The probe on a trained run equals one made by hand from the engine's features, and scores alike from its file."""
    keys = [*SMALL, f"cache_dir={cache_dir}", "scoring.pixel_baseline=false", "supervised.strengths=[0.1]"]
    own = ["supervised.encoder=run", f"supervised.run={trained_run}", "supervised.features=global"]
    run = train(load_experiment("demo_probe", [*keys, *own, f"run_dir={tmp_path / 'run'}"]))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["headline_scorer"] == "probe"
    assert (run / "checkpoints/best.ckpt").stat().st_size < 100_000
    trained, probe = (json.loads((folder / "environment.json").read_text()) for folder in (trained_run, run))
    assert probe["base_digest"].startswith(f"{trained['base_digest']}-")  # then the digest of the trained weights
    first = pd.read_csv(run / "predictions/phantom_test.csv")
    again = evaluate_run(load_experiment("demo_probe", [*keys, *own, f"run={run}"]))
    pd.testing.assert_frame_equal(first, pd.read_csv(again / "predictions/phantom_test.csv"), atol=1e-6)
    with pytest.raises(InputError, match=r"data\.resize: squash conflicts with supervised\.run"):
        train(load_experiment("demo_probe", [*keys, *own, "data.resize=squash", f"run_dir={tmp_path / 'other'}"]))


@pytest.mark.slow
def test_a_finetuned_run_scores_alike_from_its_checkpoint(tmp_path: Path, cache_dir: Path) -> None:
    keys = [*SMALL, f"cache_dir={cache_dir}", "scoring.pixel_baseline=false"]
    run = train(load_experiment("demo_finetune", [*keys, f"run_dir={tmp_path / 'run'}"]))
    again = evaluate_run(load_experiment("demo_finetune", [*keys, f"run={run}"]))
    first, second = (pd.read_csv(folder / "predictions/phantom_test.csv") for folder in (run, again))
    pd.testing.assert_frame_equal(first, second, atol=1e-6)


def test_a_head_goes_with_the_weights_it_was_fitted_on(make_encoder: Callable[..., Encoder], tmp_path: Path) -> None:
    """Of a run that was trained again, the digest is another one, and the checkpoint is refused."""
    checkpoint = tmp_path / "checkpoints/best.ckpt"
    checkpoint.parent.mkdir()
    digests = []
    made = finetuned(make_encoder(), train_encoder=False)
    for content in (b"first", b"second"):
        checkpoint.write_bytes(content)
        digests.append(_weights_digest(tmp_path))
    stored: dict[str, Any] = {"state_dict": made.state_dict()}
    made.base_digest = digests[0]
    made.on_save_checkpoint(stored)
    made.on_load_checkpoint(stored)
    for digest, findings in ((digests[1], made.outputs), (digests[0], ("nodule", "mass"))):
        made.base_digest, made.outputs = digest, findings
        with pytest.raises(InputError, match="another encoder or of other findings"):
            made.on_load_checkpoint(stored)
