"""The first steps: temperature and bias that follow the features, and the projector's steps by itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_trainer import plain_trainer
from recipe_module import leaves, make, studies
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.errors import InputError
from radz.config.files import load_experiment
from radz.methods.dfat import DFAT
from radz.models.first_loss import SPREAD, FirstLoss
from radz.models.losses import Features

STEPS, ALONE = 6, 2


class Seen(DFAT):
    """Keeps the loss, temperature, rates and weights of every step."""

    def _log_step(self, aligned: Tensor, guided: Tensor, *others: Tensor) -> None:
        self.__dict__.setdefault("losses", []).append((aligned.item(), guided.item()))

    def log(self, name: str, value: Any, **settings: Any) -> None:
        self.__dict__.setdefault("logged", {}).setdefault(name, []).append(float(torch.as_tensor(value).detach()))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self.__dict__.setdefault("rates", []).append({g["name"]: g["lr"] for g in optimizer.param_groups})
        self.__dict__.setdefault("weights", []).append(leaves(self))


def fit(module: DFAT, steps: int = STEPS) -> None:
    trainer = plain_trainer(max_steps=steps)
    trainer.fit(module, DataLoader([studies(seed) for seed in range(steps)], batch_size=None))  # type: ignore[arg-type]


def test_spread_level_and_share_are_those_of_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(5, 7, generator=generator, dtype=torch.float64) + 1 for _ in range(2))
    anchors = torch.randn(4, 7, generator=generator, dtype=torch.float64) + 1
    usable = torch.tensor([True, True, False, True, True])
    labels = torch.tensor([[1.0, 0, 0, math.nan]] * 3 + [[math.nan] * 4, [1.0, 1, 0, 0]])
    start = FirstLoss().double()
    sides = [Features(rows, rows, torch.zeros(())) for rows in (image, text)]
    logit = start.measure(*sides, usable, anchors, labels, "global", 0.5)
    assert logit.item() == pytest.approx(math.log((5 + 1) / (8 + 1)))

    def cosines(first: Tensor, second: Tensor) -> Any:
        one, two = (rows.numpy() / np.linalg.norm(rows.numpy(), axis=1, keepdims=True) for rows in (first, second))
        return one @ two.T

    known = ~labels.isnan().numpy()
    of_sides = cosines(image, anchors)[known], cosines(text, anchors)[known & usable.numpy()[:, None]]
    level = np.concatenate(of_sides).mean()
    assert start.level.item() == pytest.approx(level)
    pairs = cosines(image[usable], text[usable])
    spread = max(*(np.sqrt(((values - level) ** 2).mean()) for values in of_sides),
                 np.sqrt(pairs.var(1).mean()), np.sqrt(pairs.var(0).mean()))  # fmt: skip
    assert start.spread.item() == pytest.approx(spread)
    for done, expected in ((0, spread / SPREAD), (0.5, math.sqrt(spread / SPREAD * 0.05)), (1, 0.05), (7, 0.05)):
        assert float(start.temperature(0.05, done)) == pytest.approx(expected)
    assert float(start.temperature(5.0, 0.0)) == 5.0  # wide enough as it is


@pytest.mark.parametrize("category", ["sigmoid", "softmax"])
@pytest.mark.parametrize("loss", ["cross", "global_local"])
def test_the_first_loss_is_that_of_chance(tiny_path: Path, category: str, loss: str) -> None:
    """Whatever the heads make of the features; without it, a low temperature starts far above."""
    firsts = {}
    for share in (0.0, 0.5):
        module = make(
            tiny_path, Seen, temperature=0.01, temperature_warmup=share, loss=loss, positives="diagonal",
            dkam={"category": category}, learn_temperature=category == "softmax",
        )  # fmt: skip
        with torch.no_grad():
            for head in module.encoder.heads.values():  # what all features share: their cosines lie far above 0
                head.bias.add_(1.0)
        fit(module, 4)
        firsts[share] = module.losses[0]
    # seven studies have a text; the softmax runs over the known anchors of each study, the sigmoid over all pairs
    labels = module.label_view.for_losses(studies(0), module.bank.names)
    known, present = ~labels.isnan(), labels == 1
    if category == "softmax":
        used = (known.sum(1) >= 2) & present.any(1)
        chance = known.sum(1)[used].log().mean().item()
    else:
        p = (present.sum() / known.sum()).item()
        chance = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert firsts[0.5][0] == pytest.approx(math.log(7), rel=0.2) and firsts[0.0][0] > 1.5 * math.log(7)
    assert firsts[0.5][1] == pytest.approx(chance, rel=0.2) and firsts[0.0][1] > 1.5 * chance
    temperatures = module.logged["train/temperature"]
    assert len(temperatures) == 4 and temperatures[0] > temperatures[1] > temperatures[2]
    assert temperatures[2:] == pytest.approx([0.01, 0.01], rel=0.05)
    assert {"first_loss.spread", "first_loss.level"} <= module.kept()


def test_the_projector_learns_alone_and_then_all_do(tiny_path: Path) -> None:
    """From the alignment loss alone, whatever it weighs later."""
    rates = {"learning_rate": 3e-3, "projector_learning_rate": 5e-4, "head_learning_rate": 1e-2}
    module, aligned = (
        make(
            tiny_path, Seen, warmup=0.5, weight_decay=0.3, projector_warmup_steps=ALONE, projector_warmup_rate=2e-2,
            **rates, alignment_weight=weight, temperature=0.1,
        )
        for weight in (0.0, 1.0)
    )  # fmt: skip
    start = leaves(module)
    fit(module)
    fit(aligned, ALONE + 1)
    for name, value in aligned.weights[ALONE].items():
        torch.testing.assert_close(module.weights[ALONE][name], value, msg=name)
    after = [*module.weights[1:], leaves(module)]
    for name, value in start.items():
        moved = [not torch.equal(value, weights[name]) for weights in after]
        assert moved == ([True] * STEPS if "projector" in name else [False] * ALONE + [True] * (STEPS - ALONE)), name
    # two steps of warm-up 1 and a fall; four of warm-up 2
    of_rest = [0.5, 1, 1, 0.5]
    expected = [2e-2, 2e-2, *(5e-4 * factor for factor in of_rest)]
    assert [one["projector"] for one in module.rates] == pytest.approx(expected)
    assert [one["heads"] for one in module.rates] == pytest.approx([0, 0, *(1e-2 * factor for factor in of_rest)])


@pytest.mark.parametrize(
    ("dfat", "backbone"),
    [({"projector_warmup_steps": STEPS}, {}), ({"projector_warmup_steps": 1}, {"train_projector": False})],
)
def test_a_projector_that_cannot_begin_is_refused(
    tiny_path: Path, dfat: dict[str, Any], backbone: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"dfat\.projector_warmup_steps=.*has 6"):
        fit(make(tiny_path, Seen, backbone=backbone, **dfat))


def test_rates_that_nothing_would_have_are_refused() -> None:
    with pytest.raises(InputError, match=r"conflicts with dfat\.projector_learning_rate=0"):
        load_experiment("demo", ["dfat.projector_warmup_steps=3", "dfat.projector_learning_rate=0"])
    with pytest.raises(InputError, match=r"dfat\.tower_learning_rate: conflicts with backbone\.train_tower=false"):
        load_experiment("demo", ["dfat.tower_learning_rate=1e-4"])
