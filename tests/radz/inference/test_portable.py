"""What an export keeps of the settings of training can be read by those who use it, whatever a run had set."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from radz.config.files import load_experiment
from radz.config.schema import DfatConfig
from radz.inference.export import USED, portable
from radz.methods.export_folder import RADZ_JSON, exported_experiment

OTHER: dict[str, Any] = {
    "image_tokens": 3, "text_tokens": 3, "instruction": "What is this?", "text_source": "labels",
    "label_sentence": "Here is {finding}.", "rewrite.file": "/mine/rewritten.jsonl", "text_prompt": "And?",
    "max_text_tokens": 99, "text_groups": 2, "head": "mlp", "head_width": 24, "head_order": "mean_then_head",
    "local_pool": "rest", "token_norm": "unit", "centre": "whiten", "loss": "global_local", "global_weight": 0.3,
    "alignment": "sigmoid", "positives": "overlap", "temperature": 0.03, "temperature_warmup": 0.2,
    "learn_temperature": True, "alignment_weight": 0.7, "statements_weight": 0.3, "statements": "/mine/words.yaml",
    "local_weight": 0.3, "local_temperature": 0.2, "sentences_weight": 0.3, "sentences": 5, "sentences_by": "tokens",
    "twins": "/mine/twins.yaml", "lm_weight": 0.3, "keep_weight": 0.3, "reconstruction_weight": 0.3,
    "reconstruction_share": 0.3, "reconstruction_decay": 0.9, "learning_rate": 0.1, "tower_learning_rate": 0.1,
    "projector_learning_rate": 0.1, "head_learning_rate": 0.1, "weight_decay": 0.1, "warmup": 0.3,
    "projector_warmup_steps": 5, "projector_warmup_rate": 0.1, "gradient_clip": 2.0, "gradient_cache": 4,
}  # fmt: skip
"""Of every key a value other than the default."""
NEEDS = {
    "lm_weight": ["backbone.depth=full"], "tower_learning_rate": ["backbone.train_tower=true"],
    "keep_weight": ["backbone.train=lora"],
}  # fmt: skip


def test_every_key_is_looked_at() -> None:
    assert {key.partition(".")[0] for key in OTHER} == {field.name for field in fields(DfatConfig)}
    assert set(USED) <= set(OTHER)


@pytest.mark.parametrize("key", OTHER)
def test_the_settings_of_a_run_can_be_read(tmp_path: Path, key: str) -> None:
    wanted = OTHER[key]
    run = load_experiment("demo", [f"dfat.{key}={wanted}", *NEEDS.get(key, [])])
    noted = {"digest": "x", "folder": "backbone", "merged": True}
    about = {"schema": 1, "base": noted, "backbone": noted, "experiment": portable(run)}
    (tmp_path / RADZ_JSON).write_text(json.dumps(about))
    found, _ = exported_experiment(tmp_path)
    assert "/mine/" not in (tmp_path / RADZ_JSON).read_text()
    if key in USED:
        assert getattr(found.dfat, key) == wanted
