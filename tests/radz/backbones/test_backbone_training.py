"""What trains in every family: gradients, precision, LoRA, checkpointing, compilation, depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_families import NAMES, TEXTS

from radz.backbones.lora import trainable_table
from radz.models.encoder import Encoder

PIXELS = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
family = pytest.mark.parametrize("family", list(NAMES))
Build = Callable[..., Encoder]


def step(encoder: Encoder) -> list[tuple[str, torch.nn.Parameter]]:
    """Backward through image and text; the trainable parameters."""
    image = encoder.encode_images(PIXELS, torch.tensor([1, 2]), ["chest_xray"] * 2)
    text = encoder.encode_texts(TEXTS[:2])
    weights = torch.linspace(-1, 1, image.overall.shape[1])
    parts = (image.overall, image.local, text.overall, text.local)
    sum((part.tanh() * weights).sum() for part in parts).backward()  # type: ignore[union-attr]
    return [(name, p) for name, p in encoder.named_parameters() if p.requires_grad]


SETTINGS: list[dict[str, Any]] = [
    {"train": "lora", "train_tower": True, "gradient_checkpointing": True, "dtype": "bfloat16"},
    {"train": "full", "depth": "full", "feature_layer": 3, "dtype": "float32"},
    {"train": "full", "train_tower": True, "dtype": "bfloat16"},
    {"train": "lora", "depth": "full", "gradient_checkpointing": True, "feature_layer": -1, "dtype": "float32"},
    {"train": "frozen", "train_tower": True, "dtype": "float32"},
]
"""the first two train every part of a family between them; the quick suite tries the others on five families"""


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        pytest.param(
            name, settings, id="-".join(map(str, [name, *settings.values()])),
            marks=[pytest.mark.slow] if place >= 5 and number >= 2 else [],
        )
        for place, name in enumerate(NAMES)
        for number, settings in enumerate(SETTINGS)
    ],
)  # fmt: skip
def test_every_trainable_parameter_gets_a_gradient_and_is_fp32(
    make_family: Build, family: str, settings: dict[str, Any]
) -> None:
    """One step, under bf16-mixed on a bf16 base: DDP waits for ever for a parameter without gradient."""
    encoder = make_family(family, **settings).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=settings["dtype"] == "bfloat16"):
        named = step(encoder)
    assert [name for name, p in named if p.grad is None] == []
    # LoRA's A factors wait for B to leave zero; everything else must move at once.
    assert [name for name, p in named if not p.grad.abs().any() and "lora_A" not in name] == []  # type: ignore[union-attr]
    assert {p.dtype for _, p in named} | {p.grad.dtype for _, p in named if p.grad is not None} == {torch.float32}
    backbone = encoder.backbone
    still = [(backbone.part_of(name), p.dtype) for name, p in backbone.named_parameters() if not p.requires_grad]
    whole = torch.float32 if settings["train"] == "full" else getattr(torch, settings["dtype"])
    assert {dtype for part, dtype in still if part != "tower"} <= {whole}
    assert {dtype for part, dtype in still if part == "tower"} <= {torch.float32}
    parts = {backbone.part_of(name) for name, _ in named}
    trained = {"lora": {"lora", "rows"}, "full": {"decoder"}, "frozen": set()}[settings["train"]]
    tower = {"tower"} if settings.get("train_tower") else set()
    assert parts == {"projector"} | trained | tower
    assert backbone.tower.training is bool(tower)


@family
def test_checkpointing_changes_no_gradient(make_family: Build, family: str) -> None:
    found = []
    for checkpointing in (False, True):
        named = step(
            make_family(family, gradient_checkpointing=checkpointing, train_tower=True, dtype="float32").train()
        )
        found.append({name: p.grad for name, p in named})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-5)


@family
def test_lora_lies_in_the_decoder_and_the_table_adds_up(make_family: Build, family: str) -> None:
    encoder = make_family(family, depth="full")
    adapted = {name.split(".lora_")[0] for name, _ in encoder.named_parameters() if ".lora_" in name}
    assert len(adapted) == 5 * 7 and all(f"{encoder.backbone.decoder_path}.layers." in name for name in adapted)
    *parts, total = trainable_table(encoder)
    assert total[1] == sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert sum(part[2] for part in parts) == total[2] == sum(p.numel() for p in encoder.parameters())
    names = ["vision tower", "projector", "decoder LoRA", "modality rows", "decoder", "language model head"]
    tied = encoder.backbone.core.config.tie_word_embeddings
    assert [part[0] for part in parts] == names[: 5 if tied else 6] and tied == (family == "gemma3")


@family
@pytest.mark.parametrize("layer", [3, -1])
def test_truncated_equals_full_depth(make_family: Build, family: str, layer: int) -> None:
    found, sizes = [], []
    for depth in ("feature", "full"):
        encoder = make_family(family, train="frozen", depth=depth, feature_layer=layer, dtype="float32").eval()
        with torch.no_grad():
            image = encoder.encode_images(PIXELS, torch.tensor([1, 2]), ["chest_xray"] * 2)
            found.append(torch.cat([image.overall, image.local, encoder.encode_texts(TEXTS).overall]))
        sizes.append(len(encoder.backbone.decoder.layers))
    assert torch.equal(*found) and sizes == [3 if layer == 3 else 6, 6]


@pytest.mark.parametrize(
    "family", [name if name == "llava" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_compiled_layers_keep_features_gradients_and_names(
    make_family: Build, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dynamo's eager backend: what it traces is what counts, and no C++ has to be built."""
    real, calls = torch.compile, []
    monkeypatch.setattr(torch, "compile", lambda *a, **k: calls.append(a) or real(*a, backend="eager", **k))
    one, other = (make_family(family, compile=on, dtype="float32") for on in (False, True))
    assert len(calls) == 5 == len(other.backbone.decoder.layers)
    assert list(one.state_dict()) == list(other.state_dict())
    plain, compiled = (dict(step(encoder.train())) for encoder in (one, other))
    for name, parameter in plain.items():
        torch.testing.assert_close(parameter.grad, compiled[name].grad, rtol=1e-4, atol=1e-5)
