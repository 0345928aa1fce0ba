"""One node per LoRA layer: the numbers and gradients of PEFT's own forward, also under autocast and after merging."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from radz.backbones.fused_lora import fuse_lora


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 20), nn.Linear(20, 7, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).tanh())


def pair(dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    """PEFT's model and the same one fused, with random adapters."""
    torch.manual_seed(0)
    settings = LoraConfig(r=3, lora_alpha=5, target_modules=["first", "second"], lora_dropout=dropout)
    plain = get_peft_model(Net().to(dtype), settings)
    for name, parameter in plain.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter, dtype=torch.promote_types(dtype, torch.float32)) / 3
    fused = copy.deepcopy(plain)
    assert fuse_lora(fused) == 2
    return plain, fused


def outcome(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = model(x)
    y.float().square().sum().backward()
    assert all(p.grad is None for n, p in model.named_parameters() if "lora_" not in n)
    return [y, x.grad, *(p.grad for n, p in model.named_parameters() if "lora_" in n)]


@pytest.mark.parametrize("shape", [(9, 12), (2, 5, 12)])
def test_numbers_and_gradients_are_those_of_peft(shape: tuple[int, ...]) -> None:
    for expected, found in zip(*(outcome(model, torch.randn(shape).sin()) for model in _seeded(pair())), strict=True):
        assert expected.shape == found.shape and expected.abs().max() > 1e-3
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_autocast_is_no_further_from_fp32_than_peft() -> None:
    exact = outcome(pair()[0].float(), _input())
    plain, fused = pair(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = [outcome(model, _input().bfloat16()) for model in (plain, fused)]
    for truth, theirs, ours in zip(exact, *found, strict=True):
        assert ours.dtype == theirs.dtype
        error = [(values.float() - truth).norm() / truth.norm() for values in (theirs, ours)]
        assert error[1] < max(2 * error[0], 0.02)


def test_gradients_equal_finite_differences() -> None:
    _, fused = pair(torch.float64)
    x = torch.randn(4, 12, dtype=torch.float64, requires_grad=True)
    weights = [p for n, p in fused.named_parameters() if "lora_" in n]
    assert torch.autograd.gradcheck(lambda x, *_: fused(x), (x, *weights))


def test_what_the_node_cannot_do_is_left_to_peft() -> None:
    plain, fused = pair(dropout=0.5)
    for model in (plain, fused):
        model.train()
    results = []
    for model in (plain, fused):
        torch.manual_seed(1)
        results.append(model(_input()))
    assert torch.equal(*results)
    with plain.disable_adapter(), fused.disable_adapter():
        assert torch.equal(plain(_input()), fused(_input()))
    expected = plain.eval()(_input())
    torch.testing.assert_close(fused.merge_and_unload()(_input()), expected)


def _input() -> torch.Tensor:
    return torch.randn(6, 12, generator=torch.Generator().manual_seed(2))


def _seeded(models: tuple[nn.Module, nn.Module]):
    for model in models:
        torch.manual_seed(3)
        yield model
