"""What added losses draw in a step: other draws in each step and with each seed, those of seed 0 by the step alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recipe_module import make, studies

from data_modules.findings import ontology
from radz.config.dfat import DfatConfig
from radz.config.files import find_resource
from radz.methods.dfat import DFAT
from radz.models.extra_loss import Given
from radz.models.keep_loss import KeptTexts
from radz.models.reconstruction import Reconstruction
from radz.models.statements import Statements

STATEMENTS = Statements(find_resource("prompts/statements.yaml", "x"), ["edema"], ontology(), ["chest_xray"], 1.0)
KEPT = KeptTexts([str(number) for number in range(40)], 4, DfatConfig(keep_weight=1.0))


def masked(number: int) -> Any:
    half: Any = SimpleNamespace(share=0.5)
    return Reconstruction.masked(half, torch.ones(2, 16, dtype=torch.bool), [0, 999_999], number).tolist()


def of(step: int, seed: int) -> Given:
    return Given(step, studies(rows=[0]), [""], ["chest_xray"], seed)


@pytest.mark.parametrize("drawn", [lambda number: STATEMENTS.draw("chest X-ray", number), KEPT.draw, masked])
def test_draws_differ_by_seed_and_step(drawn: Callable[[int], Any]) -> None:
    found = {seed: [drawn(of(step, seed).draw) for step in range(8)] for seed in (0, 1, 2, 2**32 - 1)}
    assert all(of_seed == [drawn(of(step, seed).draw) for step in range(8)] for seed, of_seed in found.items())
    assert len({str(of_seed) for of_seed in found.values()}) == 4
    assert all(len(set(map(str, of_seed))) > 1 for of_seed in found.values())


def test_draws_of_seed_0_are_those_of_the_step() -> None:
    """As they were before seeds took part."""
    assert KEPT.draw(of(7, 0).draw) == sorted(random.Random(7).sample(range(40), 16))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(7 * 1_000_003 + 999_999))
    assert masked(of(7, 0).draw)[1] == (order < 8).tolist()


def test_a_training_step_has_the_seed_of_the_run(tiny_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = make(tiny_path, DFAT, statements_weight=1.0), list[Given]()
    monkeypatch.setattr(module.extras["statements"], "encode", lambda encoder, given: seen.append(given))
    monkeypatch.setattr(module, "seed", 3)
    with pytest.raises(AttributeError):  # nothing was encoded
        module.training_step(studies(), 0)
    assert seen[0].seed == 3
