"""Whether pairs are what reports and labels say, and how shares are counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data_modules.findings import ontology
from radz.config.schema import DfatConfig
from radz.evidence import true_sentences
from radz.evidence.config import EvidenceConfig
from radz.models.losses import Features
from radz.models.sentences import Sentences

REPORTS = ["Small left pleural effusion.", "Nodule in the right apex.", "No pneumothorax.", ""]
LABELS = [[1, 0], [0, 1], [0, 0], [float("nan")] * 2]
BANK = ("pleural_effusion", "nodule")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Four studies with images that are what texts say of the first word."""
    batch = SimpleNamespace(reports=REPORTS, pixels=None, image_counts=None, labels=torch.tensor(LABELS))
    batch = type("Batch", (SimpleNamespace,), {"__len__": lambda self: len(self.reports)})(**vars(batch))
    view = SimpleNamespace(for_losses=lambda one, names: one.labels)
    bank = SimpleNamespace(names=BANK)
    module = SimpleNamespace(
        dfat=DfatConfig(loss="global"), bank=bank, modalities=["chest_xray"], label_view=view, device="cpu"
    )

    def batches(rows: Any, size: int | None = None) -> Iterator[Any]:
        yield batch

    return SimpleNamespace(
        settings=EvidenceConfig(replicates=200), module=module, batches=batches,
        modalities=lambda one: ["chest_xray"] * len(one), data=SimpleNamespace(ontology=ontology()),
    )  # fmt: skip


def test_false_sentences_are_twins_and_what_labels_deny(run: Any) -> None:
    reader = Sentences(run.module.dfat, BANK, ontology(), ["chest_xray"])
    pairs = list(true_sentences._pairs(run, np.arange(4), reader))
    assert {(one.place, one.kind, one.true, one.false) for one in pairs} == {
        (0, "side", REPORTS[0], "Small right pleural effusion."),
        (0, "severity", REPORTS[0], "Large left pleural effusion."),
        (0, "finding", REPORTS[0], REPORTS[1]),
        (1, "side", REPORTS[1], "Nodule in the left apex."),
        (1, "finding", REPORTS[1], REPORTS[0]),
    }


def test_a_share_is_a_mean_over_sentences_with_patients_drawn_whole(run: Any) -> None:
    found = true_sentences._share(np.array([True, False, False, True]), ["x", "y", "y", "z"], run)
    assert found["value"] == 0.5 and found["low"] == 0 and found["high"] == 1
    every = {"value": 1, "low": None, "high": None}
    assert true_sentences._share(np.ones(5, dtype=bool), list("aabcd"), run) == every
    true_sentences._figure({"side": every, "finding": found})


def test_cosines_of_pairs_are_those_of_their_study_and_texts(run: Any) -> None:
    reader = Sentences(run.module.dfat, BANK, ontology(), ["chest_xray"])
    generator = torch.Generator().manual_seed(0)
    image, spoken = (
        Features(*torch.randn(2, rows, 8, generator=generator), torch.zeros(2)) for rows in (4, 6)
    )  # fmt: skip
    texts = ["a", "b", "c", "d", "e", "f"]
    pairs = [
        true_sentences.Pair(12, "side", "e", "b"), true_sentences.Pair(10, "side", "a", "f"),
        true_sentences.Pair(12, "finding", "b", "a"),
    ]  # fmt: skip
    encoder: Any = SimpleNamespace(config=run.module.dfat)
    given = replace(image, tokens=None)
    found = true_sentences._of_pairs(
        SimpleNamespace(encoder=encoder), reader, given, spoken, pairs, {t: n for n, t in enumerate(texts)}, 10
    )
    for number, pair in enumerate(pairs):
        for side, text in enumerate((pair.true, pair.false)):
            expected = torch.cosine_similarity(image.overall[pair.place - 10], spoken.overall[texts.index(text)], dim=0)
            assert found[side, number].item() == pytest.approx(expected.item(), abs=1e-6)


def test_without_any_such_sentence_nothing_is_measured(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(true_sentences, "_pairs", lambda *given: iter(()))
    run.rows = lambda split, most: np.arange(4)
    item = true_sentences.compute(run)
    assert item.rows == [] and item.pictures == [] and "No report of the 4 studies of test" in item.says[0]
