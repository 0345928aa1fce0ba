"""What is made again in the backward pass: the same gradients to the bit, and less kept."""

from __future__ import annotations

import pytest
import torch

from radz.models.encoder import Encoder

TEXTS = ["Normal chest radiograph.", "There is a small left pleural effusion with a meniscus. The heart is enlarged."]


def gradients(encoder: Encoder) -> dict[str, torch.Tensor]:
    """Gradients of one loss on images and texts."""
    encoder.train()
    pixels = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = encoder.encode_images(pixels, torch.tensor([1, 1]), ["chest_xray"] * 2)
    text = encoder.encode_texts(TEXTS)
    weight = torch.arange(encoder.width, dtype=torch.float32).cos()
    ((image.overall * text.local).sum(0) * weight).sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("train", ["lora", "full"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_equal_to_the_bit(make_encoder, train: str, checkpointing: bool) -> None:
    every = {}
    for recompute in ("none", "elementwise"):
        encoder = make_encoder(train=train, recompute=recompute, gradient_checkpointing=checkpointing)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        every[recompute] = gradients(encoder)
    assert every["none"].keys() == every["elementwise"].keys() and len(every["none"]) > 20
    for name, gradient in every["none"].items():
        assert gradient.abs().sum() > 0 or "trainable_tokens" in name
        assert torch.equal(gradient, every["elementwise"][name]), name


def test_a_quarter_less_is_kept(make_encoder) -> None:
    """Even of a decoder whose gates are but twice as wide as its stream (Mistral: 3.5 times)."""
    kept: dict[str, dict[int, int]] = {"none": {}, "elementwise": {}}
    for recompute, sizes in kept.items():
        watch = make_encoder().backbone._recompute
        weights = {parameter.data_ptr() for parameter in watch.layers.parameters()}
        pack = watch._pack

        def note(tensor: torch.Tensor, pack=pack, recompute=recompute, sizes=sizes, weights=weights) -> object:
            packed = tensor if recompute == "none" else pack(tensor)
            if isinstance(packed, torch.Tensor) and tensor.untyped_storage().data_ptr() not in weights:
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return packed

        watch._pack = note
        embeddings = torch.randn(4, 50, 32, requires_grad=True)
        with watch.active():
            for layer in watch.layers:
                embeddings = layer(embeddings, position_embeddings=(torch.ones(1, 50, 8), torch.ones(1, 50, 8)))
        embeddings.sum().backward()
        assert not watch._made
    assert sum(kept["elementwise"].values()) < 0.75 * sum(kept["none"].values())
