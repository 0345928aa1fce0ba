"""Seeded augmentation on the batch's device; an image's draw depends on seed, epoch, study row, how often the epoch
has drawn the study before, and image number only."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from data_modules.config import Augment

# splitmix64 (Steele, Lea, Flood 2014), its constants as signed 64-bit numbers.
_GAMMA, _MIX_1, _MIX_2 = (c - (1 << 64) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _mix(x: Tensor) -> Tensor:
    """int64 -> int64, bijective; torch shifts arithmetically, so the sign bits are masked off."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MIX_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MIX_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def uniform(studies: Tensor, numbers: Tensor, epoch: int, seed: int, count: int) -> Tensor:
    """Return float64 [M, count] in [0, 1): a counter-based generator, so no draw depends on another image.

    `studies` and `numbers`: int64 [M], study row and image number within the study.
    """
    state = torch.zeros_like(studies)
    for part in (torch.full_like(studies, seed), torch.full_like(studies, epoch), studies, numbers):
        state = _mix(state * 31 + part + _GAMMA)
    draws = state[:, None] + _GAMMA * torch.arange(1, count + 1, device=studies.device)
    return ((_mix(draws) >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def image_numbers(studies: Tensor, repeats: Tensor) -> Tensor:
    """Return int64 [M]: 0, 1, .. within each run of equal entries of `studies` and `repeats` [M]."""
    position = torch.arange(len(studies), device=studies.device)
    starts = torch.ones_like(studies, dtype=torch.bool)
    starts[1:] = (studies[1:] != studies[:-1]) | (repeats[1:] != repeats[:-1])
    return position - torch.cummax(torch.where(starts, position, 0), dim=0).values


def augment(
    pixels: Tensor, studies: Tensor, repeats: Tensor, together: Tensor, epoch: int, seed: int, config: Augment
) -> Tensor:
    """Return uint8 [M, C, H, W]: rotated, scaled, shifted, brightness and contrast changed; black beyond the border.

    `studies`: int64 [M], the study row of each image; images of a study follow one another. `repeats`: int64 [M],
    how often the epoch has drawn the study before. `together`: bool [M], images that all share the change of their
    study's first, as the slices of a volume do.
    """
    if not config.enabled or not len(pixels):
        return pixels
    # Beyond all image numbers, and nothing where a study is drawn once.
    numbers = torch.where(together, 0, image_numbers(studies, repeats)) + (repeats << 32)
    draws = uniform(studies, numbers, epoch, seed, 7).to(torch.float32)
    signed = 2.0 * draws - 1.0
    angle = signed[:, 0] * math.radians(config.rotate_degrees)
    least, greatest = config.scale
    magnify = least + (greatest - least) * draws[:, 1]
    mirror = torch.where(draws[:, 6] < 0.5, -1.0, 1.0) if config.flip else torch.ones_like(angle)
    # affine_grid maps output to input in [-1, 1], where the side is 2 long: hence the inverse scale and the factor 2.
    cosine, sine = torch.cos(angle) / magnify, torch.sin(angle) / magnify
    shift = 2.0 * config.translate * signed[:, 2:4]
    theta = torch.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], dim=1).view(-1, 2, 3)
    # A rotation in relative units would shear a tall image: `fit` has made all images square.
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    gain = (1.0 + config.contrast * signed[:, 4]).view(-1, 1, 1, 1)
    bias = (255.0 * config.brightness * signed[:, 5]).view(-1, 1, 1, 1)
    return ((moved - 127.5) * gain + 127.5 + bias).round_().clamp_(0, 255).to(torch.uint8)
