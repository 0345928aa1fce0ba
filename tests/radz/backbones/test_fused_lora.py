"""PEFT's own numbers and gradients, also under autocast and after merging: one node per LoRA layer, single rows."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

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


class Largest(TorchDispatchMode):
    """The greatest number of values of any tensor that an operation makes."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [value for value in (result if isinstance(result, tuple) else (result,)) if torch.is_tensor(value)]
        self.most = max([self.most, *(value.numel() for value in made)])
        return result


@pytest.mark.parametrize("table", [nn.Embedding, Gemma3TextScaledWordEmbedding])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trained_rows_are_those_of_peft_without_a_table_beside_the_table(table: type, dtype: torch.dtype) -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = table(500, 12, 0), nn.Linear(12, 4)
            if table is not nn.Embedding:
                self.embed.embed_scale = torch.tensor(12**0.5)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.out(self.embed(ids).float()).tanh()

    torch.manual_seed(0)
    model = Words()
    model.embed.weight.data = torch.randn(500, 12, dtype=dtype)
    settings = LoraConfig(r=2, target_modules=["out"], trainable_token_indices={"embed": [7, 499]})
    plain = get_peft_model(model, settings)
    delta = next(p for n, p in plain.named_parameters() if "trainable_tokens_delta" in n)
    delta.data = torch.randn(2, 12)  # the rows train in fp32, and are not those of the table any more
    fused = copy.deepcopy(plain)
    assert fuse_lora(fused) == 2
    ids, found = torch.tensor([[7, 3, 0, 499], [7, 7, 8, 250]]), []
    for model in (plain, fused):
        with Largest() as largest:
            y = model(ids)
            y.square().sum().backward()
        found.append((y.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, largest.most))
    (theirs, expected, table_sized), (ours, gradients, small) = found
    assert torch.equal(ours, theirs) and expected.keys() == gradients.keys()
    name = next(n for n in expected if "trainable_tokens_delta" in n)
    assert gradients[name].abs().min() > 0
    rough = 2**-7 if dtype == torch.bfloat16 else 1e-6  # sums in another order
    torch.testing.assert_close(gradients[name], expected[name], rtol=rough, atol=rough)
    assert table_sized >= 6000 and small < 500
    with plain.disable_adapter(), fused.disable_adapter():
        assert torch.equal(plain(ids), fused(ids))
    assert torch.equal(fused.merge_and_unload()(ids), plain.merge_and_unload()(ids))


def _input() -> torch.Tensor:
    return torch.randn(6, 12, generator=torch.Generator().manual_seed(2))


def _seeded(models: tuple[nn.Module, nn.Module]):
    for model in models:
        torch.manual_seed(3)
        yield model
