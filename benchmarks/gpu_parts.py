"""The parts of `radz bench device=gpu`, each a process: `python -m benchmarks.gpu_parts SHAPE DEVICE UNTIL PART ..`.

A part prints what it measured as JSON, a line each and at once, and begins nothing new after UNTIL, in seconds since
1970.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import common, shapes, sides
from benchmarks.reference import Reference, train_step
from benchmarks.shapes import SHAPES, Shape

TRAIN, SHOT, STEPS = (8, 16, 32), (1, 16, 64), 6
"""Pairs and images of a batch; times of each, of which the first warms up."""
CHECKED, BOUND, DDP_PAIRS, DDP_STEPS, FOUR_BIT_LAYERS = 16, 1e-3, 8, 3, 4
"""Features compared; what they and trained weights may differ by; pairs and steps in DDP form; layers in 4 bits."""
BF16 = torch.bfloat16
Found = dict[str, Any]
Prepare = Callable[[Any, Shape, int, str], Callable[[], object]]


@contextmanager
def made(shape: Shape, device: str, dtype: torch.dtype) -> Iterator[tuple[Path, Any]]:
    """A folder whose weights are made on `device` instead of being read, and the model itself."""
    from transformers import LlavaForConditionalGeneration

    with tempfile.TemporaryDirectory() as name:
        folder = shapes.write_tokenizer(Path(name), shape)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        torch.manual_seed(0)
        try:
            with torch.device(device):
                model = LlavaForConditionalGeneration._from_config(shape.config(), attn_implementation="sdpa")
        finally:
            torch.set_default_dtype(before)
        report: Found = {"mismatched_keys": [], "missing_keys": [], "unexpected_keys": []}
        with patch.object(LlavaForConditionalGeneration, "from_pretrained", lambda *_, **__: (model, report)):
            yield folder, model


def radz(shape: Shape, device: str, **backbone: Any) -> Any:
    """radz's module around a model made on `device`, in bfloat16 on a GPU as a run has it there."""
    settings = sides.experiment("backbone.depth=feature")
    with made(shape, device, BF16 if device == "cuda" else torch.float32) as (folder, _):
        return sides.module(sides.encoder(folder, settings, **backbone), settings).to(device).train()


def side(shape: Shape, device: str, until: float, name: str, how: str) -> Iterator[Found]:
    """Seconds and peak bytes of training steps, and without checkpointing of image features."""
    checkpointing = how == "checkpointing"
    if name == "radz":
        one = radz(shape, device, gradient_checkpointing=checkpointing)
    else:
        with made(shape, device, BF16 if device == "cuda" else torch.float32) as (folder, model):
            one = sides.reference_of(model, folder, sides.experiment().dfat, checkpointing).to(device).train()
    for pairs in TRAIN:
        found = _guarded(_train, one, shape, pairs, device, until)
        yield {"kind": "train", "size": pairs, "tokens": _tokens(one, shape, pairs), **found}
    one.eval()
    for images in () if checkpointing else SHOT:
        yield {"kind": "shot", "size": images, **_guarded(_shot, one, shape, images, device, until)}


def _guarded(prepare: Prepare, one: Any, shape: Shape, size: int, device: str, until: float) -> Found:
    """Seconds of up to STEPS - 1 calls of what `prepare` makes of the other arguments, none where memory runs out."""
    times: list[float] = []
    try:
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step = prepare(one, shape, size, device)
        while len(times) < 2 or (len(times) < STEPS and time.time() < until):
            _wait(device)
            with _autocast(device):
                begun = time.perf_counter()
                step()
                _wait(device)
            times.append(time.perf_counter() - begun)
    except torch.OutOfMemoryError:
        times = []
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else common.resident()
    return {"seconds": times[1:], "peak": peak}


def _autocast(device: str) -> Any:
    return torch.autocast(device, BF16) if device == "cuda" else nullcontext()


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
        return torch.no_grad()(lambda: one.image_features(batch.pixels, sides.INSTRUCTION))
    modalities = [sides.MODALITY] * images
    return torch.no_grad()(lambda: one.encoder.encode_images(batch.pixels, batch.image_counts, modalities))


def _tokens(one: Any, shape: Shape, pairs: int) -> list[int]:
    """Real tokens of each report, the modality tokens and BOS included."""
    tokenizer = one.tokenizer if isinstance(one, Reference) else one.encoder.backbone.tokenizer
    return [len(row) + 9 for row in tokenizer(shapes.batch(pairs, shape).reports, add_special_tokens=False).input_ids]


