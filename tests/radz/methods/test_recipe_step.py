"""`DFAT.training_step` against docs/method.md computed anew: the loss of a batch and the gradient of every weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_module import make, plain, studies, total

Settings = dict[str, Any]
STEPS: list[Settings] = [
    {"alignment_weight": 0.2, "loss": "cross"},
    {"alignment_weight": 0.8, "loss": "global_local", "global_weight": 0.3, "head": "mlp"},
    {"alignment_weight": 0.8, "loss": "global", "positives": "diagonal", "backbone": {"train": "full"}},
    {"alignment_weight": 0.2, "loss": "cross", "positives": "same_labels", "learn_temperature": True},
    {"alignment_weight": 0.2, "dkam": {"category": "sigmoid"}, "head_order": "mean_then_head", "head": "mlp"},
    {"alignment_weight": 0.8, "dkam": {"category": "sigmoid"}, "learn_temperature": True, "local_pool": "rest"},
    {"alignment_weight": 0.8, "positives": "overlap", "loss": "global_local"},
    {"alignment_weight": 0.8, "alignment": "sigmoid", "loss": "cross", "learn_temperature": True},
    {"alignment_weight": 0.8, "alignment": "sigmoid", "positives": "overlap", "loss": "global", "gradient_cache": 3},
    {"alignment_weight": 0.2, "text_prompt": "What disease is described?", "gradient_cache": 3},
    {"alignment_weight": 0.2, "statements_weight": 0.7, "loss": "cross"},
    {"alignment_weight": 0.2, "local_weight": 0.6, "loss": "cross", "learn_temperature": True},
    {"alignment_weight": 0.2, "local_weight": 0.6, "head": "mlp", "head_order": "mean_then_head", "gradient_cache": 3},
    {
        "alignment_weight": 0.8,
        "statements_weight": 0.4,
        "loss": "global_local",
        "global_weight": 0.3,
        "dkam": {"category": "sigmoid"},
        "gradient_cache": 3,
    },
    {
        "alignment_weight": 0.8,
        "lm_weight": 0.3,
        "backbone": {"depth": "full"},
        "head": "identity",
        "max_text_tokens": 11,
    },
]


@pytest.mark.parametrize("case", STEPS, ids=lambda case: "-".join(f"{value}" for value in case.values()))
def test_loss_and_gradients_are_those_of_the_method(tiny_path: Path, case: Settings) -> None:
    module, batch = make(tiny_path, temperature=0.1, **case), studies()
    given = {key: case[key] for key in ("text_prompt", "head_order", "local_pool") if key in case}
    model = plain(tiny_path, module, longest=case.get("max_text_tokens", 256), **given)
    if "max_text_tokens" in case:
        lengths = [len(model.tokenizer(text, add_special_tokens=False).input_ids) for text in batch.reports]
        assert 0 < sum(length > case["max_text_tokens"] for length in lengths) < 7
    expected = total(
        model, batch, module.anchors, weight=case["alignment_weight"],
        tau=None if case.get("learn_temperature") else 0.1, kind=case.get("loss", "cross"),
        w=case.get("global_weight", 0.5), positives=case.get("positives", "same_text"),
        language=case.get("lm_weight", 0.0), located=case.get("local_weight", 0.0),
        stated=case.get("statements_weight", 0.0),
        statements=module.extras["statements"].draw("chest X-ray", 0) if "statements" in module.extras else ((), ()),
    )  # fmt: skip
    found = module.training_step(batch, 0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-7)
    found.backward()
    expected.backward()
    ours = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    assert ours.keys() == model.leaves.keys() and len(ours) > 30
    for name, leaf in model.leaves.items():
        theirs = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        found = torch.zeros_like(leaf) if ours[name] is None else ours[name]
        assert (found - theirs).norm() <= 1e-6 * theirs.norm() + 1e-9, name
