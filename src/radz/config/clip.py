"""The section `clip` of the experiment schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from data_modules.errors import InputError
from radz.config.checks import Count, NotNegative, Positive, Share, at_least, check_fields, check_heads, seed_range


@dataclass
class TinyClipConfig:
    """Shape of the CLIP that is written and trained where `clip.path` is empty; its image side is data.image_size."""

    patch_size: Count = 16
    """side of one patch in pixels"""
    vision_width: Count = 256
    """hidden size of the image tower"""
    vision_layers: Count = 2
    """layers of the image tower"""
    width: Count = 64
    """hidden size of the text tower"""
    layers: Count = 6
    """layers of the text tower"""
    heads: Count = 2
    """attention heads of both towers"""
    projection: Count = 64
    """dimension in which images and texts are compared"""
    vocabulary: Annotated[int, at_least(300)] = 2000
    """BPE tokens learned from the phantom's training reports"""
    context: Annotated[int, at_least(8)] = 128
    """longest text in tokens"""
    seed: Annotated[int | None, seed_range] = None
    """of the random weights; empty: the run's `seed`"""


@dataclass
class ClipConfig:
    """`method: clip`, a CLIP or SigLIP folder with the prompts of `scoring`, as it is or trained on the same pairs."""

    path: str | None = None
    """folder or hub id of type clip or siglip, or a folder of open_clip; empty: the tiny one, which needs `train`"""
    train: bool = False
    """train both towers on images and texts (contrastive, negatives of all processes); false scores zero-shot"""
    tiny: TinyClipConfig = field(default_factory=TinyClipConfig)
    learning_rate: NotNegative = 5e-4
    """highest rate of AdamW"""
    weight_decay: NotNegative = 0.1
    """of AdamW"""
    warmup: Share = 0.1
    """share of the steps over which the rate rises; then it falls to 0 as a cosine"""
    gradient_clip: Positive = 1.0
    """largest norm of the gradient of a step"""

    def check(self, image_size: int) -> None:
        """InputError for settings that cannot be used; called only where the method is clip."""
        check_fields("clip.", self)
        if self.path is not None:
            return
        check_fields("clip.tiny.", self.tiny)
        check_heads("clip.tiny.", self.tiny)
        if image_size % self.tiny.patch_size:
            raise InputError(
                f"clip.tiny.patch_size: {self.tiny.patch_size} does not divide data.image_size={image_size}"
            )
