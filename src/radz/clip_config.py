"""The section `clip` of the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_modules.corpus_config import in_range
from data_modules.errors import InputError
from radz.config_checks import above_zero, seed_range, share


@dataclass
class TinyClipConfig:
    """Shape of the CLIP that is written and trained where `clip.path` is empty; its image side is data.image_size."""

    patch_size: int = 16
    """side of one patch in pixels"""
    vision_width: int = 256
    """hidden size of the image tower"""
    vision_layers: int = 2
    width: int = 64
    """hidden size of the text tower"""
    layers: int = 6
    """layers of the text tower"""
    heads: int = 2
    """attention heads of both towers"""
    projection: int = 64
    """dimension in which images and texts are compared"""
    vocabulary: int = 2000
    """BPE tokens learned from the phantom's training reports"""
    context: int = 128
    """longest text in tokens"""
    seed: int = 0
    """seed of the random weights"""


@dataclass
class ClipConfig:
    """`method: clip`, a CLIP or SigLIP folder with the prompts of `scoring`, as it is or trained on the same pairs."""

    path: str | None = None
    """folder or hub id of type clip or siglip, or a folder of open_clip; empty: the tiny one, which needs `train`"""
    train: bool = False
    """train both towers on images and texts (contrastive, negatives of all processes); false scores zero-shot"""
    tiny: TinyClipConfig = field(default_factory=TinyClipConfig)
    learning_rate: float = 5e-4
    """highest rate of AdamW"""
    weight_decay: float = 0.1
    warmup: float = 0.1
    """share of the steps over which the rate rises; then it falls to 0 as a cosine"""
    gradient_clip: float = 1.0

    def check(self, image_size: int) -> None:
        """InputError for settings that cannot be used; called only where the method is clip."""
        for key in ("learning_rate", "weight_decay"):
            in_range(f"clip.{key}", getattr(self, key), 0)
        share("clip.warmup", self.warmup)
        above_zero("clip.gradient_clip", self.gradient_clip)
        if self.path is not None:
            return
        for key in ("patch_size", "vision_width", "vision_layers", "width", "layers", "heads", "projection"):
            in_range(f"clip.tiny.{key}", getattr(self.tiny, key), 1)
        in_range("clip.tiny.vocabulary", self.tiny.vocabulary, 300)
        in_range("clip.tiny.context", self.tiny.context, 8)
        seed_range("clip.tiny.seed", self.tiny.seed)
        for key in ("vision_width", "width"):
            if getattr(self.tiny, key) % (2 * self.tiny.heads):
                raise InputError(f"clip.tiny.{key}: must be a multiple of {2 * self.tiny.heads} (twice the heads)")
        if image_size % self.tiny.patch_size:
            raise InputError(
                f"clip.tiny.patch_size: {self.tiny.patch_size} does not divide data.image_size={image_size}"
            )
