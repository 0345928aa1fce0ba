"""Where the weights of the tiny LLaVA start: random, but structured as small networks are known to need it.

A tower that starts from noise must learn oriented edges and blobs at every place of a patch anew, which a few thousand
radiographs do not teach. Fixed wavelets, rectified and pooled, followed by learned layers, make up for data (Oyallon,
Belilovsky and Zagoruyko 2017, arXiv 1703.08961). A CLIP layer can hold them, since its MLP sees whole patches:

- patch projection: the lowest cosines of a patch; position embedding: the lowest cosines of the image
- MLP of the first tower layer: blobs and Gabor wavelets at many places of a patch, rectified by the activation, then
  summed over each quarter of the patch into channels of their own
- projector: hands the position on unchanged, mixes the rest at random
- MLPs of the decoder: the gate reads where a patch lies, the other branch what it holds, so that the mean over the
  patches still knows what lay where

The residual stream of the tower is [cosines | position | pooled wavelets], that of the decoder [content | position].
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from radz.config.schema import TinyConfig

POSITION_SIZE = 0.5
SUBDIVISION = 2  # pooled quarters: 2 x 2 of a patch


@torch.no_grad()
def structured_start(model: Any, config: TinyConfig) -> None:
    """Fill the weights of a LlavaForConditionalGeneration of this shape; uses torch's global generator."""
    structured_tower(model.model.vision_tower, config.image_size, config.patch_size, config.vision_width)
    place, pooled = _channels(config.vision_width)
    content = config.vision_width - place - pooled
    _projector(model.model.multi_modal_projector, slice(content, content + place), config.width // 8)
    for layer in model.model.language_model.layers:
        _decoder_layer(layer, config.layers, config.width // 8)


@torch.no_grad()
def structured_tower(tower: Any, image_size: int, patch_size: int, width: int) -> None:
    """Fill the weights of a CLIP vision model of this shape."""
    side = image_size // patch_size
    place, pooled = _channels(width)
    content = width - place - pooled
    basis = _cosines(patch_size, content)
    gain = _gain(patch_size, content)
    patch = torch.zeros_like(tower.embeddings.patch_embedding.weight)
    patch[:content] = (basis * gain[:, None, None] / 3)[:, None] * 2 / math.sqrt(patch_size)
    tower.embeddings.patch_embedding.weight.copy_(patch)
    position = torch.zeros_like(tower.embeddings.position_embedding.weight)
    position[1:, content : content + place] = POSITION_SIZE * side * _cosines(side, place).flatten(1).T
    tower.embeddings.position_embedding.weight.copy_(position)
    for layer in tower.encoder.layers:
        _near_identity(layer.self_attn)
    _wavelet_layer(tower.encoder.layers[0].mlp, basis / gain[:, None, None], pooled)
    _unit_variance(tower, len(_wavelets(patch_size)[0]), pooled)


def _channels(width: int) -> tuple[int, int]:
    """Of the tower's stream, how many hold the position and how many the pooled wavelets."""
    return width // 8, width // 4


def _cosines(side: int, count: int) -> Tensor:
    """[count, side, side]: the lowest orthonormal two-dimensional cosines; zero beyond side * side."""
    grid = (torch.arange(side) + 0.5) * math.pi / side
    waves = torch.stack([torch.cos(k * grid) for k in range(side)])
    waves /= waves.norm(dim=1, keepdim=True)
    cosines = torch.zeros(count, side, side)
    for i, (u, v) in enumerate(_order(side)[:count]):
        cosines[i] = torch.outer(waves[u], waves[v])
    return cosines


def _order(side: int) -> list[tuple[int, int]]:
    return sorted(((u, v) for u in range(side) for v in range(side)), key=lambda uv: (uv[0] + uv[1], uv))


def _gain(side: int, count: int) -> Tensor:
    """[count] growing with frequency, since the amplitude of images falls with it.

    The mean of a patch is held down: the layer norm that follows then acts as a local contrast normalisation.
    """
    gain = [max(0.1, float(u + v)) for u, v in _order(side)[:count]]
    return torch.tensor(gain + [1.0] * (count - len(gain)))


def _wavelets(size: int) -> tuple[Tensor, Tensor]:
    """Unit filters [F, size, size] of zero mean and the pooled channel int64 [F] that each belongs to.

    Blobs keep their sign (bright and dark apart); the four phases of a Gabor wavelet share a channel, its energy.
    """
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    filters, channels, channel = [], [], 0
    unit = size / 16

    def place(shapes: list[Any], step: float) -> None:
        nonlocal channel
        centres = torch.arange(step / 2, size, step)
        for shape in shapes:
            for cy in centres:
                for cx in centres:
                    filters.append(shape(y - cy, x - cx))
                    quarter = int(cy * SUBDIVISION / size) * SUBDIVISION + int(cx * SUBDIVISION / size)
                    channels.append(channel + quarter)
        channel += SUBDIVISION**2

    for radius, step in ((1.2, 2), (2.0, 4), (3.2, 4)):
        for sign in (1, -1):
            place([lambda v, u, r=radius * unit, s=sign: s * _blob(v, u, r)], step * unit)
    for radius, length in ((1.2, 4), (2.4, 8)):
        for angle in range(4):
            shapes = [
                lambda v, u, r=radius * unit, w=length * unit, a=angle * math.pi / 4, p=phase * math.pi / 2: _gabor(
                    v, u, r, w, a, p
                )
                for phase in range(4)
            ]
            place(shapes, 4 * unit)
    bank = torch.stack(filters)
    bank -= bank.mean((1, 2), keepdim=True)
    return bank / bank.flatten(1).norm(dim=1)[:, None, None], torch.tensor(channels)


def _blob(v: Tensor, u: Tensor, radius: float) -> Tensor:
    squared = (u * u + v * v) / (2 * radius * radius)
    return (1 - squared) * torch.exp(-squared)


def _gabor(v: Tensor, u: Tensor, radius: float, length: float, angle: float, phase: float) -> Tensor:
    across = u * math.cos(angle) + v * math.sin(angle)
    along = v * math.cos(angle) - u * math.sin(angle)
    envelope = torch.exp(-(across**2 + (along / 1.5) ** 2) / (2 * radius * radius))
    return envelope * torch.cos(2 * math.pi * across / length + phase)


def _near_identity(attention: Any) -> None:
    """Each head compares like with like and hands values on, at a small size (arXiv 2305.09828)."""
    size = attention.q_proj.weight.shape[0]
    nn.init.normal_(attention.q_proj.weight, std=1 / math.sqrt(size))
    attention.k_proj.weight.copy_(0.7 * attention.q_proj.weight)
    attention.k_proj.weight.add_(torch.randn(size, size) * 0.3 / math.sqrt(size))
    nn.init.normal_(attention.v_proj.weight, std=1 / math.sqrt(size))
    nn.init.normal_(attention.out_proj.weight, std=0.2 / math.sqrt(size))


def _wavelet_layer(mlp: Any, dual: Tensor, pooled: int) -> None:
    """Fill `mlp`: responses of the wavelets in the first rows, their pooled channels in the last `pooled` dims.

    Args:
        dual: [content, patch, patch], what turns the stream's coefficients back into pixels.
    """
    hidden, width = mlp.fc1.weight.shape
    filters, channels = _wavelets(dual.shape[-1])
    keep = torch.linspace(0, len(filters) - 1, min(hidden, len(filters))).round().long()
    filters, channels = filters[keep], channels[keep] % pooled
    rows = filters.flatten(1) @ dual.flatten(1).T
    nn.init.normal_(mlp.fc1.weight, std=1 / math.sqrt(width))
    nn.init.normal_(mlp.fc2.weight, std=0.3 / math.sqrt(hidden))
    mlp.fc1.weight[: len(rows)] = 0
    mlp.fc1.weight[: len(rows), : rows.shape[1]] = rows
    mlp.fc2.weight[:, : len(rows)] = 0
    mlp.fc2.weight[width - pooled :, len(rows) :] = 0
    for channel in range(pooled):
        members = channels == channel
        if members.any():
            mlp.fc2.weight[width - pooled + channel, : len(rows)] = members / members.sum()


def _unit_variance(tower: Any, wavelets: int, pooled: int) -> None:
    """Scale responses and channels to unit deviation, channels to zero mean, as seen on noise with the spectrum of
    radiographs (power 1/f^3: Burgess, Jacobson and Judy 2001, Med Phys 28:419; principle: arXiv 1511.06422).
    """
    mlp = tower.encoder.layers[0].mlp
    seen: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _, __, out, key=key: seen.__setitem__(key, out[:, 1:].flatten(0, 1)))
        for key, part in (("responses", mlp.fc1), ("channels", mlp.fc2))
    ]
    pixels = _power_law_noise(64, tower.embeddings.image_size)
    rows = slice(0, min(wavelets, len(mlp.fc1.weight)))
    tower(pixels, output_hidden_states=True)
    mlp.fc1.weight[rows] /= seen["responses"][:, rows].std(0).clamp(min=1e-3)[:, None]
    tower(pixels, output_hidden_states=True)
    spread = seen["channels"][:, -pooled:].std(0).clamp(min=1e-3)
    mlp.fc2.weight[-pooled:] /= spread[:, None]
    mlp.fc2.bias[-pooled:] = -seen["channels"][:, -pooled:].mean(0) / spread
    for hook in hooks:
        hook.remove()


