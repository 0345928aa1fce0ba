"""Rates, decay, warm-up, cosine, clipping: whole trainings of several updates against AdamW written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import recipe
import torch
from plain_trainer import plain_trainer
from recipe_module import leaves, make, plain, studies, total
from torch import Tensor
from torch.utils.data import DataLoader

from radz.methods.dfat import DFAT

RATES = {"base": 3e-3, "projector": 5e-4, "heads": 1e-2, "temperature": 1e-2}
DFAT_RATES = {"learning_rate": 3e-3, "projector_learning_rate": 5e-4, "head_learning_rate": 1e-2}
STEPS, WARM, DECAY = 6, 2, 0.3
FEW = (1, 2, 4, 5)
"""studies of a batch: two of one text, one without"""


class Watched(DFAT):
    """Keeps the length of the gradient after clipping, and the rates of every update."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        before = length(self)
        super().on_before_optimizer_step(optimizer)
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        self.__dict__.setdefault("updates", []).append((before, length(self), rates))


def length(module: DFAT) -> float:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm().item()


def fit(module: DFAT, steps: int) -> None:
    trainer = plain_trainer(max_steps=steps)
    trainer.fit(module, DataLoader([studies(seed, FEW) for seed in range(steps)], batch_size=None))  # type: ignore[arg-type]


def decay(name: str, weight: Tensor) -> float:
    """Matrices decay; norms, biases, the temperature and rows of tokens do not."""
    return DECAY if weight.dim() > 1 and "embed_tokens" not in name else 0.0


@pytest.mark.parametrize(
    "case",
    [
        {"alignment_weight": 0.2, "learn_temperature": True, "temperature": 0.02, "gradient_clip": 0.5},
        {"alignment_weight": 0.8, "temperature": 0.1, "gradient_clip": 1e9, "head": "mlp", "loss": "global_local",
         "dkam": {"category": "sigmoid"}, "head_order": "mean_then_head"},
    ],
    ids=["clipped", "unclipped"],
)  # fmt: skip
def test_a_training_moves_every_weight_as_the_method_says(tiny_path: Path, case: dict[str, Any]) -> None:
    module = make(tiny_path, Watched, weight_decay=DECAY, warmup=0.4, **DFAT_RATES, **case)
    order = case.get("head_order", "head_then_mean")
    model, anchors = plain(tiny_path, module, head_order=order), module.anchors.clone()
    start = leaves(module)
    fit(module, STEPS)
    by_hand, learned = recipe.AdamW(model.leaves), case.get("learn_temperature", False)
    for step in range(STEPS):
        loss = total(
            model, studies(step, FEW), anchors, weight=case["alignment_weight"], tau=None if learned else 0.1,
            kind=case.get("loss", "cross"),
        )  # fmt: skip
        names = list(model.leaves)
        found = torch.autograd.grad(loss, list(model.leaves.values()), allow_unused=True)
        raw = {n: torch.zeros_like(model.leaves[n]) if g is None else g for n, g in zip(names, found, strict=True)}
        rate = {name: RATES[recipe.group(name)] * recipe.factor(step, STEPS, WARM) for name in names}
        by_hand.update(
            model.leaves, recipe.clipped(raw, case["gradient_clip"]), rate,
            {name: decay(name, leaf) for name, leaf in model.leaves.items()},
        )  # fmt: skip
        if learned:
            with torch.no_grad():
                model.leaves["log_scale"].clamp_(0, torch.tensor(100.0).log())
    for name, parameter in module.named_parameters():
        if name in model.leaves:
            moved, expected = parameter - start[name], model.leaves[name] - start[name]
            assert (moved - expected).norm() <= 1e-4 * expected.norm(), name
            assert expected.norm() > 0, name
    if learned:
        assert all(before > 2 * case["gradient_clip"] for before, _, _ in module.updates)  # it bites


def test_the_rate_of_every_update(tiny_path: Path) -> None:
    module = make(tiny_path, Watched, learn_temperature=True, warmup=0.4, gradient_clip=0.25, **DFAT_RATES)
    fit(module, STEPS)
    share = [0.5, 1, 1, 0.853553, 0.5, 0.146447]
    assert len(module.updates) == STEPS
    for (before, after, rates), expected in zip(module.updates, share, strict=True):
        assert before > 0.25 and after == pytest.approx(0.25, rel=1e-4)
        assert rates == pytest.approx({name: peak * expected for name, peak in RATES.items()}, rel=1e-5)


@pytest.mark.parametrize("tower", [None, 7e-4])
@pytest.mark.parametrize("train", ["lora", "full"])
def test_what_decays_and_at_which_rate(tiny_path: Path, train: str, tower: float | None) -> None:
    """Every weight stands in one group, whose rate and decay are those of its part."""
    module = make(
        tiny_path, learn_temperature=True, head="mlp", dkam={"category": "sigmoid"}, weight_decay=DECAY,
        tower_learning_rate=tower, backbone={"train": train, "train_tower": True}, **DFAT_RATES,
    )  # fmt: skip
    module.trainer = pl.Trainer(max_steps=10, accelerator="cpu", logger=False, enable_checkpointing=False)
    place = {id(p): name for name, p in module.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in module.configure_optimizers()["optimizer"].param_groups:
        for parameter in group["params"]:
            assert place[id(parameter)] not in found
            found[place[id(parameter)]] = group["initial_lr"], group["weight_decay"]
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    rates = {name: tower if tower and "vision_tower" in name else RATES[recipe.group(name)] for name in trained}
    assert found == {name: (rates[name], decay(name, p)) for name, p in trained.items()}
    assert {recipe.group(name) for name in trained} == set(RATES) and any("vision_tower" in name for name in trained)
