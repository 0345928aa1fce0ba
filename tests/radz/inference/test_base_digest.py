"""The digest of a base covers all that its features come from, and says which part changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from data_modules.errors import InputError
from radz.backbones.folder import base_change, folder_digest
from radz.inference.export import export_run
from radz.methods.dkam import checked_base
from radz.methods.export_folder import load_export
from radz.models import factory
from radz.models.anchor_bank import AnchorBank
from radz.training.run_folder import load_run

CHANGES = {
    "preprocessor_config.json": "other image processor",
    "chat_template.jinja": "other chat template or tokenizer settings",
    "tokenizer_config.json": "other chat template or tokenizer settings",
    "tokenizer.json": "other weights, tokenizer or modality tokens",
    "config.json": "other weights, tokenizer or modality tokens",
    "model.safetensors": "other weights, tokenizer or modality tokens",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_named_by_its_part(tiny_path: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "base")
    before = folder_digest(folder, [7, 8], 0)
    assert base_change(before, folder_digest(folder, [7, 8], 0)) == ""
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert base_change(before, folder_digest(folder, [7, 8], 0)) == CHANGES[name]


def test_ids_and_seed_count(tiny_path: Path) -> None:
    before = folder_digest(tiny_path, [7, 8], 0)
    assert base_change(before, folder_digest(tiny_path, [7, 9], 0)) == "other weights, tokenizer or modality tokens"
    assert base_change(before, folder_digest(tiny_path, [7, 8], 1)) == "other seed of the modality tokens"
    assert base_change("0" * 12, before) == "another backbone"


def test_the_digest_of_an_earlier_radz_is_told(tiny_path: Path) -> None:
    now = folder_digest(tiny_path, [7, 8], 0)
    assert base_change(now.split("-")[0], now).startswith(
        "an earlier radz wrote this digest, which covers neither image"
    )


def test_a_bank_of_another_image_processor_is_refused(trained_run: Path) -> None:
    bank = AnchorBank.load(trained_run / "anchors")
    weights, _, *rest = bank.info.base_digest.split("-")
    with pytest.raises(InputError, match=r"^anchors: .*: other image processor \(.*radz anchors`$"):
        bank.check_base("-".join([weights, "0" * 12, *rest]))


def test_an_export_whose_image_processor_was_changed_is_refused(
    trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = export_run(str(trained_run), str(tmp_path / "model"))
    settings = json.loads((out / "radz.json").read_text())
    whole = settings["backbone"]["digest"]
    settings["backbone"]["digest"] = whole.split("-")[0]
    (out / "radz.json").write_text(json.dumps(settings))
    load_export(out)
    assert "exported by an earlier radz" in caplog.text
    settings["backbone"]["digest"] = whole
    (out / "radz.json").write_text(json.dumps(settings))
    caplog.clear()
    load_export(out)
    assert "earlier" not in caplog.text
    file = out / "backbone/preprocessor_config.json"
    file.write_text(file.read_text().replace("0.25", "0.3"))
    with pytest.raises(InputError, match="not as it was exported: other image processor"):
        load_export(out)


def test_a_tiny_backbone_that_another_processor_rounds_is_the_same(trained_run: Path) -> None:
    experiment, bank = load_run(trained_run), AnchorBank.load(trained_run / "anchors")
    settings = experiment.backbone, experiment.dfat, experiment.seed, experiment.cache_dir, "cpu"
    encoder, digest = factory.encoder(*settings)
    _, processor, *rest = digest.split("-")
    rounded = "-".join(["f" * 12, processor, *rest])
    with torch.no_grad():
        for parameter in encoder.backbone.parameters():
            parameter *= 1 + 1e-7 * torch.randn_like(parameter)
    assert checked_base(bank, encoder, rounded, tiny=True) == digest == bank.info.base_digest
    for other, tiny in ((rounded, False), ("-".join(["f" * 12, "0" * 12, *rest]), True)):
        with pytest.raises(InputError, match="encoded by another backbone"):
            checked_base(bank, encoder, other, tiny)
    with torch.no_grad():
        encoder.backbone.decoder.layers[0].mlp.up_proj.base_layer.weight.mul_(1.01)
    with pytest.raises(InputError, match="encoded by another backbone: other weights"):
        checked_base(bank, encoder, rounded, tiny=True)
