"""`radz bench device=gpu`: P1, P2, P4 and P19 to P21 at the shape of LLaVA-Med v1.5 (7B), random weights, one GPU.

It ends within `LIMIT` seconds: every part runs in a process of its own, which knows when it has to end, looks at the
clock before each measurement, tells each as it is made and is killed when it does not end; what it told counts. A part
makes the model on the GPU from its configuration, in bfloat16 (nothing is downloaded, nothing of 7B written). Steps are
timed with the device idle before and after.

- P1, P2, P4: training steps, their memory, and image features, beside the reference, with and without checkpointing.
- P19: features in bfloat16 as a run computes them against those of the same weights in float32 throughout, less their
  mean: one minus the least cosine, and the bound .001.
- P20: the training step in Lightning's DDP form in one process (NCCL; gloo on CPUs) beside that without, and how far
  the weights of both are apart after the same steps.
- P21: a training step on 4-bit weights beside bfloat16 ones, in a model of a few layers; needs bitsandbytes.

Model FLOPs count what the method needs and no more, on real tokens (padding is waste, recomputation too):
a product of T tokens with a weight of n numbers is 2 T n; causal attention adds 2 T^2 d a layer; the decoder counts up
to the feature layer, without the language model's head. A training pair with LoRA is twice its forward FLOPs in the
decoder (forward, and the gradient of the activations; frozen weights have none) and once in the tower.
MFU is given against 989 TFLOP/s (H100/H200 bfloat16, nominal) and 790 (measured there in large products).
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from benchmarks import common
from benchmarks.common import Result
from benchmarks.gpu_parts import BOUND, CHECKED, DDP_PAIRS, FOUR_BIT_LAYERS
from benchmarks.shapes import SHAPES, Shape
from data_modules.errors import InputError

log = logging.getLogger(__name__)
LIMIT, KILL = 470.0, 5.0
"""Seconds of all parts; of a part that did not end by itself before it is killed."""
SIDES = [[side, how] for how in ("plain", "checkpointing") for side in ("radz", "reference")]
PARTS = [*SIDES, ["parity"], ["ddp"], ["four_bit"]]
"""Arguments of `python -m benchmarks.gpu_parts`, in their order: what matters most comes first."""
IDS = ("P1", "P2", "P4", "P19", "P20", "P21")
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


def run(shape: str = "7b", device: str = "cuda", limit: float = LIMIT) -> Iterator[Result]:
    """Rows of all parts, each as soon as what it compares is there.

    Raises:
        InputError: no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device=gpu: there is no usable GPU here; leave device out to measure on the CPU")
    name = torch.cuda.get_device_name() if device == "cuda" else common.processor()
    end, told = time.monotonic() + limit, {}
    for number, part in enumerate(PARTS):
        # What one part leaves over goes to those after it.
        seconds = (end - time.monotonic()) / (len(PARTS) - number)
        told[tuple(part)] = _told(part, shape, device, seconds)
        if part[0] == "reference":
            yield from _beside(told["radz", part[1]], told["reference", part[1]], part[1], SHAPES[shape], name)
        elif part[0] != "radz":
            yield from ROWS[part[0]](told[tuple(part)], name)