def parity(shape: Shape, device: str, until: float) -> Iterator[Found]:
    """The least cosine of features in bfloat16, as in a run, with those of the same weights in float32 throughout."""
    settings = sides.experiment("backbone.depth=feature")
    with made(shape, device, BF16) as (folder, _):
        one = sides.encoder(folder, settings, dtype="bfloat16").to(device).eval()
    batch = shapes.batch(CHECKED, shape).to(device)
    with torch.autocast(device, BF16):
        rough = _features(one, batch)
    torch.backends.cudnn.allow_tf32 = False
    exact = _features(one.float(), batch)
    for kind, features in exact.items():
        ours, theirs = (part - part.mean(0) for part in (rough[kind].float(), features))
        yield {"kind": kind, "cosine": torch.cosine_similarity(ours, theirs).min().item()}


@torch.no_grad()
def _features(one: Any, batch: Any) -> dict[str, Tensor]:
    """Raw global features [N, e] of images and reports, eight at a time: float32 needs four times the memory."""
    eights = [slice(start, start + 8) for start in range(0, CHECKED, 8)]
    pairs = [(batch.pixels[part], batch.image_counts[part]) for part in eights]
    images = [one.encode_images(*pair, [sides.MODALITY] * len(pair[1]), raw=True).overall for pair in pairs]
    return {"images": torch.cat(images), "reports": one.encode_texts(batch.reports, most=8, raw=True).overall}


def ddp(shape: Shape, device: str, until: float) -> Iterator[Found]:
    """The same steps by a Trainer without and with its DDP strategy in one process."""
    from benchmarks.train import Clock, fit

    place: Found = {"accelerator": "gpu", "precision": "bf16-mixed"} if device == "cuda" else {}
    batch, weights = shapes.batch(DDP_PAIRS, shape), []
    for strategy in ("auto", "ddp"):
        module, clock = radz(shape, device), Clock({})
        fit(module, batch, DDP_STEPS, clock, strategy=strategy, **place)
        weights.append(torch.cat([p.detach().flatten().cpu() for p in module.parameters() if p.requires_grad]))
        backend = torch.distributed.get_backend() if strategy == "ddp" else "none"
        yield {"kind": strategy, "seconds": clock.rounds("radz"), "backend": backend}
        del module
        if device == "cuda":
            torch.cuda.empty_cache()
    yield {"kind": "weights", "apart": ((weights[1] - weights[0]).norm() / weights[0].norm()).item()}


def four_bit(shape: Shape, device: str, until: float) -> Iterator[Found]:
    """Bytes of the model and seconds of a step on 4-bit and on bfloat16 weights, read from a folder of a few layers."""
    if device != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        yield {"kind": "missing", "why": "bitsandbytes is not installed" if device == "cuda" else "there is no GPU"}
        return
    cut, settings = replace(shape, layers=FOUR_BIT_LAYERS), sides.experiment("backbone.depth=feature")
    with tempfile.TemporaryDirectory() as name:
        folder = shapes.write_tokenizer(Path(name), cut)
        with made(cut, device, BF16) as (_, model):
            model.save_pretrained(folder)
            del model
        for quantize in ("none", "4bit"):
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated()
            encoder = sides.encoder(folder, settings, quantize=quantize, dtype="bfloat16").to(device)
            module = sides.module(encoder, settings).to(device).train()
            weights = torch.cuda.memory_allocated() - before
            found = _guarded(_train, module, cut, DDP_PAIRS, device, until)
            yield {"kind": quantize, "size": DDP_PAIRS, "weights": weights, **found}
            del encoder, module


def main(arguments: list[str]) -> None:
    """Print what a part tells until its time is over."""
    shape, device, end, part, *rest = arguments
    until = float(end)
    parts: dict[str, Callable[..., Iterator[Found]]] = {"parity": parity, "ddp": ddp, "four_bit": four_bit}
    told = parts[part](SHAPES[shape], device, until) if part in parts else side(
        SHAPES[shape], device, until, part, *rest
    )  # fmt: skip
    for one in told:
        sys.stdout.write(json.dumps(one) + "\n")
        sys.stdout.flush()
        if time.time() > until:
            break


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main(sys.argv[1:])
