"""A run with kept texts and masked image tokens: stopped and resumed, scored again, exported."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from resumed import whole_and_resumed

from radz import Radz
from radz.inference.export import export_run
from radz.runs.prepare import prepare
from radz.training.checkpoint_io import content_digest
from radz.training.run_folder import load_run

ADDED = [
    "backbone.train=lora", "backbone.lora_rank=4", "dfat.learning_rate=0.01", "dfat.keep_weight=1",
    "dfat.reconstruction_weight=0.5", "dfat.statements_weight=0", "dfat.projector_warmup_steps=1",
    "trainer.max_epochs=2", "scoring.pixel_baseline=false", "scoring.wordings=",
]  # fmt: skip


@pytest.mark.slow
def test_it_goes_on_bit_for_bit_and_scores_without_them(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = whole_and_resumed(tmp_path, cache_dir, monkeypatch, 3, *ADDED)
    one, other = (torch.load(f / "checkpoints/last.ckpt", weights_only=True) for f in (whole, resumed))
    assert one["global_step"] == other["global_step"] == 6
    assert content_digest(one["state_dict"]) == content_digest(other["state_dict"])
    weights = one["state_dict"]
    assert {"added.keep.first", "added.reconstruction.token", "added.reconstruction.average_0"} <= weights.keys()
    averaged = [name for name in weights if ".average_" in name]
    trained = [name for name in weights if name.startswith("encoder.backbone.")]
    assert len(averaged) == len(trained) and all(weights[name].norm() > 0 for name in averaged)
    logged = pd.read_csv(whole / "metrics.csv")
    assert logged["train/loss_keep"][0] < 1e-9 < 1e-6 < logged["train/loss_keep"].iloc[-1]
    assert (logged["train/loss_reconstruction"] > 0.1).all()

    module = prepare(load_run(whole), whole, trained=True).module
    assert module.extras == {} and not any(name.startswith("added.") for name in module.state_dict())
    found, scored = (Radz.from_pretrained(place) for place in (whole, export_run(str(whole), str(tmp_path / "out"))))
    texts = ["edema", "There is a nodule."]
    assert abs(found.embed_texts(texts) - scored.embed_texts(texts)).max() < 1e-4
