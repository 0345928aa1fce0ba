"""The benchmarks' model, small enough for a test."""

from dataclasses import replace

from benchmarks.shapes import TINY

SMALL = replace(
    TINY, layers=4, width=64, inner=96, heads=4, kv_heads=2, vision_layers=3, vision_width=32, image_size=32
)  # fmt: skip
