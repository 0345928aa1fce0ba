"""Where the time of P6 goes on 14 long descriptions: `python -m benchmarks.anchor_profile` prints the table.

Torch's profiler on one thread, time of each operation without those that it calls.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from benchmarks.embed import both
from benchmarks.reference import anchors_by_class
from radz.config.files import find_resource
from radz.config.schema import DkamConfig
from radz.models.descriptions import load_descriptions

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addmm_"),
    "attention": ("aten::_scaled_dot_product",),
    "copies and joins": ("aten::copy_", "aten::cat", "aten::clone", "aten::index"),
}
"""kinds of work, and how the names of their operations begin; the rest are elementwise operations, sums and calls"""
REST, ROUNDS = "elementwise, sums, calls", 5


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of each kind of work, the median of ROUNDS after one to warm up."""
    work()
    found: dict[str, list[float]] = {kind: [] for kind in (*KINDS, REST)}
    for _ in range(ROUNDS):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            work()
        times: Counter[str] = Counter()
        for event in profile.key_averages():
            kind = next((name for name, begins in KINDS.items() if event.key.startswith(begins)), REST)
            times[kind] += event.self_cpu_time_total / 1e3
        for kind, values in found.items():
            values.append(times[kind])
    return {kind: statistics.median(values) for kind, values in found.items()}


def table(texts: Sequence[str]) -> list[str]:
    """Lines of the table for anchors of these descriptions."""
    with both() as (encoder, plain, _):
        lengths = [len(row) for row in encoder.backbone.tokenizer(list(texts)).input_ids]
        ours = shares(lambda: encoder.encode_descriptions(list(texts), "decoder"))
        theirs = shares(lambda: anchors_by_class(plain, texts))
    lines = [
        f"{len(texts)} descriptions of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all:", "",
        "| milliseconds of | radz | share | reference | share |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for kind in (*ours, "all"):
        values = [(sum(side.values()) if kind == "all" else side[kind], sum(side.values())) for side in (ours, theirs)]
        lines.append(f"| {kind} | " + " | ".join(f"{part:.0f} | {part / whole:.0%}" for part, whole in values) + " |")
    return lines


def main() -> None:
    """Profile the first 14 of the shipped descriptions."""
    torch.set_num_threads(1)
    shipped = load_descriptions(find_resource("descriptions/chest_xray.yaml"))
    texts = [one.text(DkamConfig().aspects) for one in list(shipped.values())[:14]]
    sys.stdout.write("\n".join(table(texts)) + "\n")


if __name__ == "__main__":
    main()
