"""A seed seeds everything: what starts at random differs between seeds and is the same for one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sections import base_encoder
from small_run import SMALL
from torch import Tensor

from radz.config.files import load_experiment
from radz.models import factory
from radz.runs.prepare import prepare

GIVEN = ("patch_embedding", "position_embedding", "statement_bias")
"""wavelets and cosines of the tiny tower, and what is said and denied"""
LORA = ["backbone.train=lora", "backbone.lora_rank=4", "dfat.head=mlp"]
ARMS = {
    "full": ("demo", ["backbone.train_tower=true"], 46),
    "lora": ("demo", LORA, 40),
    "clip": ("demo_clip", ["clip.tiny.vision_width=32", "clip.tiny.width=32"], 25),
    "cnn": ("demo_cnn", ["cnn.width=4"], 10),
    "finetune": ("demo_finetune", ["supervised.encoder=backbone", "supervised.train_encoder=true"], 40),
}
"""experiment, overrides, and how many tensors start at random at least"""


def start(name: str, overrides: list[str], cache: Path, seed: int) -> dict[str, Tensor]:
    """Trainable tensors before the first step."""
    experiment = load_experiment(name, [*SMALL, *overrides, f"cache_dir={cache}", f"seed={seed}"])
    found = prepare(experiment, None).module.named_parameters()
    return {name: value.detach().clone() for name, value in found if value.requires_grad}


def is_given(name: str, value: Tensor) -> bool:
    """Whether a tensor starts from no random numbers: constant, a multiple of the identity, or structured."""
    if (
        value.dim() == 2
        and value.shape[0] == value.shape[1]
        and torch.equal(value, value[0, 0] * torch.eye(len(value)))
    ):
        return True
    return bool((value == value.flatten()[0]).all()) or any(part in name for part in GIVEN)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_every_tensor_that_starts_at_random_differs_between_seeds(arm: str, cache_dir: Path) -> None:
    name, overrides, least = ARMS[arm]
    starts = [start(name, overrides, cache_dir, seed) for seed in (0, 1, 2, 1)]
    chosen = [key for key, value in starts[0].items() if not is_given(key, value)]
    for key in chosen:
        one, two, three, again = (weights[key] for weights in starts)
        assert not torch.equal(one, two) and not torch.equal(two, three) and not torch.equal(one, three), key
        assert torch.equal(two, again), key
    assert len(chosen) >= least


def test_what_is_new_on_a_given_backbone_follows_the_seed(tiny_path: Path) -> None:
    def made(seed: int, *more: str) -> tuple[dict[str, Tensor], str]:
        own = [*LORA, f"backbone.path={tiny_path}", "data.image_size=64", f"seed={seed}", *more]
        encoder, digest = base_encoder(load_experiment("demo", own))
        found = {name: value.detach() for name, value in encoder.named_parameters() if value.requires_grad}
        return {name: value for name, value in found.items() if not is_given(name, value)}, digest

    (one, name), (two, other), (again, same) = made(0), made(1), made(0)
    parts = {key: [name for name in one if key in name] for key in ("lora_A", "trainable_tokens", "heads", "projector")}
    assert [len(parts[key]) for key in ("lora_A", "trainable_tokens", "heads")] == [35, 1, 12]
    for key in one:
        assert torch.equal(one[key], again[key])
        assert key in parts["projector"] or not torch.equal(one[key], two[key]), key
    assert name == same and name != other, "a bank of another seed would be taken"
    (rows,) = parts["trainable_tokens"]
    assert torch.equal(one[rows], made(0, "backbone.depth=full")[0][rows])


def test_a_tiny_model_has_the_seed_of_the_run_or_its_own() -> None:
    found = load_experiment("demo", ["seed=3"]).backbone.tiny
    assert factory.seeded(found, 3).seed == 3 and factory.seeded(replace(found, seed=0), 3).seed == 0
