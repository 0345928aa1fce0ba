"""The structured start: what the weights of the tiny LLaVA are said to compute, computed another way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import gelu

from data_modules.disk import CannotWrite
from radz.backbones.tiny import tiny_folder
from radz.config.schema import TinyConfig

SIDE, PATCH, WIDTH, DECODER = 64, 16, 256, 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    from transformers import LlavaForConditionalGeneration

    shape = TinyConfig(
        image_size=SIDE, patch_size=PATCH, vision_width=WIDTH, vision_layers=2, width=DECODER, heads=2, vocabulary=300
    )
    folder = tiny_folder(shape, ["The heart is enlarged."] * 5, tmp_path_factory.mktemp("cache"))
    return LlavaForConditionalGeneration.from_pretrained(folder).eval()


def test_a_patch_is_projected_on_orthogonal_cosines(model) -> None:
    weight = model.model.vision_tower.embeddings.patch_embedding.weight[:, 0].flatten(1)
    content = weight[weight.norm(dim=1) > 0]
    unit = content / content.norm(dim=1, keepdim=True)
    assert len(content) == WIDTH - WIDTH // 8 - WIDTH // 4
    assert torch.allclose(unit @ unit.T, torch.eye(len(unit)), atol=1e-5)
    assert unit[0].std() < 1e-6 and unit[1:].sum(1).abs().max() < 1e-4


def test_a_blob_answers_in_the_quarter_where_it_lies(model) -> None:
    """The first four pooled channels are bright blobs; one is put into each quarter of the second patch."""
    tower = model.model.vision_tower
    grid = torch.arange(SIDE) + 0.5
    for quarter, (row, column) in enumerate([(5, 21), (5, 29), (13, 21), (13, 29)]):
        blob = torch.exp(-((grid[:, None] - row) ** 2 + (grid[None] - column) ** 2) / (2 * 1.2**2))
        pair = torch.stack([torch.zeros(SIDE, SIDE), blob])[:, None].expand(-1, 3, -1, -1)
        with torch.no_grad():
            states = tower(pair, output_hidden_states=True).hidden_states[-2][:, 1:]
        change = (states[1] - states[0])[1, -WIDTH // 4 :][:4]
        assert change.argmax().item() == quarter and change.max() > 0.5, (quarter, change)


def test_positions_pass_the_projector_unchanged(model) -> None:
    projector = model.model.multi_modal_projector
    assert torch.allclose(gelu(torch.tensor(1.7)) - gelu(torch.tensor(-1.7)), torch.tensor(1.7))
    states = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    place = states[:, WIDTH - WIDTH // 8 - WIDTH // 4 :][:, : DECODER // 8]
    with torch.no_grad():
        assert torch.allclose(projector(states)[:, -(DECODER // 8) :], place, atol=1e-5)


def test_the_gate_of_the_decoder_reads_the_position_alone(model) -> None:
    for layer in model.model.language_model.layers:
        gate, up = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight
        assert gate[:, : -(DECODER // 8)].abs().max() == 0 and gate[:, -(DECODER // 8) :].std() > 0.1
        assert up[:, -(DECODER // 8) :].abs().max() == 0 and up[:, : -(DECODER // 8)].std() > 0.05


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone(tmp_path) -> None:
    from safetensors.torch import load_file

    shape = TinyConfig(image_size=32, vision_width=32, width=32, vocabulary=300)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load_file(tiny_folder(shape, ["a b"], tmp_path / "one") / "model.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    second = load_file(tiny_folder(shape, ["a b"], tmp_path / "two") / "model.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.fault(6)
@pytest.mark.fault(24)
def test_a_backbone_on_a_read_only_disk_is_read_and_on_a_full_one_not_half_made(
    small_disk: Callable[..., Path], remount: Callable[..., None]
) -> None:
    shape = TinyConfig(image_size=32, vision_width=32, width=32, vision_layers=1, layers=2, vocabulary=300, context=64)
    place = small_disk("4m")
    folder = tiny_folder(shape, ["a b"], place)
    assert [one.name for one in (place / "backbones").iterdir()] == [folder.name]
    remount(place, "ro")
    assert tiny_folder(shape, ["a b"], place) == folder
    with pytest.raises(CannotWrite, match="Read-only file system"):
        tiny_folder(shape, ["a c"], place)
    small = small_disk("40k")
    with pytest.raises(CannotWrite, match=r"backbones/tiny-\w+: cannot be written \(No space left"):
        tiny_folder(shape, ["a b"], small)
    assert not list((small / "backbones").iterdir())
