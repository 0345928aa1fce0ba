"""Retrieval by distinct report against a plain ranking of every pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radz.metrics import retrieval as module
from radz.metrics.retrieval import Similarity, precision, ranks, retrieval
from radz.models.losses import Features, cosine
from radz.models.retrieval_features import Kept


def features(tensor: torch.Tensor) -> Features:
    return Features(tensor, tensor, torch.zeros(()))


def of_pairs(image: torch.Tensor, text: torch.Tensor) -> Similarity:
    return lambda rows: cosine(image[rows], text)


def case(seed: int, images: int = 40, reports: int = 25) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    owner = torch.cat([torch.arange(reports), torch.randint(reports, (images - reports,), generator=generator)])
    text = torch.randn(reports, 6, generator=generator)
    image = text[owner] + torch.randn(images, 6, generator=generator)
    return image, text, owner


@pytest.mark.parametrize("seed", range(3))
def test_ranks_equal_a_plain_sort(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    image, text, owner = case(seed)
    of_image, of_report = ranks(owner, 25, of_pairs(image, text))
    table = cosine(image, text).numpy()
    for i, row in enumerate(table):
        assert of_image[i] == list(np.argsort(-row)).index(owner[i]) + 1
    for d, column in enumerate(table.T):
        order = np.argsort(-column)
        assert of_report[d] == 1 + next(k for k, i in enumerate(order) if owner[i] == d)


def test_recall_interval_and_chance() -> None:
    image, text, owner = case(1)
    patients = [f"p{i // 2}" for i in range(40)]
    found = retrieval(owner, 25, patients, of_pairs(image, text), 200, 0)
    rank, _ = ranks(owner, 25, of_pairs(image, text))
    assert (found["images"], found["reports"]) == (40, 25)
    one = found["image_to_report"]
    assert one["recall_5"]["value"] == pytest.approx((rank <= 5).mean())
    assert one["recall_1"]["low"] <= one["recall_1"]["value"] <= one["recall_1"]["high"]
    assert one["chance"]["recall_5"] == 5 / 25 and one["median_rank"] == np.median(rank)
    rng = np.random.default_rng(0)
    # Chance of the way back, by trial: a report is found when one of its images is among k drawn.
    drawn = [np.isin(np.arange(25), owner.numpy()[rng.permutation(40)[:10]]).mean() for _ in range(4000)]
    assert found["report_to_image"]["chance"]["recall_10"] == pytest.approx(np.mean(drawn), abs=0.01)


def test_patients_are_resampled_whole() -> None:
    """All images of one patient leave nothing to vary, and no interval; the reports of the way back still do."""
    image, text, owner = case(1)
    found = retrieval(owner, 25, ["p"] * 40, of_pairs(image, text), 200, 0)
    one, back = found["image_to_report"]["recall_1"], found["report_to_image"]["recall_1"]
    assert one["low"] is one["high"] is None and back["low"] < back["value"] < back["high"]


def test_features_that_tell_nothing_apart_find_nothing() -> None:
    flat = torch.ones(12, 3)
    found = retrieval(torch.arange(12), 12, [str(i) for i in range(12)], of_pairs(flat, flat), 20, 0)
    assert found["image_to_report"]["recall_10"]["value"] == found["report_to_image"]["recall_10"]["value"] == 0


def test_part_of_the_kept_features() -> None:
    image, text, owner = case(2)
    rows = np.arange(40) + 100
    part = Kept(rows, features(image), features(text), owner).take(rows[::3])
    assert np.array_equal(part.rows, rows[::3]) and len(part.text.overall) == len(set(owner[::3].tolist()))
    assert torch.equal(part.text.overall[part.owner], text[owner[::3]])


@pytest.mark.parametrize("seed", range(3))
def test_precision_equals_a_plain_sort(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against every pair; one report is of two findings, one image asks nothing."""
    monkeypatch.setattr(module, "_ROWS", 7)
    image, text, owner = case(seed)
    truth = np.random.default_rng(seed).integers(3, size=40)
    truth[5] = -1
    found = precision(owner, 25, [f"p{i // 2}" for i in range(40)], truth, of_pairs(image, text), 200, 0)
    findings = [{truth[i] for i in np.flatnonzero(owner.numpy() == d)} for d in range(25)]
    assert any(len(names) > 1 for names in findings)
    alike = np.array([[truth[i] in findings[d] for d in range(25)] for i in range(40)])
    asked = truth >= 0
    for k in (5, 10):
        first = np.argsort(-cosine(image, text).numpy(), axis=1)[:, :k]
        shares = np.take_along_axis(alike, first, axis=1).mean(axis=1)[asked]
        assert found[f"precision_{k}"]["value"] == pytest.approx(shares.mean())
        assert found[f"precision_{k}"]["low"] < shares.mean() < found[f"precision_{k}"]["high"]
    assert "precision_100" not in found and found["images"] == 39
    assert found["chance"] == pytest.approx(alike[asked].mean())


def test_of_equal_similarities_the_report_of_another_finding_goes_first() -> None:
    owner, truth = torch.arange(10), np.arange(10) % 2
    found = precision(owner, 10, [str(i) for i in range(10)], truth, lambda rows: torch.zeros(len(rows), 10), 100, 0)
    assert (found["precision_5"]["value"], found["precision_10"]["value"], found["chance"]) == (0.0, 0.5, 0.5)