def _power_law_noise(count: int, side: int) -> Tensor:
    """[count, 3, side, side], equal in the three channels, unit deviation."""
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side)[None])
    spectrum = torch.fft.fft2(torch.randn(count, side, side)) / frequency.clamp(min=1 / side) ** 1.5
    image = torch.fft.ifft2(spectrum).real
    image -= image.mean((1, 2), keepdim=True)
    return (image / image.std((1, 2), keepdim=True))[:, None].expand(-1, 3, -1, -1)


def _projector(projector: Any, place: slice, kept: int) -> None:
    """The `kept` lowest position cosines pass unchanged, since gelu(x) - gelu(-x) = x; the rest is mixed at random."""
    first, second = projector.linear_1.weight, projector.linear_2.weight
    nn.init.normal_(first, std=1 / math.sqrt(first.shape[1]))
    nn.init.normal_(second, std=1 / math.sqrt(second.shape[1]))
    kept = min(kept, place.stop - place.start)
    first[-2 * kept :] = 0
    second[:, -2 * kept :] = 0
    second[-kept:] = 0
    for i in range(kept):
        first[-2 * kept + i, place.start + i] = 1
        first[-kept + i, place.start + i] = -1
        second[-kept + i, -2 * kept + i] = 1
        second[-kept + i, -kept + i] = -1


def _decoder_layer(layer: Any, layers: int, place: int) -> None:
    """As `decoder_layer`; the MLP's gate sees the position, the other branch the rest."""
    decoder_layer(layer, layers)
    gate, up = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight
    gate[:, :-place] = 0
    nn.init.normal_(gate[:, -place:], std=1 / math.sqrt(place))
    up[:, -place:] = 0


def decoder_layer(layer: Any, layers: int) -> None:
    """Random weights of the size that a thin decoder of `layers` layers needs."""
    for name, weight in layer.named_parameters():
        if weight.dim() == 2:
            scale = 1 / math.sqrt(2 * layers) if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            nn.init.normal_(weight, std=scale / math.sqrt(weight.shape[1]))
