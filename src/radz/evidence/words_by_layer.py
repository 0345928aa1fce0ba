"""What the decoder knows in words, layer by layer: whether a sentence finds its paraphrase, and a name its description.

No image takes part. A model whose features are one direction finds neither until that is taken out (docs/method.md
2.4); one that finds paraphrases but no descriptions knows the words and not what they mean in a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_modules.errors import InputError
from radz.evidence.items import Item
from radz.evidence.open_run import Opened
from radz.models.centre import Shared
from radz.models.geometry import geometry
from radz.models.labels import MODALITY_TEXT
from radz.models.losses import cosine
from radz.models.prompts import read_paraphrases, sentences
from radz.report import figures

KINDS: Mapping[str, bool | None] = {"as they are": None, "less their mean": False, "whitened": True}
"""what is taken out of the features of a sentence about all findings; None: nothing"""
TASKS = ("paraphrase", "description")
FEWEST = 4
"""findings among which one has to be found"""


def compute(run: Opened) -> Item:
    """Encode every sentence about every described finding of the training bank at every layer, and match them."""
    texts = run.classifier.of_bank
    described = [place for place, text in enumerate(texts.descriptions) if text]
    if len(described) < FEWEST:
        raise InputError(
            f"evidence: words: {len(described)} findings of the bank are described; needs {FEWEST} or more"
        )
    names = [texts.names[place] for place in described]
    wanted = {"description": [texts.descriptions[place] for place in described]}
    for key, words in read_paraphrases(run.settings.paraphrases).items():
        scoring = replace(run.scoring, prompts=[*words.positive], negative_prompts=[], class_prompts={})
        modality = MODALITY_TEXT[run.module.modalities[0]]
        spoken = sentences([texts.findings[place] for place in described], names, modality, scoring)
        wanted[key] = [one.positive[0] for one in spoken]
    with torch.no_grad():
        depths = {key: run.encoder.encode_depths(of) for key, of in wanted.items()}
    layers = [
        {
            kind: _matched({key: states[layer] for key, states in depths.items()}, whiten)
            for kind, whiten in KINDS.items()
        }
        for layer in range(len(depths["description"]))
    ]
    return _item(layers, len(described), len(wanted) - 1)


def _matched(features: Mapping[str, Tensor], whiten: bool | None) -> dict[str, float]:
    """Of features [K, d] of K findings, by sentence: how often the nearest of another kind is of the same finding.

    Mean over pairs of kinds; `description_rank`: where the own description stands on average, 1 is first.
    """
    taken = {
        key: rows if whiten is None else Shared.of(rows, whiten).taken_from(rows) for key, rows in features.items()
    }
    prompts = [key for key in taken if key != "description"]
    pairs = {"paraphrase": list(permutations(prompts, 2)), "description": [(key, "description") for key in prompts]}
    found: dict[str, float] = {}
    for task, of in pairs.items():
        if of:
            ranks = torch.stack([_ranks(taken[one], taken[other]) for one, other in of])
            found |= {task: (ranks == 1).float().mean().item(), f"{task}_rank": ranks.float().mean().item()}
    lie = [geometry(taken[key]) for key in prompts]
    found |= {key: float(np.mean([one[key] for one in lie])) for key in ("mean_cosine", "effective_rank")}
    return {key: round(value, 4) for key, value in found.items()}


def _ranks(one: Tensor, other: Tensor) -> Tensor:
    """At which place each row of `one` [K, d] has its own row of `other`: int64 [K]."""
    cosines = cosine(one, other)
    return (cosines >= cosines.diagonal()[:, None]).sum(1)


def _item(layers: list[dict[str, dict[str, float]]], findings: int, kinds: int) -> Item:
    last, tasks = layers[-1], [task for task in TASKS if task in layers[-1]["as they are"]]

    def over_kinds(key: str) -> str:
        return ", ".join(f"{last[kind][key]:.2f} {kind}" for kind in KINDS)

    item = Item(
        "words",
        "What the decoder knows in words",
        [
            f"At the feature layer, {kinds} kinds of sentence about {findings} findings (chance {1 / findings:.2f}): "
            + "; ".join(f"the nearest {task} is the finding's own in {over_kinds(task)}" for task in tasks)
            + ".",
            f"Effective rank of the {findings} sentences: {over_kinds('effective_rank')}.",
        ],
        {"findings": findings, "kinds": kinds, "layers": layers},
        header=("layer", *(f"{task}, {kind}" for task in tasks for kind in KINDS)),
    )
    item.rows = [
        [f"layer {number}", *(f"{of[kind][task]:.2f}" for task in tasks for kind in KINDS)]
        for number, of in enumerate(layers, start=1)
    ]
    columns = [*last["as they are"]]
    data: figures.CsvRows = [["layer", "features", *columns]]
    data += [[n, kind, *of[kind].values()] for n, of in enumerate(layers, start=1) for kind in KINDS]
    caption = (
        "Share of sentences whose nearest one of another kind (circles) or nearest description (squares) is about the "
        "same finding, by depth. Dotted: chance. No image takes part."
    )
    item.pictures.append(("words", _figure(layers, tasks, 1 / findings), data, caption))
    return item


def _figure(layers: list[dict[str, dict[str, float]]], tasks: list[str], chance: float) -> Any:
    figure = figures.new_figure(3.4)
    axes = figure.subplots()
    x = range(1, len(layers) + 1)
    for kind, colour in zip(KINDS, (figures.GREY, figures.BLUE, figures.ORANGE), strict=True):
        for task, mark in zip(tasks, "os", strict=False):
            values = [of[kind][task] for of in layers]
            style = "-" if task == "paraphrase" else "--"
            axes.plot(x, values, style, color=colour, marker=mark, markersize=4, linewidth=1.3, label=f"{task}, {kind}")
    axes.axhline(chance, color=figures.GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set(xlabel="layer of the decoder", ylabel="own one is nearest", ylim=(-0.03, 1.03))
    axes.legend(fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.2), frameon=False)
    return figure
