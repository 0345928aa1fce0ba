"""The path of `radz bench device=gpu`, on the CPU at a small size: it runs, and its FLOPs are those of the modules."""

from __future__ import annotations

import json

import pytest
import torch
from small_shape import SMALL
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu, shapes
from benchmarks.run import bench
from data_modules.errors import InputError


@pytest.mark.slow
def test_both_sides_are_measured_and_a_batch_that_does_not_fit_is_told() -> None:
    found = {}
    for side in ("radz", "reference"):
        for checkpointing in (False, True):
            one = gpu.measure(side, checkpointing, SMALL, "cpu", train=(2, 4), shot=(1, 2), steps=2)
            found[side, checkpointing] = gpu._numbers(json.loads(json.dumps(one)))
    found["reference", False]["train"][4] = None
    found["radz", True]["train"][4] = None
    rows = list(gpu.results(found, SMALL, "a device"))
    kinds = [(row.id, row.radz > 0, row.reference > 0) for row in rows]
    assert kinds.count(("P4", True, True)) == 2 and kinds.count(("P1", True, True)) == 2
    assert kinds.count(("P1", True, False)) == 1 and kinds.count(("P1", False, True)) == 1
    assert "out of memory" in rows[2].what and "of 790" in rows[0].what and rows[0].device == "a device"


def test_flops_are_those_that_torch_counts() -> None:
    config = SMALL.config()
    config.text_config._attn_implementation = "eager"
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration(config).eval()
    decoder = model.model.language_model
    decoder.layers = decoder.layers[:-1]
    tokens = 50
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(inputs_embeds=torch.randn(1, tokens, SMALL.width), use_cache=False)
    # Eager attention computes the whole square, of which a causal model needs half.
    square = (SMALL.layers - 1) * 2 * tokens**2 * SMALL.width
    assert counter.get_total_flops() == pytest.approx(gpu.forward_flops(SMALL, tokens) + square, rel=0.01)
    assert gpu.forward_flops(shapes.SEVEN_B, 617) == pytest.approx(8.44e12, rel=0.01)
    assert gpu.tower_flops(shapes.SEVEN_B) == pytest.approx(0.366e12 + 0.024e12, rel=0.03)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_one_line_says_so() -> None:
    with pytest.raises(InputError, match="device=gpu: there is no usable GPU here"):
        bench([], "gpu")
