"""What the modality tokens attend to, layer by layer: image tokens, prompt words, the first token, each other.

A share says where attention goes, not what the answer rests on (Jain and Wallace, NAACL 2019, arXiv 1902.10186).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radz.evidence.items import Item
from radz.evidence.open_run import Opened
from radz.models.encoder import Sequences
from radz.models.losses import at_least_fp32
from radz.report import figures

GROUPS = ("image tokens", "prompt", "first token", "modality tokens")
COLOURS = (figures.BLUE, figures.ORANGE, figures.FAINT, figures.GREEN)


def compute(run: Opened) -> Item:
    """Mean over studies and heads."""
    rows = run.rows(run.settings.split, run.settings.attention_studies)
    measured, chance = [], []
    with torch.no_grad(), run.encoder.backbone.eager():
        for batch in run.batches(rows):
            given = run.sequences(batch)
            layers = run.encoder.backbone.decode_all(given.embeddings, given.mask, given.content, attention=True)
            groups = grouped(given)
            of_layers = [shares(weights, given, groups).cpu().numpy() for weights in layers.attention]
            measured.append(np.stack(of_layers, axis=1))
            chance.append(even(given, groups).cpu().numpy())
    every = np.concatenate(measured)  # [N, layers, tokens, groups]
    level = np.concatenate(chance).mean((0, 1))  # [groups]
    mean = every.mean(0)
    spread = every.mean(2).std(0)  # between studies, whose tokens are averaged first
    item = Item("attention", "Attention of the modality tokens", [], {"studies": len(rows), "groups": list(GROUPS)})
    item.numbers["shares"], item.numbers["even"] = mean.mean(1).round(5).tolist(), level.round(5).tolist()
    data: figures.CsvRows = [["layer", "modality_token", "group", "share", "even_share"]]
    for layer, of_layer in enumerate(mean, start=1):
        for token, of_token in enumerate(of_layer):
            cells = zip(GROUPS, of_token, level, strict=True)
            data += [[layer, token, group, f"{share:.6g}", f"{even_share:.6g}"] for group, share, even_share in cells]
        item.rows.append([f"layer {layer}", *map(float, of_layer.mean(0)), float(spread[layer - 1, 0])])
    item.rows.append(["if even", *map(float, level), None])
    item.header = ("layer", *GROUPS, "spread of image tokens")
    image = mean.mean(1)[:, 0]
    top = int(image.argmax())
    item.says.append(
        f"The modality tokens give {image[0]:.3f} of their attention to the image in the first layer and "
        f"{image[-1]:.3f} in the last that is computed, most in layer {top + 1} ({image[top]:.3f}); "
        f"{level[0]:.3f} if it were even."
    )
    caption = (
        f"Mean over heads, modality tokens and {len(rows)} studies. Right: if it were even over what a token sees. "
        "The spread in the table is between studies."
    )
    item.pictures.append(("attention", _figure(mean.mean(1), level), data, caption))
    return item


def grouped(given: Sequences) -> Tensor:
    """Number in GROUPS of every position, int64 [B, T]; -1 at padding."""
    groups = torch.full_like(given.mask, 1, dtype=torch.long)
    groups[given.mask & (given.mask.cumsum(1) == 1)] = 2
    groups[given.content], groups[given.tokens], groups[~given.mask] = 0, 3, -1
    return groups


def shares(attention: Tensor, given: Sequences, groups: Tensor) -> Tensor:
    """Attention [B, heads, T, T] of each modality token to each group: [B, tokens, groups], mean over heads."""
    # All studies have equally many modality tokens, so the masked rows fold back into [B, tokens, T].
    each = at_least_fp32(attention).mean(1)[given.tokens].unflatten(0, (len(given.mask), -1))
    return torch.stack([(each * (groups == n)[:, None]).sum(-1) for n in range(len(GROUPS))], dim=-1)


def even(given: Sequences, groups: Tensor) -> Tensor:
    """`shares` of a token that attends alike to all positions up to itself."""
    length = given.mask.shape[1]
    # Causal: a token sees itself and what stands before it, padding left out.
    seen = torch.ones(length, length, device=groups.device).tril() * given.mask[:, None].float()
    return shares((seen / seen.sum(-1, keepdim=True).clamp(min=1))[:, None], given, groups)


def _figure(mean: NDArray[np.floating], level: NDArray[np.floating]) -> Any:
    figure = figures.new_figure(3.2)
    axes = figure.subplots()
    place = [*range(1, len(mean) + 1), len(mean) + 2]
    every, start = np.vstack([mean, level]), np.zeros(len(mean) + 1)
    for number, (name, colour) in enumerate(zip(GROUPS, COLOURS, strict=True)):
        axes.bar(place, every[:, number], bottom=start, color=colour, width=0.8, label=name)
        start = start + every[:, number]
    step = max(1, len(mean) // 16)
    shown = [*place[:-1:step], place[-1]]
    axes.set_xticks(shown, [*(str(n) for n in shown[:-1]), "even"])
    axes.set(xlabel="decoder layer", ylabel="share of attention", ylim=(0, 1))
    figure.legend(loc="outside upper right", ncols=len(GROUPS))
    return figure
