"""The reference of the benchmarks computes radz's numbers: features, anchors, loss and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import reference, shapes, sides
from benchmarks.shapes import SMALL, TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.write_folder(tmp_path_factory.mktemp("small"), SMALL)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_both_sides_compute_the_same(folder: Path, checkpointing: bool) -> None:
    settings = sides.experiment()
    encoder = sides.encoder(folder, settings)
    module = sides.module(encoder, settings).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 20)
    plain = sides.reference(folder, settings.dfat, checkpointing=checkpointing).train()
    sides.copy_trained(encoder, plain)
    batch = shapes.batch(6, SMALL)
    batch.reports[3], batch.text_digest[3] = batch.reports[0], batch.text_digest[0]
    inputs = sides.Inputs.of(batch, module)

    image = encoder.encode_images(batch.pixels, batch.image_counts, [sides.MODALITY] * 6)
    text = encoder.encode_texts(batch.reports)
    theirs = [*plain.image_features(batch.pixels, inputs.instruction), *plain.text_features(batch.reports)]
    for ours, other in zip([image.overall, image.local, text.overall, text.local], theirs, strict=True):
        assert other.abs().max() > 0.1
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)
    described = ["Blunted costophrenic angle.", "A round opacity of the lung, well defined."]
    torch.testing.assert_close(
        encoder.encode_descriptions(described, "decoder"), reference.anchors_by_class(plain, described), rtol=1e-4,
        atol=1e-4,
    )  # fmt: skip

    loss, other = sides.loss(module, batch), plain.loss(*inputs.plain())
    torch.testing.assert_close(loss, other, rtol=1e-4, atol=1e-4)
    loss.backward()
    other.backward()
    mine = {name.removeprefix("backbone."): p.grad for name, p in encoder.named_parameters() if p.requires_grad}
    compared = 0
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad and name in mine:
            difference = (mine[name] - parameter.grad).norm()
            assert difference < 1e-3 * parameter.grad.norm() + 1e-6, name
            compared += 1
    assert compared == len(mine)


def test_reports_have_mixed_lengths() -> None:
    words = [len(text.split()) for text in shapes.report_texts(500, TINY.words)]
    assert len(set(shapes.report_texts(500, TINY.words))) == 500
    assert sorted(words)[250] == pytest.approx(26, abs=3) and max(words) > 3 * 26
