"""Kept similarities and masked image tokens in whole steps, against docs/method.md 2.11 and 2.12 computed anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import recipe
import torch
from recipe_module import DESCRIBED, Quiet, compare, leaves, make, plain, studies, total
from torch import Tensor

from data_modules.errors import InputError
from radz.config.dfat import DfatConfig
from radz.models.keep_loss import DRAWN, KeptTexts
from radz.models.reconstruction import Reconstruction

SETTINGS: dict[str, Any] = {"alignment_weight": 0.2, "temperature": 0.1}
BASE = {"weight": 0.2, "tau": 0.1, "kind": "cross"}
LATER = 3


class Later(Quiet):
    """In the step that it is told."""

    step = 0

    @property
    def global_step(self) -> int:
        return self.step


def move(module: Later) -> None:
    """To other weights, and a later step."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.requires_grad and not name.startswith("added."):
                weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    module.step = LATER


@pytest.mark.parametrize("size", [0, 3])
def test_texts_are_compared_with_those_of_the_first_step(tiny_path: Path, size: int) -> None:
    module = make(tiny_path, Later, keep_weight=30.0, gradient_cache=size, **SETTINGS)
    keep = module.extras["keep"]
    assert isinstance(keep, KeptTexts) and isinstance(module, Later)
    assert keep.texts[:5] == (*DESCRIBED[:4], "There is no abnormal finding.") and "There is edema." in keep.texts
    before = plain(tiny_path, module)
    module.training_step(studies(), 0)
    assert module.logged[4]["keep"].item() < 1e-20  # nothing has moved yet
    move(module)
    model = plain(tiny_path, module)
    texts = [keep.texts[place] for place in keep.draw(LATER)]
    assert len(set(texts)) == min(DRAWN, len(keep.texts)) and keep.draw(LATER) == keep.draw(LATER)
    before.merge()
    expected = total(model, studies(), module.anchors, **BASE)
    then = [before.anchor(text).detach() for text in texts]
    moved = recipe.kept([model.anchor(text) for text in texts], then)
    assert moved > 1e-3
    compare(module, model, studies(), expected + 30 * moved)


@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("backbone", [{}, {"train": "full", "padding": "left"}], ids=str)
def test_masked_tokens_are_foretold_for_the_averaged_weights(
    tiny_path: Path, backbone: dict[str, Any], size: int
) -> None:
    settings = {"reconstruction_weight": 0.6, "reconstruction_share": 0.4, "reconstruction_decay": 0.7, **SETTINGS}
    module = make(tiny_path, Later, backbone=backbone, gradient_cache=size, **settings)
    hidden, batch = module.extras["reconstruction"], studies()
    assert isinstance(hidden, Reconstruction) and isinstance(module, Later)
    before = leaves(module)
    module.training_step(batch, 0)
    move(module)
    model = plain(tiny_path, module)
    averaged = {name: 0.7 * before[name] + 0.3 * weight for name, weight in model.leaves.items()}
    teacher = plain(tiny_path, module)
    teacher.leaves = {name: weight.detach() for name, weight in averaged.items()}
    teacher.merge()
    expected = total(model, batch, module.anchors, **BASE)
    predicted, targets = [], []
    for row, images in enumerate(batch.pixels.split(batch.image_counts.tolist())):
        tokens = len(images) * model.patches
        (masked,) = hidden.masked(torch.ones(1, tokens, dtype=torch.bool), [row], LATER)
        places = masked.nonzero().flatten().tolist()
        assert len(places) == round(0.4 * tokens)
        states = foretelling(model, images, places)
        predicted += [model.network("added.reconstruction.predictor.", state) for state in states]
        targets += [state.detach() for state in at_images(teacher, images, places)]
    distance, narrow = recipe.reconstructed(predicted, targets)
    assert distance > 0.1 and narrow > 0.01
    compare(module, model, batch, expected + 0.6 * (distance + narrow))
    assert model.leaves["added.reconstruction.token"].grad.norm() > 1e-6


def test_what_losses_hold_is_in_checkpoints_and_only_training_wants_it(tiny_path: Path) -> None:
    """Where nothing is added, nothing is held; where something is, a checkpoint without it is refused."""
    with_them, without = (make(tiny_path, keep_weight=w, reconstruction_weight=w) for w in (1.0, 0.0))
    checkpoint: dict[str, Any] = {"state_dict": with_them.state_dict()}
    with_them.on_save_checkpoint(checkpoint)
    added = {name for name in checkpoint["state_dict"] if name.startswith("added.")}
    parts = {name.split(".")[2].rstrip("0123456789") for name in added}
    assert parts == {"first", "token", "predictor", "average_"}
    averages = {name for name in added if ".average_" in name}
    assert len(averages) == sum(name.startswith("encoder.backbone.") for name in checkpoint["state_dict"])
    with_them.on_load_checkpoint(checkpoint)
    assert added <= checkpoint["state_dict"].keys()
    plain_one: dict[str, Any] = {"state_dict": without.state_dict()}
    without.on_save_checkpoint(plain_one)
    assert not [name for name in plain_one["state_dict"] if name.startswith("added.")]
    with pytest.raises(InputError, match=r"first at added\.keep\.first"):
        with_them.on_load_checkpoint(plain_one)
    without.on_load_checkpoint(checkpoint)
    assert checkpoint["state_dict"].keys() == plain_one["state_dict"].keys()


def test_a_bank_of_one_text_has_nothing_to_keep() -> None:
    with pytest.raises(InputError, match=r"^dfat\.keep_weight: needs 3 texts .* the bank has 2"):
        KeptTexts(["Clear lungs.", "There is edema."], 8, DfatConfig(keep_weight=1.0))


def at_images(model: recipe.Plain, images: Tensor, places: list[int]) -> list[Tensor]:
    """States of some of the image tokens of a study, by their order."""
    states, ids = model.image_states(images)
    tokens = [n for n, token in enumerate(ids) if token == model.patch]
    return [states[tokens[place]] for place in places]


def foretelling(model: recipe.Plain, images: Tensor, places: list[int]) -> list[Tensor]:
    """The same where these tokens are hidden from the decoder."""
    ids = model.image_states(images)[1]
    tokens = [n for n, token in enumerate(ids) if token == model.patch]
    gone = {tokens[place] for place in places}

    def hide(part: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given = named["inputs_embeds"][0]
        rows = [model.leaves["added.reconstruction.token"] if n in gone else row for n, row in enumerate(given)]
        return arguments, {**named, "inputs_embeds": torch.stack(rows)[None]}

    handle = model.model.model.language_model.register_forward_pre_hook(hide, with_kwargs=True)
    try:
        return at_images(model, images, places)
    finally:
        handle.remove()
