"""What `method: clip` needs of a model of two towers, whichever library it comes from.

Shapes: M images, N texts, e dimension in which they are compared.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data_modules.errors import InputError
from radz.training.optimizer import LARGEST_SCALE, keep_scale

log = logging.getLogger(__name__)


class TwoTowers(nn.Module, abc.ABC):
    """An encoder of images and texts, in float32.

    Args:
        model: holds `logit_scale`, the logarithm of 1 / temperature.
        image_size: side of its images in pixels.
        context: longest text in tokens.
        width: e.
        mean, std: of the three channels, after pixels were multiplied by `factor`.
    """

    image_parts: tuple[str, ...]
    """parts of the model that see images"""
    _scale: Tensor
    _shift: Tensor

    def __init__(
        self, model: Any, image_size: int, context: int, width: int, mean: Sequence[float], std: Sequence[float],
        factor: float = 1 / 255,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model: Any = model
        self._first_scale = model.logit_scale.item()
        self.image_size, self.context, self.width = image_size, context, width
        deviation = torch.tensor(std)
        self.register_buffer("_scale", (factor / deviation)[:, None, None], persistent=False)
        self.register_buffer("_shift", (-torch.tensor(mean) / deviation)[:, None, None], persistent=False)
        self._told = False

    @abc.abstractmethod
    def images(self, pixels: Tensor) -> Tensor:
        """uint8 [M, C, S, S] (C 1 or 3) to float32 [M, e]."""

    @abc.abstractmethod
    def texts(self, texts: list[str]) -> Tensor:
        """N texts to float32 [N, e]; longer ones are cut to the context, which is said once."""

    @property
    def temperature(self) -> Tensor:
        """What similarities are divided by in training; it starts as the folder has it."""
        return (-self.model.logit_scale).exp()

    def keep_temperature(self) -> None:
        """After a step: between 1/100 and 1, as in CLIP, or as far beyond as the folder has it (SigLIP: 1/117)."""
        keep_scale(self.model.logit_scale, min(0.0, self._first_scale), max(LARGEST_SCALE, self._first_scale))

    def check_side(self, side: int) -> None:
        """InputError where images of `side` pixels do not fit the tower."""
        if side != self.image_size:
            raise InputError(
                f"data.image_size: {side} conflicts with the CLIP's {self.image_size}; set it to {self.image_size}"
            )

    def values(self, pixels: Tensor) -> Tensor:
        """uint8 [M, C, S, S] to what the image tower takes, [M, 3, S, S]."""
        return pixels.expand(-1, 3, -1, -1) * self._scale + self._shift

    def only_images(self) -> None:
        """Freeze what has no part in the features of images."""
        for name, part in self.model.named_children():
            part.requires_grad_(name in self.image_parts)
        for parameter in self.model.parameters(recurse=False):
            parameter.requires_grad_(False)

    def tell_cut(self, is_cut: Callable[[], bool]) -> None:
        """Say, once, that texts are cut; `is_cut` is asked until it is so."""
        if not self._told and is_cut():
            self._told = True
            log.warning("clip: texts of more than %d tokens are cut to the context of the model", self.context)
