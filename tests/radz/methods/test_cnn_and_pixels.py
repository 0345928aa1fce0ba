"""Pixel and CNN baselines against scikit-learn, plain loops and planted signals."""

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from plain_trainer import plain_trainer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler
from study_batch import study_batch
from torch.utils.data import DataLoader

from data_modules.batch import StudyBatch
from radz.config.schema import CnnConfig
from radz.methods import cnn, pixels
from radz.methods.cnn import CNN
from radz.models import pooling
from radz.models.labels import LabelView
from radz.models.losses import known_cross_entropy
from radz.training import optimizer

# ---- Pixel baseline ------------------------------------------------------------------------------------------------


def planted(n: int, seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright square per present finding (2 of 3 findings; the third is a coin): pixels, labels."""
    draw = np.random.default_rng(seed)
    pixels = draw.normal(110, 30, (n, size, size))
    labels = (draw.random((n, 3)) < 0.4).astype(np.float32)
    half = size // 2
    pixels[labels[:, 0] == 1, : size // 4, : size // 4] += 8
    pixels[labels[:, 1] == 1, half:, half:] += 4
    return pixels.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def sets() -> tuple[np.ndarray, ...]:
    return (*planted(150, 0), *planted(80, 1), *planted(90, 2))


def scored(train: Any, labels: Any, val: Any, val_labels: Any, test: Any, **settings: Any) -> np.ndarray:
    """Of data of one corpus."""
    return pixels.fit_predict(train, labels, val, val_labels, np.zeros(len(val), int), test, **settings)


def by_hand(train: np.ndarray, labels: np.ndarray, test: np.ndarray, strength: float) -> np.ndarray:
    """The same model for one finding, from public parts and in float64."""
    blocks = [x.reshape(len(x), 32, 2, 32, 2).mean((2, 4)).reshape(len(x), -1).round() for x in (train, test)]
    scaler = StandardScaler().fit(blocks[0])
    known = ~np.isnan(labels)
    model = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
    model.fit(scaler.transform(blocks[0])[known], labels[known])
    return model.predict_proba(scaler.transform(blocks[1]))[:, 1]


def test_pixel_scores_equal_scikit_learn_and_find_the_planted_signal(sets: tuple[np.ndarray, ...]) -> None:
    train, labels, val, val_labels, test, truth = sets
    labels = labels.copy()
    labels[::3, 0] = np.nan
    scores = scored(train, labels, val, val_labels, test, strengths=(0.01,))
    assert scores.shape == (90, 3) and scores.dtype == np.float32
    for k in range(3):
        # The two ways of averaging round half grey levels differently.
        assert np.abs(scores[:, k] - by_hand(train, labels[:, k], test, 0.01)).max() < 0.03
    assert roc_auc_score(truth[:, 0], scores[:, 0]) > 0.8
    assert 0.3 < roc_auc_score(truth[:, 2], scores[:, 2]) < 0.7


@pytest.mark.parametrize("flipped", [False, True])
def test_pixel_strength_is_the_best_on_validation(sets: tuple[np.ndarray, ...], flipped: bool) -> None:
    train, labels, val, val_labels, test, _ = sets
    val_labels = 1 - val_labels if flipped else val_labels
    grid, macro, alone = (10.0, 1e-6, 0.01), {}, {}
    for strength in grid:
        both = scored(train, labels, val, val_labels, np.concatenate([val, test]), strengths=(strength,))
        macro[strength] = np.mean([roc_auc_score(val_labels[:, k], both[: len(val), k]) for k in range(3)])
        alone[strength] = both[len(val) :]
    best = max(grid, key=lambda strength: macro[strength])
    assert best == (10.0 if flipped else 0.01)
    chosen = scored(train, labels, val, val_labels, test, strengths=grid)
    gaps = {strength: float(np.abs(chosen - alone[strength]).max()) for strength in grid}
    assert min(gaps, key=lambda strength: gaps[strength]) == best  # not 0: a warm start ends a little elsewhere


def test_pixel_is_deterministic_and_takes_an_empty_test_set(sets: tuple[np.ndarray, ...]) -> None:
    train, labels, val, val_labels, test, _ = sets
    first, second = (scored(train, labels, val, val_labels, test) for _ in range(2))
    assert np.array_equal(first, second)
    assert scored(train, labels, val, val_labels, test[:0], strengths=(0.01,)).shape == (0, 3)


def test_pixel_gives_nan_for_a_finding_without_both_labels(
    sets: tuple[np.ndarray, ...], caplog: pytest.LogCaptureFixture
) -> None:
    train, labels, val, val_labels, test, _ = sets
    labels = labels.copy()
    labels[:, 1] = np.where(labels[:, 1] == 1, np.nan, 0)
    scores = scored(train, labels, val, val_labels, test, strengths=(0.01, 0.1))
    assert np.isnan(scores[:, 1]).all() and not np.isnan(scores[:, [0, 2]]).any()
    with caplog.at_level(logging.WARNING):
        none = scored(train, np.zeros_like(labels), val, val_labels, test)
    assert none.shape == (90, 3) and np.isnan(none).all() and "3 finding(s) lack" in caplog.text


def test_pixel_without_validation_labels_uses_the_fallback(
    sets: tuple[np.ndarray, ...], caplog: pytest.LogCaptureFixture
) -> None:
    train, labels, val, val_labels, test, _ = sets
    with caplog.at_level(logging.WARNING):
        scores = scored(train, labels, val, np.full_like(val_labels, np.nan), test)
    assert "not tuned" in caplog.text
    fixed = scored(train, labels, val, val_labels, test, strengths=(pixels.FALLBACK,))
    assert np.abs(scores - fixed).max() < 0.01


def test_pixel_ignores_constant_pixels(sets: tuple[np.ndarray, ...]) -> None:
    train, labels, val, val_labels, test, _ = (x.copy() for x in sets)
    for images in (train, val, test):
        images[:, :, -8:] = 0
    assert np.isfinite(scored(train, labels, val, val_labels, test, strengths=(0.01,))).all()


# ---- Supervised CNN ------------------------------------------------------------------------------------------------

# Two corpora: in the first an unmentioned finding is absent, in the second unknown; uncertain is unknown in both.
POLICY = torch.tensor([[[0, 1, torch.nan, 0]] * 2, [[0, 1, torch.nan, torch.nan]] * 2])


def batch(counts: list[int], seed: int = 0, size: int = 32) -> StudyBatch:
    """Studies of noise; finding 0 is a bright patch at a random place in every image, finding 1 a coin."""
    draw = torch.Generator().manual_seed(seed)
    n, images = len(counts), sum(counts)
    states = torch.randint(0, 2, (n, 2), generator=draw).to(torch.int8)
    pixels = torch.randint(60, 160, (images, 1, size, size), generator=draw)
    for image, study in enumerate(torch.repeat_interleave(torch.arange(n), torch.tensor(counts)).tolist()):
        if states[study, 0] == 1:
            y, x = torch.randint(0, size - 8, (2,), generator=draw).tolist()
            pixels[image, :, y : y + 8, x : x + 8] += 70
    return replace(study_batch(pixels.to(torch.uint8), counts, states=states), rows=torch.arange(n) + 100)


NAMES = ("nodule", "edema")


def model(config: CnnConfig | None = None, columns: tuple[str, ...] = NAMES, findings: tuple[str, ...] = NAMES) -> CNN:
    torch.manual_seed(0)
    return CNN(config or CnnConfig(4, learning_rate=3e-3), LabelView(columns, columns, POLICY, POLICY), NAMES, findings)


def test_study_mean_is_the_mean_of_each_study() -> None:
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0], [5.0, 7.0]])
    assert pooling.study_mean(values, torch.tensor([2, 1])).tolist() == [[2.0, 20.0], [5.0, 7.0]]


def test_cross_entropy_equals_log_loss_over_known_labels() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (6, 3)).double()
    labels[0, 0], labels[1, 1] = 1, 0
    labels[2:5, 2] = torch.nan
    loss = known_cross_entropy(logits, labels)
    known = ~labels.isnan()
    expected = log_loss(labels[known].numpy(), logits[known].sigmoid().detach().numpy(), labels=[0, 1])
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all() and (gradient[~known] == 0).all() and (gradient[known] != 0).all()


def test_cross_entropy_of_a_batch_without_labels_is_zero() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = known_cross_entropy(logits, torch.full((2, 3), torch.nan))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and (logits.grad == 0).all()


def test_learning_rate_rises_then_falls_to_zero_and_stays() -> None:
    factors = [optimizer.learning_rate_factor(step, 50, 0.1) for step in range(60)]
    top = factors.index(max(factors))
    assert max(factors) == 1.0 and top in (4, 5)
    assert factors[: top + 1] == sorted(factors[: top + 1]) and factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[0] > 0 and factors[49] < 0.01 and factors[50:] == [0.0] * 10
    assert optimizer.learning_rate_factor(0, 1, 0.1) == 1.0


def test_labels_follow_the_policy_of_each_corpus() -> None:
    one = batch([1, 1])
    one.corpus = torch.tensor([0, 1])
    one.label_states = torch.tensor([[3, 1], [3, 2]], dtype=torch.int8)
    expected = [[0.0, 1.0], [None, None]]
    got = [[None if value != value else value for value in row] for row in model().label_view.loss(one).tolist()]
    assert got == expected


def test_contrast_channels_lift_a_faint_spot_at_any_exposure() -> None:
    ramp = torch.linspace(20, 80, 128).expand(1, 1, 128, 128).clone()
    spot = ramp.clone()
    spot[..., 60:66, 60:66] += 8
    for exposure in (1.0, 2.5):
        plain, marked = (cnn.contrast_channels((x * exposure).to(torch.uint8)) for x in (ramp, spot))
        assert plain.shape == (1, 2, 128, 128)
        gain = (marked - plain)[0, :, 62, 62]
        assert gain[1] > 4 * gain[0] > 0 and gain[1] > 0.8
    flat = cnn.contrast_channels(torch.full((1, 1, 45, 45), 200, dtype=torch.uint8))
    assert flat[:, 1].abs().max() < 0.01


@pytest.mark.parametrize("size", [5, 32, 45, 128])
def test_network_takes_any_image_size(size: int) -> None:
    pixels = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)
    assert cnn.Network(5, 4)(pixels).shape == (2, 5)


def test_scores_do_not_depend_on_the_batch_and_average_images_in_logit_space() -> None:
    net, joint = model().eval(), batch([1, 3, 2])
    with torch.no_grad():
        scores = net.score(joint)["cnn"]
        single = net.network(joint.pixels[1:4]).mean(0).sigmoid()
    assert scores.shape == (3, 2) and scores.dtype == torch.float32
    assert torch.allclose(scores[1], single, atol=1e-6)


def test_scores_stay_float32_under_bf16() -> None:
    net, one = model().eval(), batch([1] * 64)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        scores = net.score(one)["cnn"]
    assert scores.dtype == torch.float32
    # bfloat16 keeps eight bits: it would leave far fewer distinct values.
    assert len(scores[:, 0].unique()) > 60


def loader(batches: Any) -> DataLoader[StudyBatch]:
    return DataLoader(batches, batch_size=None)


def test_cnn_learns_a_planted_patch_and_not_a_coin() -> None:
    train = [batch([2 if i % 5 == 0 else 1 for i in range(32)], seed) for seed in range(50)]
    epochs = 2
    net = model(CnnConfig(8, learning_rate=3e-3))
    trainer = plain_trainer(max_epochs=epochs, devices=1)
    trainer.fit(net, loader(train), loader([batch([1] * 8, 50)]))
    assert trainer.callback_metrics["train/loss"] < 0.69
    test = batch([1] * 200, seed=99)
    trainer.test(net, loader([test]), verbose=False)
    ((rows, found),) = net.scored
    assert rows.tolist() == test.rows.tolist()
    scores, states = found["cnn"].numpy(), test.label_states.numpy()
    assert roc_auc_score(states[:, 0], scores[:, 0]) > 0.9
    assert 0.35 < roc_auc_score(states[:, 1], scores[:, 1]) < 0.65
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_regularisation_comes_from_the_experiment() -> None:
    net = model(CnnConfig(4, weight_decay=0.3, dropout=0.7, warmup=0.5))
    net.trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)] == [0.7]
    made = net.configure_optimizers()
    assert isinstance(made, dict)
    assert [group["weight_decay"] for group in made["optimizer"].param_groups] == [0.3, 0.0]
    assert made["optimizer"].param_groups[0]["lr"] == pytest.approx(2e-3 / 5)  # first of five steps of warm-up


def test_a_network_scores_data_of_other_label_columns() -> None:
    """Outputs are found by name; a finding that the network never learned has no score."""
    net = model(CnnConfig(4), ("mass", "edema"), ("mass", "edema")).eval()
    one = batch([1] * 4)
    net.on_test_epoch_start()
    with torch.no_grad():
        net.test_step(one, 0)
        whole = net(one).sigmoid()
    scores = net.scored[0][1]["cnn"]
    assert scores[:, 0].isnan().all() and torch.equal(scores[:, 1], whole[:, 1])
