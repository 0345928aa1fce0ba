"""Anchors and a temperature that follow the weights: in steps, in a run with all such options, in its export."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from plain_trainer import plain_trainer
from small_run import SMALL
from test_gradient_cache import Quiet, make, studies
from torch.utils.data import DataLoader

from data_modules.errors import InputError
from radz import Radz
from radz.config.files import load_experiment
from radz.evidence.config import EvidenceConfig
from radz.evidence.open_run import open_run
from radz.inference.export import export_run
from radz.methods.dfat import DFAT
from radz.methods.dkam import encode_now
from radz.models.anchor_bank import AnchorBank
from radz.runs.train import train
from radz.training.checkpoint_io import content_digest


class Watched(DFAT):
    """Notes when anchors are encoded."""

    def refresh_anchors(self) -> None:
        self.__dict__.setdefault("refreshed", []).append(self.global_step)
        super().refresh_anchors()
        self.modes = self.encoder.training


def fit(module: DFAT, steps: int) -> pl.Trainer:
    trainer = plain_trainer(max_steps=steps)
    trainer.fit(module, DataLoader([studies()] * steps, batch_size=None))  # type: ignore[arg-type]
    return trainer


def test_the_temperature_has_the_gradient_of_its_logarithm(tiny_path: Path) -> None:
    module = make(tiny_path, learn_temperature=True, temperature=0.1, head="identity")
    module.training_step(studies(), 0).backward()
    step, values = 1e-3, []
    for sign in (1, -1):
        fixed = make(tiny_path, temperature=0.1 * math.exp(-sign * step), head="identity")
        values.append(fixed.training_step(studies(), 0).item())
    assert module.log_scale is not None and module.log_scale.shape == (1,)
    assert module.log_scale.grad.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.02)


def test_the_temperature_stays_within_its_bounds_and_is_not_decayed(tiny_path: Path) -> None:
    for start in (10.0, -10.0):
        module = make(tiny_path, DFAT, learn_temperature=True, weight_decay=0.5, head_learning_rate=0.01)
        module.log_scale.data.fill_(start)
        trainer = fit(module, 1)
        assert module.temperature.item() == pytest.approx(0.01 if start > 0 else 1.0)
    groups = [group for group in trainer.optimizers[0].param_groups if group["name"] == "temperature"]
    assert [(group["params"], group["weight_decay"]) for group in groups] == [([module.log_scale], 0.0)]


@pytest.mark.parametrize("train", ["full", "lora"])
def test_only_matrices_that_are_no_token_rows_are_decayed(tiny_path: Path, train: str) -> None:
    module = make(
        tiny_path, DFAT, category="sigmoid", head="mlp", weight_decay=0.5, projector_learning_rate=1e-3,
        backbone={"train": train, "train_tower": True},
    )  # fmt: skip
    module.trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    groups = module.configure_optimizers()["optimizer"].param_groups
    names = {parameter: name for name, parameter in module.named_parameters() if parameter.requires_grad}
    decays = {names[one]: group["weight_decay"] for group in groups for one in group["params"]}
    assert len(decays) == len(names), "every parameter stands in one group"
    shapes = {name: parameter.dim() for parameter, name in names.items()}
    kept = {name for name, decay in decays.items() if decay == 0}
    rows = {name for name in kept if shapes[name] > 1}
    assert {name.split(".")[-1] for name in rows} == {"weight" if train == "full" else "default"} and len(rows) == 1
    assert "category_bias" in kept and kept - rows == {name for name, dim in shapes.items() if dim < 2}
    assert {decays[name] for name in decays if name not in kept} == {0.5}
    rates = {(group["name"], group["lr"]) for group in groups}
    assert {name for name, _ in rates} == {"base", "projector", "heads"} and len(rates) == 3
    assert groups[0]["name"] == "base", "whose rate is logged"


def test_anchors_are_encoded_every_n_steps_and_for_the_checkpoint(tiny_path: Path) -> None:
    moving = {"anchor_refresh": "every_n_steps", "anchor_refresh_steps": 2}
    module = make(tiny_path, Watched, dkam=moving, backbone={"lora_dropout": 0.2}, learning_rate=0.01)
    start = module.anchors.clone()
    fit(module, 5)
    assert module.refreshed == [2, 4, 5] and module.modes
    module.encoder.eval()
    with torch.no_grad():
        expected = module.encoder.encode_descriptions(list(module.bank.descriptions), "decoder")
    torch.testing.assert_close(module.anchors, expected)
    assert not torch.allclose(module.anchors, start, atol=0.1)
    frozen = make(tiny_path, Watched)
    fit(frozen, 3)
    assert not hasattr(frozen, "refreshed") and torch.equal(frozen.anchors, start)


def test_a_finding_without_description_has_no_anchor(tiny_path: Path) -> None:
    found = encode_now(make(tiny_path, Quiet).encoder, ["A dense area.", "", "A dense area."], "decoder")
    assert found[1].isnan().all() and torch.equal(found[0], found[2]) and found[0].isfinite().all()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The demo in small with every option of this file."""
    folder = tmp_path_factory.mktemp("runs") / "moving"
    options = [
        "backbone.train=lora", "backbone.lora_rank=4", "dfat.learning_rate=0.01", "dfat.gradient_cache=3",
        "dfat.positives=same_labels", "dfat.learn_temperature=true", "dfat.temperature=0.5", "scoring.fused=authors",
        "dkam.anchor_refresh=every_n_steps", "dkam.anchor_refresh_steps=2", "scoring.pixel_baseline=false",
        "dfat.lm_weight=0.1", "backbone.depth=full",
    ]  # fmt: skip
    return train(load_experiment("demo", [*SMALL, *options, f"run_dir={folder}", f"cache_dir={cache_dir}"]))


