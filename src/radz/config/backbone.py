"""The backbone section of an experiment; `radz.config` composes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from data_modules.errors import InputError
from radz.config.checks import Count, Share, at_least, check_fields, check_heads, seed_range, words

TINY = ("llava", "llava_next", "qwen2_5_vl", "gemma3", "qwen3_vl", "llava_onevision", "internvl", "smolvlm")
"""families of the tiny backbone"""


@dataclass
class TinyConfig:
    """Shape of the random backbone that is written and used when `backbone.path` is null."""

    family: Annotated[
        str, words("llava", "llava_next", "qwen2_5_vl", "gemma3", "qwen3_vl", "llava_onevision", "internvl", "smolvlm")
    ] = "llava"
    """llava | llava_next | qwen2_5_vl | gemma3 | qwen3_vl | llava_onevision | internvl | smolvlm"""
    image_size: Count = 128
    """input side in pixels"""
    patch_size: Count = 16
    """side of one patch in pixels"""
    vision_width: Count = 96
    """hidden size of the CLIP tower"""
    vision_layers: Annotated[int, at_least(2)] = 4
    """layers of the tower; LLaVA reads the last but one, so one fewer is computed"""
    width: Count = 96
    """hidden size of the decoder"""
    layers: Annotated[int, at_least(6)] = 6
    """layers of the decoder; the features come from the last but one"""
    heads: Count = 4
    """attention heads of tower and decoder"""
    vocabulary: Count = 1200
    """BPE tokens learned from the phantom's training reports"""
    context: Count = 512
    """longest sequence in tokens"""
    seed: Annotated[int | None, seed_range] = None
    """of the random weights; empty: the run's `seed`"""

    def check(self) -> None:
        """InputError for a shape that cannot be built; called only where the tiny backbone is used."""
        check_fields("backbone.tiny.", self)
        check_heads("backbone.tiny.", self)
        # Some families cut the image into 2 x 2 tiles, others merge or average 2 x 2 patches.
        unit = self.patch_size * (1 if self.family == "llava" else 2)
        if self.image_size % unit:
            times = "" if self.family == "llava" else "twice "
            raise InputError(f"backbone.tiny.image_size: must be a multiple of {times}backbone.tiny.patch_size")


@dataclass
class BackboneConfig:
    """Which multimodal model is used and which of its parts train."""

    path: str | None = None
    """Hugging Face folder, or hub id `org/name[@revision]`; null writes and uses the tiny random backbone, and an empty
    text, which recipes/paper has where the environment has no RADZ_BACKBONE, is one that is still to be named"""
    family: str = ""
    """family that the folder must be of, such as llava or qwen2_5_vl, which recipes name; empty: any"""
    tiny: TinyConfig = field(default_factory=TinyConfig)
    modality_tokens: Annotated[str, words("add", "keep")] = "add"
    """add (to a backbone that has none) | keep (those in the backbone/ of an exported folder, to train it further)"""
    feature_layer: int = -2
    """index into `hidden_states` in Hugging Face counting (docs/method.md 2.3)"""
    image_pool: int = 1
    """neighbouring image tokens averaged to one: 1, 4 (2 x 2) or 9 (3 x 3); 32 CT slices need it to fit a decoder"""
    depth: Annotated[str, words("feature", "full")] = "feature"
    """feature (compute no further than feature_layer) | full"""
    train: Annotated[str, words("lora", "full", "frozen")] = "lora"
    """decoder: lora | full | frozen"""
    train_projector: bool = True
    """train the projector from image to word embeddings"""
    train_tower: bool = False
    """train the vision tower, but for what has no part in the features"""
    lora_rank: Count = 128
    """rank of LoRA on the projections of every decoder layer"""
    lora_alpha: Count = 256
    """scale of LoRA: its update counts alpha / rank"""
    lora_dropout: Share = 0.0
    """share of LoRA's inputs that are dropped in training"""
    dtype: Annotated[str, words("auto", "float32", "bfloat16")] = "auto"
    """of frozen weights: auto (bfloat16 on GPUs, float32 on CPU) | float32 | bfloat16"""
    padding: Annotated[str, words("right", "left")] = "right"
    """right | left; features do not depend on it"""
    quantize: Annotated[str, words("none", "4bit")] = "none"
    """weights of the decoder: none | 4bit (nf4, needs bitsandbytes and an NVIDIA GPU)"""
    gradient_checkpointing: bool = False
    """compute every decoder layer twice: least memory"""
    compile: bool = False
    """compile the decoder's layers with torch.compile: minutes once, then faster steps"""
    recompute: Annotated[str, words("elementwise", "none")] = "elementwise"
    """elementwise (norms and gates of the decoder are computed twice: a third less memory, hardly any time) | none"""

    def __post_init__(self) -> None:
        check_fields("backbone.", self)
        if self.quantize == "4bit" and self.train == "full":
            raise InputError("backbone.quantize: 4bit conflicts with backbone.train=full; use backbone.train=lora")
        if self.image_pool not in (1, 4, 9):
            raise InputError(f"backbone.image_pool={self.image_pool}: must be 1, 4 or 9")
        if self.path is None:
            self.tiny.check()
