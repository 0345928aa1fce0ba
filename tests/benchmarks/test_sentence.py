"""The second reference: sentence-transformers trains the same model on the same pairs, and each way is timed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import sentence, shapes, sides, train
from benchmarks.shapes import SMALL
from radz.backbones.assembly.packaged import PACKAGED

PAIRS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip(sentence.PACKAGE)
    return shapes.write_folder(tmp_path_factory.mktemp("small"), SMALL)


def test_its_loss_is_the_contrastive_one_of_equal_pairs(folder: Path) -> None:
    """Both kinds, with the gradients of all at once; the images are seen, and projector and LoRA train."""
    model, batch = sentence.load(folder), shapes.batch(PAIRS, SMALL)
    images, reports = sentence.inputs(model, batch, sides.INSTRUCTION)
    image = model.tokenizer.convert_tokens_to_ids("<image>")
    assert (images["input_ids"] == image).sum(1).tolist() == [SMALL.patches] * PAIRS
    words = model.tokenizer.batch_decode(reports["input_ids"], skip_special_tokens=True)
    assert all(text in one for text, one in zip(batch.reports, words, strict=True))
    one, other = (F.normalize(model(dict(given))["sentence_embedding"], dim=1) for given in (images, reports))
    logits, target = sentence.SCALE * one @ other.T, torch.arange(PAIRS)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    found: list[Any] = []
    for kind in sentence.LOSSES:
        model.zero_grad()
        loss = sentence.loss_of(model, kind, 2)([dict(images), dict(reports)], None)
        loss.backward()
        trained = [p for p in model.parameters() if p.requires_grad]
        assert all(p.grad is not None for p in trained)
        found.append(torch.cat([p.grad.flatten() for p in trained]))  # type: ignore[union-attr]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sum("multi_modal_projector" in name for name in names) == 4 and found[0].abs().max() > 0
    assert sum("language_model.layers" in name and ".lora_" in name for name in names) == 2 * 7 * SMALL.layers


def test_a_step_learns(folder: Path) -> None:
    step = sentence.step(folder, shapes.batch(PAIRS, SMALL), sides.INSTRUCTION, "sentence-cached", 2)
    losses = [step().item() for _ in range(4)]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_it_is_timed_in_turn_with_radz(folder: Path) -> None:
    (row,) = train.speed("P18", train.Case("small", PAIRS, 2), {"radz-chunks": ["sentence-cached"]})
    assert row.id == "P18" and row.radz != row.reference  # a clock of its own
    assert row.ratio == pytest.approx(row.radz / row.reference)
    assert "training step of 5 pairs, radz in chunks of 4, sentence-transformers with Cached" in row.what


@pytest.mark.slow
def test_every_way_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(train.beside_sentence_transformers(train.Case("small", PAIRS, 2)))
    assert [row.unit for row in rows] == ["pairs/s"] * 3 + ["MB"] * 3 and {row.id for row in rows} == {"P18"}
    plain, cached, both = (row.reference for row in rows[3:])
    assert 0.1 < cached == both < plain


def test_without_the_package_a_line_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sentence.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert list(train.beside_sentence_transformers()) == []
    assert [record.getMessage() for record in caplog.records] == [
        "P18: sentence-transformers is not installed, so that nothing is compared with it; pip install 'radz[bench]'"
    ]


def test_the_shape_of_smollm2_is_that_of_its_folder() -> None:
    """135 M parameters as published, without the head that it has of its own here, and the tower of `make backbone`."""
    config, tower = shapes.SMOLLM2.config(), PACKAGED["smollm2"].tower
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        decoder: Any = AutoModelForCausalLM.from_config(config.text_config)
    assert sum(p.numel() for p in decoder.model.parameters()) == 134_515_008
    vision = config.vision_config
    shape = vision.image_size, vision.patch_size, vision.hidden_size, vision.num_hidden_layers
    assert shape == (tower.image_size, tower.patch_size, tower.width, tower.layers)