def checkpoint(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints/best.ckpt", weights_only=True)


@pytest.mark.slow
def test_the_run_keeps_temperature_and_anchors_of_its_best_weights(run: Path) -> None:
    content = checkpoint(run)
    learned = math.exp(-content["state_dict"]["log_scale"].item())
    metrics = pd.read_csv(run / "metrics.csv")
    logged = metrics["train/temperature"].dropna()
    assert metrics["train/loss_language"].dropna().between(1, 10).all()  # the logarithm of the vocabulary is 7
    assert len(logged) == 3 and logged.iloc[0] == pytest.approx(0.5) and learned != pytest.approx(0.5, rel=1e-4)
    bank, model = AnchorBank.load(run / "anchors"), Radz.from_pretrained(run)
    assert torch.equal(bank.vectors, content["state_dict"].pop("anchors"))
    assert bank.info.step == 3 and bank.info.adapter_digest == content_digest(content["state_dict"])
    assert model.experiment.dfat.temperature == pytest.approx(learned, abs=1e-6)
    torch.testing.assert_close(encode_now(model.encoder, bank.descriptions, "decoder"), bank.vectors)


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.slow
def test_engine_and_export_score_as_the_run(run: Path, tmp_path: Path, phantom_folder: Path, exported: bool) -> None:
    """The run encoded the findings beyond the bank with its trained weights; so must whoever uses it."""
    table, folder = pd.read_csv(run / "predictions/phantom_test.csv"), run
    names = [column.removeprefix("anchor/") for column in table if column.startswith("anchor/")]
    assert set(names) - set(AnchorBank.load(run / "anchors").names)
    if exported:
        folder = export_run(str(run), str(tmp_path / "out"))
        noted = json.loads((folder / "radz.json").read_text())["experiment"]["dfat"]["temperature"]
        assert noted == pytest.approx(math.exp(-checkpoint(run)["state_dict"]["log_scale"].item()), abs=1e-6)
    model, files = Radz.from_pretrained(folder), [phantom_folder / f"images/{study}.dcm" for study in table.study_id]
    for scorer in ("anchor", "fused"):
        expected = table[[f"{scorer}/{name}" for name in names]].to_numpy()
        np.testing.assert_allclose(model.score(files, names, scorer).to_numpy(), expected, atol=1e-4)
        assert expected.std(axis=0).min() > 0


@pytest.mark.parametrize(
    "override", ["dkam.anchor_refresh=often", "dkam.anchor_refresh_steps=0", "dfat.positives=labels"]
)
def test_the_keys_are_checked(override: str) -> None:
    with pytest.raises(InputError, match=f"^{override.partition('=')[0]}"):
        load_experiment("demo", [override])


def test_a_learned_temperature_starts_within_its_bounds() -> None:
    with pytest.raises(InputError, match=r"^dfat\.temperature=0\.005"):
        load_experiment("demo", ["dfat.learn_temperature=true", "dfat.temperature=0.005"])


@pytest.mark.slow
def test_evidence_sees_the_anchors_of_the_best_weights(run: Path) -> None:
    """The scores of an opened run are those of its predictions."""
    opened = open_run(run, EvidenceConfig(), [])
    classes = encode_now(opened.encoder, opened.classifier.texts.descriptions, "decoder")
    torch.testing.assert_close(opened.module.class_anchors, classes, equal_nan=True)
    table = pd.read_csv(run / "predictions/phantom_test.csv")
    batch = next(opened.batches(opened.data.table.rows("test")))
    scores = opened.module.score(batch)["anchor"]
    expected = table[[f"anchor/{name}" for name in opened.findings]].to_numpy()[: len(scores)]
    assert scores.numpy() == pytest.approx(expected, abs=1e-5, nan_ok=True)