def _told(part: list[str], shape: str, device: str, seconds: float) -> list[Found]:
    """What a part tells within so many seconds."""
    until = f"{time.time() + seconds - KILL:.1f}"
    command = [sys.executable, "-m", "benchmarks.gpu_parts", shape, device, until, *part]
    try:
        done = subprocess.run(command, cwd=common.CHECKOUT, capture_output=True, timeout=seconds)
        output = done.stdout
        if done.returncode:
            log.warning("%s: ended with %d: %s", " ".join(part), done.returncode, done.stderr[-500:].decode())
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        log.warning("%s: did not end within %.0f s; what it told by then counts", " ".join(part), seconds)
    lines = output.decode().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def _beside(ours: list[Found], theirs: list[Found], how: str, shape: Shape, device: str) -> Iterator[Result]:
    """Rows of both sides; of a batch that did not fit, a row says so with rate 0 on that side."""
    others = {(one["kind"], one["size"]): one for one in theirs}
    image = forward_flops(shape, shape.patches + 40)
    ways = "with checkpointing" if how == "checkpointing" else "without checkpointing"
    for mine in ours:
        size, other = mine["size"], others.get((mine["kind"], mine["size"]))
        if other is None:
            log.warning("%s of %d: the reference was not measured in time", mine["kind"], size)
        elif mine["kind"] == "train":
            flops = sum(2 * (image + forward_flops(shape, t)) + tower_flops(shape) for t in mine["tokens"])
            yield _row("P1", f"training step of {size} pairs {ways}", "pairs/s", mine, other, flops, device)
            if mine["seconds"] and other["seconds"]:
                what = f"memory of a training step of {size} pairs {ways}"
                yield common.of_costs("P2", what, "GB", [mine["peak"] / 1e9], [other["peak"] / 1e9], device)
        else:
            flops = size * (image + tower_flops(shape))
            yield _row("P4", f"image features, {size} at a time", "images/s", mine, other, flops, device)


def _row(name: str, what: str, unit: str, mine: Found, other: Found, flops: float, device: str) -> Result:
    """A row of rates; no seconds are memory that ran out."""
    size, ours, theirs = mine["size"], mine["seconds"], other["seconds"]
    if not ours:
        empty = common.missing(name, f"{what}; radz ran out of memory", unit, device)
        return replace(empty, reference=size / theirs[0] if theirs else 0.0)
    rate = flops / sorted(ours)[len(ours) // 2]
    what += f", {rate / 1e12:.0f} TFLOP/s, {rate / MEASURED:.0%} of 790, {rate / NOMINAL:.0%} of 989"
    if theirs:
        rounds = min(len(ours), len(theirs))  # time may have been over on one side
        return common.of_times(name, what, unit, size, ours[:rounds], theirs[:rounds], device)
    alone = common.of_times(name, f"{what}; the reference ran out of memory", unit, size, ours, ours, device)
    return replace(alone, reference=0.0)


def _parity(told: list[Found], device: str) -> Iterator[Result]:
    for one in told:
        of = f"features of {CHECKED} {one['kind']} less their mean"
        what = f"1 - least cosine of bfloat16 and float32 {of}, and bound"
        yield common.of_costs("P19", what, "", [max(1 - one["cosine"], 1e-9)], [BOUND], device)
    if not told:
        yield common.missing("P19", "bfloat16 features against float32: not measured", "", device)


def _ddp(told: list[Found], device: str) -> Iterator[Result]:
    by = {one["kind"]: one for one in told}
    if "weights" not in by:
        yield common.missing("P20", "training step in DDP form: not measured", "", device)
        return
    how = f"in DDP form (one process, {by['ddp']['backend']}) against without"
    times = by["ddp"]["seconds"], by["auto"]["seconds"]
    yield common.of_times("P20", f"training step of {DDP_PAIRS} pairs {how}", "pairs/s", DDP_PAIRS, *times, device)
    what = "distance of the weights trained in DDP form and without (relative norm), and bound"
    yield common.of_costs("P20", what, "", [max(by["weights"]["apart"], 1e-12)], [BOUND], device)


def _four_bit(told: list[Found], device: str) -> Iterator[Result]:
    by = {one["kind"]: one for one in told}
    if {"4bit", "none"} <= by.keys():
        one, other, layers = by["4bit"], by["none"], f"of {FOUR_BIT_LAYERS} layers"
        what = f"training step of {one['size']} pairs on 4-bit weights against bfloat16, {layers}"
        yield common.of_times("P21", what, "pairs/s", one["size"], one["seconds"], other["seconds"], device)
        what = f"memory of 4-bit weights against bfloat16, {layers}"
        yield common.of_costs("P21", what, "GB", [one["weights"] / 1e9], [other["weights"] / 1e9], device)
    else:
        why = by.get("missing", {}).get("why", "it did not end in time")
        yield common.missing("P21", f"4-bit weights: not measured, {why}", "", device)


ROWS: dict[str, Callable[[list[Found], str], Iterator[Result]]] = {
    "parity": _parity, "ddp": _ddp, "four_bit": _four_bit
}  # fmt: skip
