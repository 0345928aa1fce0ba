"""`radz bench device=gpu`: P1, P2 and P4 at the shape of LLaVA-Med v1.5 (7B), random weights, bfloat16, one GPU.

Each side and way of checkpointing runs in a process of its own, which makes the model on the GPU from its configuration
(nothing is downloaded, nothing is written) and measures every batch size. Steps are timed with the device idle before
and after.

Model FLOPs count what the method needs and no more, on real tokens (padding is waste, recomputation too):
a product of T tokens with a weight of n numbers is 2 T n; causal attention adds 2 T^2 d a layer; the decoder counts up
to the feature layer, without the language model's head. A training pair with LoRA is twice its forward FLOPs in the
decoder (forward, and the gradient of the activations; frozen weights have none) and once in the tower.
MFU is given against 989 TFLOP/s (H100/H200 bfloat16, nominal) and 790 (measured there in large products).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks import common, shapes, sides
from benchmarks.common import Result
from benchmarks.reference import Reference, train_step
from benchmarks.shapes import SEVEN_B, Shape
from data_modules.errors import InputError

TRAIN, SHOT, STEPS = (8, 16, 32), (1, 16, 64), 6
NOMINAL, MEASURED = 989e12, 790e12
Found = dict[str, Any]


def forward_flops(shape: Shape, tokens: int) -> float:
    """Of the decoder up to the last layer but one, for one sequence."""
    head = shape.width // shape.heads
    attention = shape.width * (2 * shape.width + 2 * shape.kv_heads * head)
    weights = attention + 3 * shape.width * shape.inner
    return (shape.layers - 1) * (2.0 * tokens * weights + 2.0 * tokens**2 * shape.width)


def tower_flops(shape: Shape) -> float:
    """Of the tower up to its last layer but one, and the projector, for one image."""
    tokens, width = shape.patches + 1, shape.vision_width
    layer = 2.0 * tokens * 12 * width**2 + 4.0 * tokens**2 * width
    return (shape.vision_layers - 1) * layer + 2.0 * shape.patches * (width + shape.width) * shape.width


@contextmanager
def made(shape: Shape, device: str) -> Iterator[tuple[Path, Any]]:
    """A folder whose weights are made on `device` instead of being read, and the model itself."""
    from transformers import LlavaForConditionalGeneration

    with tempfile.TemporaryDirectory() as name:
        folder = shapes.write_tokenizer(Path(name), shape)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
        try:
            with torch.device(device):
                model = LlavaForConditionalGeneration._from_config(shape.config(), attn_implementation="sdpa")
        finally:
            torch.set_default_dtype(before)
        report: Found = {"mismatched_keys": [], "missing_keys": [], "unexpected_keys": []}
        with patch.object(LlavaForConditionalGeneration, "from_pretrained", lambda *_, **__: (model, report)):
            yield folder, model


def measure(
    side: str, checkpointing: bool, shape: Shape, device: str, train: Sequence[int] = TRAIN,
    shot: Sequence[int] = SHOT, steps: int = STEPS,
) -> Found:  # fmt: skip
    """Seconds of each step and peak bytes, {"train": {B: ..}, "shot": {B: ..}}; None where memory ran out."""
    settings = sides.experiment("backbone.depth=feature")
    with made(shape, device) as (folder, model):
        if side == "radz":
            encoder = sides.encoder(folder, settings, gradient_checkpointing=checkpointing)
            one: Any = sides.module(encoder, settings).to(device).train()
        else:
            one = sides.reference_of(model, folder, settings.dfat, checkpointing).to(device).train()
    found: Found = {"train": {}, "shot": {}, "tokens": {}}
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        for pairs in train:
            found["train"][pairs] = _guarded(lambda n=pairs: _train(one, shape, n, device), steps, device)
            found["tokens"][pairs] = _tokens(one, shape, pairs)
        one.eval()
        with torch.no_grad():
            for images in () if checkpointing else shot:
                found["shot"][images] = _guarded(lambda n=images: _shot(one, shape, n, device), steps, device)
    return found


def _guarded(prepare: Callable[[], Callable[[], object]], steps: int, device: str) -> Found | None:
    try:
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step, times = prepare(), []
        for _ in range(steps):
            _wait(device)
            times.append(common.seconds(lambda: (step(), _wait(device))))
    except torch.OutOfMemoryError:
        return None
    return {"seconds": times[1:], "peak": torch.cuda.max_memory_allocated() if device == "cuda" else common.resident()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _train(one: Any, shape: Shape, pairs: int, device: str) -> Callable[[], object]:
    batch = shapes.batch(pairs, shape).to(device)
    if isinstance(one, Reference):
        arguments, optimizer = sides.plain_inputs(batch, shape.width), one.optimizer()
        return lambda: train_step(one, optimizer, *arguments)
    trained = [p for p in one.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)

    def step() -> None:
        sides.loss(one, batch).backward()
        torch.nn.utils.clip_grad_norm_([p for p in trained if p.grad is not None], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _shot(one: Any, shape: Shape, images: int, device: str) -> Callable[[], object]:
    batch = shapes.batch(images, shape).to(device)
    if isinstance(one, Reference):
        return lambda: one.image_features(batch.pixels, sides.INSTRUCTION)
    return lambda: one.encoder.encode_images(batch.pixels, batch.image_counts, [sides.MODALITY] * images)


def _tokens(one: Any, shape: Shape, pairs: int) -> list[int]:
    """Real tokens of each report, the modality tokens and BOS included."""
    tokenizer = one.tokenizer if isinstance(one, Reference) else one.encoder.backbone.tokenizer
    return [len(row) + 9 for row in tokenizer(shapes.batch(pairs, shape).reports, add_special_tokens=False).input_ids]


def results(found: dict[tuple[str, bool], Found], shape: Shape, device: str) -> Iterator[Result]:
    """Rows of the table; of a batch that did not fit, a row says so with rate 0 on that side."""
    image = forward_flops(shape, shape.patches + 40)
    for checkpointing in (False, True):
        how = f"{'with' if checkpointing else 'without'} checkpointing"
        ours, theirs = (found[side, checkpointing] for side in ("radz", "reference"))
        for pairs, mine in ours["train"].items():
            other, tokens = theirs["train"][pairs], ours["tokens"][pairs]
            flops = sum(2 * (image + forward_flops(shape, t)) + tower_flops(shape) for t in tokens)
            what = f"training step of {pairs} pairs {how}{_mfu(mine, flops)}"
            yield from _rows("P1", what, "pairs/s", pairs, mine, other, device)
            what = f"memory of a training step of {pairs} pairs {how}"
            if mine and other:
                yield common.of_costs("P2", what, "GB", [mine["peak"] / 1e9], [other["peak"] / 1e9], device)
        for images, mine in ours["shot"].items():
            flops = images * (image + tower_flops(shape))
            what = f"image features, {images} at a time{_mfu(mine, flops)}"
            yield from _rows("P4", what, "images/s", images, mine, theirs["shot"][images], device)


def _mfu(side: Found | None, flops: float) -> str:
    if not side:
        return ""
    rate = flops / sorted(side["seconds"])[len(side["seconds"]) // 2]
    return f", {rate / 1e12:.0f} TFLOP/s, {rate / MEASURED:.0%} of 790, {rate / NOMINAL:.0%} of 989"


def _rows(
    name: str, what: str, unit: str, count: int, mine: Found | None, other: Found | None, device: str
) -> Iterator[Result]:
    if mine and other:
        yield common.of_times(name, what, unit, count, mine["seconds"], other["seconds"], device)
    elif mine:
        one = common.of_times(name, what, unit, count, mine["seconds"], mine["seconds"], device)
        yield replace(one, what=f"{what}; the reference ran out of memory", reference=0.0)
    else:
        empty = common.of_times(name, f"{what}; radz ran out of memory", unit, count, [1.0], [1.0], device)
        yield replace(empty, radz=0.0, reference=0.0 if not other else count / other["seconds"][0], ratio=0.0)


def run() -> Iterator[Result]:
    """All of it, on the GPU that is there."""
    if not torch.cuda.is_available():
        raise InputError("device=gpu: there is no usable GPU here; leave device out to measure on the CPU")
    found = {}
    for side in ("radz", "reference"):
        for checkpointing in (False, True):
            command = [sys.executable, "-m", "benchmarks.gpu", side, str(int(checkpointing))]
            done = subprocess.run(command, cwd=common.CHECKOUT, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
            found[side, checkpointing] = _numbers(json.loads(done.stdout.splitlines()[-1]))
    yield from results(found, SEVEN_B, torch.cuda.get_device_name())


def _numbers(found: Found) -> Found:
    """Batch sizes as numbers again, which JSON makes text."""
    return {part: {int(size): value for size, value in sizes.items()} for part, sizes in found.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], sys.argv[2] == "1", SEVEN_B, "cuda")) + "\n")
