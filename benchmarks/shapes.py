"""The model and the batches that the benchmarks measure on: a 32-layer LLaVA in small, or a 7B one on a GPU.

The small shape keeps what decides a ratio: the head weighs as much beside a layer as in Mistral-7B (vocabulary 2000 at
width 256), the tower as much beside the decoder, and an image has about four times the tokens of a report, as the 576
patches of LLaVA-1.5 beside reports of 149 tokens. Reports have the log-normal lengths of `REPORT_WORDS`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_modules.batch import StudyBatch
from data_modules.phantom.report import training_reports
from data_modules.reports import digest64
from radz.backbones.tiny import write_tiny
from radz.config.schema import TinyConfig


@dataclass(frozen=True)
class Shape:
    """Sizes of a LLaVA; tokens of an image are (image_size / patch_size) squared."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    vision_layers: int
    vision_width: int
    vision_heads: int
    image_size: int
    patch_size: int
    words: tuple[float, float, int]
    """median of the words of a report, spread of their logarithm, longest"""
    context: int = 2048

    @property
    def patches(self) -> int:
        """Tokens of an image."""
        return (self.image_size // self.patch_size) ** 2

    def config(self) -> Any:
        """The transformers configuration of this shape (a Mistral decoder, a CLIP tower)."""
        from transformers import CLIPVisionConfig, LlavaConfig, MistralConfig

        vision = CLIPVisionConfig(
            hidden_size=self.vision_width, intermediate_size=4 * self.vision_width,
            num_hidden_layers=self.vision_layers, num_attention_heads=self.vision_heads, image_size=self.image_size,
            patch_size=self.patch_size, projection_dim=self.vision_width,
        )  # fmt: skip
        text = MistralConfig(
            vocab_size=self.vocabulary, hidden_size=self.width, intermediate_size=self.inner,
            num_hidden_layers=self.layers, num_attention_heads=self.heads, num_key_value_heads=self.kv_heads,
            head_dim=self.width // self.heads, max_position_embeddings=self.context, sliding_window=None,
            bos_token_id=1, eos_token_id=2, pad_token_id=3,
        )  # fmt: skip
        return LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-2,
            vision_feature_select_strategy="default", image_seq_length=self.patches,
        )  # fmt: skip


TINY = Shape(32, 256, 896, 8, 2, 2000, 6, 128, 4, 96, 8, (26.0, 0.6, 140))
"""The tiny model of the benchmarks: 27 M parameters, 144 tokens an image, reports of about 38 tokens."""
SEVEN_B = Shape(32, 4096, 14336, 32, 8, 32000, 24, 1024, 16, 336, 14, (60.0, 0.6, 240))
"""LLaVA-Med v1.5: Mistral-7B and CLIP ViT-L/14-336. Never written to disk (see benchmarks/gpu.py)."""
SMOLLM2 = Shape(30, 576, 1536, 9, 3, 49152, 4, 256, 4, 128, 16, (26.0, 0.6, 140))
"""SmolLM2-135M with the tower that `make backbone NAME=smollm2` gives it: 64 tokens an image. Its head has weights of
its own here: one that is the embeddings' costs the reference more, since PEFT copies such a table in every pass."""
SMALL = Shape(4, 64, 96, 4, 2, 2000, 3, 32, 4, 32, 8, (26.0, 0.6, 140))
"""What a test has time for."""
SHAPES = {"tiny": TINY, "7b": SEVEN_B, "smollm2": SMOLLM2, "small": SMALL}
LORA = {"lora_rank": 16, "lora_alpha": 32}
FINDINGS = tuple(f"finding_{k}" for k in range(14))


def write_folder(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """A Hugging Face folder of random weights of this shape, with the tokenizer of the phantom's reports."""
    from transformers import LlavaForConditionalGeneration

    write_tokenizer(folder, shape)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    LlavaForConditionalGeneration(shape.config()).save_pretrained(folder)
    torch.random.set_rng_state(state)
    return folder


def write_tokenizer(folder: Path, shape: Shape) -> Path:
    """A folder of this shape's configuration and image processor, the tokenizer of the phantom's reports, and weights
    of another shape, which nobody reads."""
    small = TinyConfig(image_size=shape.image_size, patch_size=shape.patch_size, vocabulary=2000)
    write_tiny(folder, small, training_reports(1000))
    config = shape.config()
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(folder)
    return folder


def report_texts(count: int, words: tuple[float, float, int], seed: int = 0) -> list[str]:
    """Distinct reports of log-normal length, cut from a stream of the phantom's reports."""
    rng = np.random.default_rng(seed)
    median, spread, longest = words
    lengths = np.exp(rng.normal(np.log(median), spread, count)).round().clip(6, longest).astype(int)
    source = " ".join(training_reports(2000, seed)).split()
    stream = itertools.cycle(source[int(rng.integers(len(source))) :] + source)
    return [" ".join(itertools.islice(stream, int(length))) for length in lengths]


def batch(count: int, shape: Shape, seed: int = 0) -> StudyBatch:
    """`count` studies of one image each, with reports and labels in all four states."""
    rng = np.random.default_rng(seed)
    texts = report_texts(count, shape.words, seed)
    side = shape.image_size
    return StudyBatch(
        pixels=torch.from_numpy(rng.integers(0, 256, (count, 1, side, side), dtype=np.uint8)),
        image_counts=torch.ones(count, dtype=torch.long),
        reports=texts,
        text_digest=torch.tensor([digest64(text) for text in texts]),
        label_states=torch.from_numpy(rng.choice(4, (count, len(FINDINGS)), p=(0.2, 0.6, 0.1, 0.1)).astype(np.int8)),
        corpus=torch.zeros(count, dtype=torch.long),
        rows=torch.arange(count),
        repeats=torch.zeros(count, dtype=torch.long),
    )
