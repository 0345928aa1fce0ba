"""The backbone section of an experiment; `radz.config` composes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.corpus_config import in_range, one_of
from data_modules.errors import InputError
from radz.config_checks import seed_range, share


@dataclass
class TinyConfig:
    """Shape of the random backbone that is written and used when `backbone.path` is empty."""

    family: str = "llava"
    """llava | llava_next | qwen2_5_vl | gemma3"""
    image_size: int = 128
    """input side in pixels"""
    patch_size: int = 16
    """side of one patch in pixels"""
    vision_width: int = 96
    """hidden size of the CLIP tower"""
    vision_layers: int = 4
    """layers of the tower; LLaVA reads the last but one, so one fewer is computed"""
    width: int = 96
    """hidden size of the decoder"""
    layers: int = 6
    """layers of the decoder; the features come from the last but one"""
    heads: int = 4
    """attention heads of tower and decoder"""
    vocabulary: int = 1200
    """BPE tokens learned from the phantom's training reports"""
    context: int = 512
    """longest sequence in tokens"""
    seed: int = 0
    """seed of the random weights"""

    def check(self) -> None:
        """InputError for a shape that cannot be built; called only where the tiny backbone is used."""
        in_range("backbone.tiny.layers", self.layers, 6)
        in_range("backbone.tiny.vision_layers", self.vision_layers, 2)
        one_of("backbone.tiny.family", self.family, ("llava", "llava_next", "qwen2_5_vl", "gemma3"))
        for key in ("image_size", "patch_size", "vision_width", "width", "heads", "vocabulary", "context"):
            in_range(f"backbone.tiny.{key}", getattr(self, key), 1)
        seed_range("backbone.tiny.seed", self.seed)
        for key in ("vision_width", "width"):
            if getattr(self, key) % (2 * self.heads):
                raise InputError(f"backbone.tiny.{key}: must be a multiple of {2 * self.heads} (twice the heads)")
        # LLaVA-NeXT cuts the image into 2 x 2 tiles; Qwen2.5-VL merges and Gemma 3 averages 2 x 2 patches.
        unit = self.patch_size * (1 if self.family == "llava" else 2)
        if self.image_size % unit:
            times = "" if self.family == "llava" else "twice "
            raise InputError(f"backbone.tiny.image_size: must be a multiple of {times}backbone.tiny.patch_size")


@dataclass
class BackboneConfig:
    """Which multimodal model is used and which of its parts train."""

    path: str | None = None
    """Hugging Face folder, or hub id `org/name[@revision]`; empty writes and uses the tiny random backbone"""
    tiny: TinyConfig = field(default_factory=TinyConfig)
    modality_tokens: str = "add"
    """add (to a backbone that has none) | keep (those in the backbone/ of an exported folder, to train it further)"""
    feature_layer: int = -2
    """index into `hidden_states` in Hugging Face counting (method.md 2.3)"""
    image_pool: int = 1
    """neighbouring image tokens averaged to one: 1, 4 (2 x 2) or 9 (3 x 3); 32 CT slices need it to fit a decoder"""
    depth: str = "feature"
    """feature (compute no further than feature_layer) | full"""
    train: str = "lora"
    """decoder: lora | full | frozen"""
    train_projector: bool = True
    train_tower: bool = False
    lora_rank: int = 128
    lora_alpha: int = 256
    lora_dropout: float = 0.0
    dtype: str = "auto"
    """of frozen weights: auto (bfloat16 on GPUs, float32 on CPU) | float32 | bfloat16"""
    padding: str = "right"
    """right | left; features do not depend on it"""
    quantize: str = "none"
    """weights of the decoder: none | 4bit (nf4, needs bitsandbytes and an NVIDIA GPU)"""
    gradient_checkpointing: bool = False
    """compute every decoder layer twice: least memory"""
    compile: bool = False
    """compile the decoder's layers with torch.compile: minutes once, then faster steps"""
    recompute: str = "elementwise"
    """elementwise (norms and gates of the decoder are computed twice: a third less memory, hardly any time) | none"""

    def __post_init__(self) -> None:
        one_of("backbone.train", self.train, ("lora", "full", "frozen"))
        one_of("backbone.modality_tokens", self.modality_tokens, ("add", "keep"))
        one_of("backbone.depth", self.depth, ("feature", "full"))
        one_of("backbone.dtype", self.dtype, ("auto", "float32", "bfloat16"))
        one_of("backbone.padding", self.padding, ("right", "left"))
        one_of("backbone.quantize", self.quantize, ("none", "4bit"))
        if self.quantize == "4bit" and self.train == "full":
            raise InputError("backbone.quantize: 4bit conflicts with backbone.train=full; use backbone.train=lora")
        one_of("backbone.recompute", self.recompute, ("elementwise", "none"))
        if self.image_pool not in (1, 4, 9):
            raise InputError(f"backbone.image_pool={self.image_pool}: must be 1, 4 or 9")
        in_range("backbone.lora_rank", self.lora_rank, 1)
        in_range("backbone.lora_alpha", self.lora_alpha, 1)
        share("backbone.lora_dropout", self.lora_dropout)
        if self.path is None:
            self.tiny.check()
