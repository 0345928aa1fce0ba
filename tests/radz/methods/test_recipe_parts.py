"""What training begins with and keeps to: modality rows, anchors that are encoded anew, warnings, the monitor."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from plain_trainer import plain_trainer
from recipe_module import FINDINGS, NAN, POLICY, Quiet, make, plain, studies
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader

from radz.backbones import load_backbone
from radz.config.schema import BackboneConfig
from radz.methods.dfat import DFAT
from radz.metrics.score_table import ScoreTable
from radz.metrics.subgroups import subgroups
from radz.models.losses import Features


def test_modality_rows_are_the_mean_of_the_table_plus_one_standard_deviation_of_noise(
    tiny_path: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_path, tmp_path / "shifted")
    table = load_file(folder / "model.safetensors")
    key = next(name for name in table if name.endswith("embed_tokens.weight"))
    table[key] += torch.linspace(-1, 2, 32)
    save_file(table, folder / "model.safetensors", {"format": "pt"})
    old = table[key].double()
    backbone = load_backbone(BackboneConfig(path=str(folder), train="full"), folder, 150, 250)
    rows = backbone.word_embeddings(torch.tensor(backbone.image_ids + backbone.text_ids)).detach().double()
    noise = (rows - old.mean(0)) / old.std(0)
    assert noise.shape == (400, 32) and len({tuple(row) for row in noise.tolist()}) == 400
    assert noise.mean().abs() < 0.03 and noise.mean(0).abs().max() < 0.25  # 400 numbers each, so .05 by chance
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert torch.equal(backbone.word_embeddings(torch.arange(len(old))).double(), old)  # the others are untouched


def test_anchors_are_encoded_anew_in_full_precision(tiny_path: Path) -> None:
    """Within a step of bfloat16 too: anchors of the bank and of the findings that are scored."""
    module = make(tiny_path, dkam={"anchor_refresh": "every_n_steps"})
    model = plain(tiny_path, module)
    model.merge()
    expected = torch.stack([model.anchor(text) for text in module.bank.descriptions]).detach()
    module.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module.refresh_anchors()
    for found in (module.anchors, module.class_anchors):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_losses_are_outside_autocast(tiny_path: Path) -> None:
    """From the same features a step of bfloat16 gets the loss of a step of float32, which is that of float64."""
    module = make(tiny_path, head="linear", learn_temperature=True)
    generator, found = torch.Generator().manual_seed(0), []
    values = torch.randn(2, 2, 8, 32, generator=generator)
    for dtype, inside in ((torch.float64, False), (torch.float32, False), (torch.float32, True)):
        image, text = (Features(*side.to(dtype), torch.zeros(())) for side in values)
        module.to(dtype)._features = lambda *_, features=(image, text): features  # type: ignore[method-assign]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            found.append(module.training_step(studies(), 0))
    assert found[2].dtype == torch.float32 and found[2].item() == found[1].item()
    assert found[1].item() == pytest.approx(found[0].item(), rel=1e-5)


def test_the_share_of_studies_that_the_category_loss_used(tiny_path: Path) -> None:
    module, batch = make(tiny_path), studies()
    module.training_step(batch, 0)
    known = [recipe.target(row, FINDINGS, POLICY) for row in batch.label_states.tolist()]
    used = [len(labels) >= 2 and 1 in labels.values() for labels in known]
    assert 0 < sum(used) < 8 and module.logged[2].item() == pytest.approx(sum(used) / 8)


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_one_position_that_holds_most_power_is_warned_of(
    tiny_path: Path, caplog: pytest.LogCaptureFixture, size: float
) -> None:
    module = make(tiny_path, DFAT)
    stop = module.encoder.backbone.tokenizer(".", add_special_tokens=False).input_ids
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith(("embed_tokens.weight", "embed_tokens.token_adapter.base_layer.weight")):
                weight[stop] *= size
    trainer = plain_trainer(max_steps=1)
    with caplog.at_level(logging.WARNING, logger="radz.methods.dfat"):
        trainer.fit(module, DataLoader([studies()], batch_size=None))  # type: ignore[arg-type]
    assert ("the longest position holds" in caplog.text) == (size > 1)


class Monitored(Quiet):
    """Keeps what validation logs."""

    def log(self, name: str, value: float, **_: object) -> None:  # type: ignore[override]
        self.__dict__.setdefault("values", {})[name] = value

    def log_dict(self, values: dict[str, float], **_: object) -> None:  # type: ignore[override]
        pass


def test_the_monitor_is_measured_under_the_metrics_policy(tiny_path: Path) -> None:
    """The loss may take silence for absence; the monitor takes it as the metrics do."""
    module, batch = make(tiny_path, Monitored, scoring={"headline": "prompt"}).float().eval(), studies()
    states = torch.randint(0, 4, (8, 4), generator=torch.Generator().manual_seed(1), dtype=torch.int8)
    batch.label_states = states
    silent = torch.tensor([0.0, 1.0, 1.0, 0.0]).expand(1, 4, 4)
    module.label_view.policy_loss, module.label_view.policy_metrics = (
        silent,
        torch.tensor([0, 1, NAN, NAN]).expand(1, 4, 4),
    )
    with torch.no_grad():
        module.on_validation_epoch_start()
        module.validation_step(batch, 0)
        scores = module.score(batch)["prompt"].numpy()
    module.on_validation_epoch_end()
    told = {n: [i for i in range(8) if states[i, n] < 2] for n in range(4)}
    both = [n for n in range(4) if len({int(states[i, n]) for i in told[n]}) == 2]
    expected = [roc_auc_score([int(states[i, n]) for i in told[n]], scores[told[n], n]) for n in both]
    assert len(both) > 2 and module.values["val/auroc_macro"] == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_a_subgroup_with_exactly_the_least_is_measured(kind: str) -> None:
    """Of one finding 5 of each kind or 4 in a subgroup, with `subgroup_least` 5."""
    labels = np.tile(np.array([[1.0], [0.0]] * 5 + [[np.nan]] * 2), (2, 1)).astype(np.float32)
    labels[12 + (kind == "negative")] = np.nan
    scores, rows = np.random.default_rng(0).random((24, 1)).astype(np.float32), np.arange(24)
    ids = [str(i) for i in rows]
    table = ScoreTable("ours", "test", rows, ids, [""] * 24, ids, ("edema",), labels, {"fused": scores})
    found = subgroups(table, "fused", {"sex": ["F"] * 12 + ["M"] * 12}, ("edema",), 5, 100, 0)["sex"]
    assert "edema" in found["F"]["findings"] and not found["F"]["small"]
    assert found["M"]["small"] == {"edema": f"4 {kind}, fewer than 5"} and not found["M"]["findings"]


def test_the_learned_temperature_is_the_temperature(tiny_path: Path) -> None:
    module = make(tiny_path, learn_temperature=True, temperature=0.2)
    assert module.temperature.item() == pytest.approx(0.2)
    module.log_scale.data.fill_(math.log(4))
    assert module.temperature.item() == pytest.approx(0.25)


def test_what_a_module_begins_with(tiny_path: Path) -> None:
    """The anchors of its bank, and a sigmoid that takes one known pair of study and anchor in eight for present."""
    module = make(tiny_path, dkam={"category": "sigmoid"})
    assert torch.equal(module.anchors.float(), module.bank.vectors)
    assert module.category_bias.sigmoid().item() == pytest.approx(1 / 8, abs=0.01)
