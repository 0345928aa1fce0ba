"""Where recognition lives: linear probes on tower, projector and every decoder layer, scored on test studies.

A probe tells what a linear reader can take from a place, not what the model makes of it (Alain and Bengio 2017, arXiv
1610.01644). Features are kept on disk, one place is in memory at a time.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.counting import counted
from data_modules.disk import writing
from data_modules.errors import InputError
from radz.evidence.items import FOLDER, Item
from radz.evidence.open_run import Opened, RowNumbers
from radz.methods.logistic_regression import mean_and_spread
from radz.metrics.estimates import Estimates, in_words
from radz.models.losses import at_least_fp32
from radz.report import figures

log = logging.getLogger(__name__)
Place = tuple[str, str]
"""Name of the place, such as `layer 3`, and how its tokens are pooled, one of POOLINGS."""
POOLINGS = ("image tokens", "modality tokens", "last token")


def compute(run: Opened) -> Item:
    """Fit a probe per finding and place on training studies, score the split's."""
    settings = run.settings
    train, test = run.rows("train", settings.train_studies), run.rows(settings.split, settings.studies)
    if not len(train):
        raise InputError("evidence: layers: these data have no training split to fit probes on; leave it out of only=")
    columns = [run.data.findings.index(name) for name in run.findings]
    labels = run.data.loss_labels(train)[:, columns]
    scores: dict[str, NDArray[np.float32]] = {}
    (run.folder / FOLDER).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.folder / FOLDER, prefix=".features.") as place:
        features = collect(run, np.concatenate([train, test]), Path(place))
        for (name, pooling), values in features.items():
            predicted = probe(values[: len(train)], labels, values[len(train) :], settings.probe_strength)
            scores[f"{name}: {pooling}"] = predicted
            log.info("probes on %s, %s", name, pooling)
    table = run.table(test, scores)
    return _item(run, list(features), Estimates(table, {}, {}, settings.replicates, settings.seed), len(train))


def _reserve(file: Path) -> None:
    """Take the room of a mapped file now: a full disk that shows later would end the process without a word."""
    if hasattr(os, "posix_fallocate"):
        with writing(file, file.stat().st_size), file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)


def collect(run: Opened, rows: RowNumbers, folder: Path) -> dict[Place, NDArray[np.float32]]:
    """Pooled features [N, width] of studies at every place, in files below `folder`."""
    features: dict[Place, Any] = {}

    def keep(place: Place, values: Tensor, start: int) -> None:
        array = at_least_fp32(values).float().cpu().numpy()
        if place not in features:
            file = folder / f"{len(features)}.npy"
            shape = (len(rows), array.shape[1])
            features[place] = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
            _reserve(file)
        features[place][start : start + len(array)] = array

    start = 0
    with torch.no_grad():
        for batch in run.batches(rows):
            with _around_projector(run) as seen:
                given = run.sequences(batch)
            for name in ("tower", "projector"):
                keep((name, POOLINGS[0]), _per_study(seen[name], batch.image_counts), start)
            layers = run.encoder.backbone.decode_all(given.embeddings, given.mask, given.content, attention=False)
            # The first states are the embeddings, which no layer has made.
            for number, states in enumerate(layers.states[1:], start=1):
                last = given.tokens & (given.tokens.cumsum(1) == given.tokens.sum(1, keepdim=True))
                for pooling, mask in zip(POOLINGS, (given.content, given.tokens, last), strict=True):
                    keep((f"layer {number}", pooling), _mean(states, mask), start)
            start += len(batch)
    return features


@contextmanager
def _around_projector(run: Opened) -> Iterator[dict[str, Tensor]]:
    """What goes into the projector (the tower's features) and what comes out of it."""
    backbone, seen = run.encoder.backbone, {}
    projector = backbone.core.get_submodule(backbone.projector_paths[0])

    def look(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen["tower"], seen["projector"] = inputs[0], output

    handle = projector.register_forward_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _per_study(tokens: Tensor, counts: Tensor) -> Tensor:
    """Tokens of all images in order, [.., width], as the mean of each study [B, width]."""
    images = at_least_fp32(tokens).reshape(int(counts.sum()), -1, tokens.shape[-1]).mean(1)
    return torch.stack([part.mean(0) for part in images.split(counts.tolist())])


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """States [B, T, width] at the positions of a mask [B, T], averaged: [B, width]."""
    weights = at_least_fp32(mask.to(states.dtype))
    return torch.einsum("btd,bt->bd", at_least_fp32(states), weights) / weights.sum(1, keepdim=True)


def probe(
    train: NDArray[np.float32], labels: NDArray[np.float32], test: NDArray[np.float32], strength: float
) -> NDArray[np.float32]:
    """Probabilities [T, C] of logistic regressions on standardised features [N, width].

    Args:
        labels: [N, C], 1, 0 or NaN (left out); a finding without both labels gets NaN.
        strength: inverse regularisation C.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    mean, spread = mean_and_spread(train)
    near, far = (train - mean) / spread, (test - mean) / spread
    probabilities = np.full((len(test), labels.shape[1]), np.nan, np.float32)
    with threadpool_limits(1):
        for k in range(labels.shape[1]):
            known = ~np.isnan(labels[:, k])
            if len(np.unique(labels[known, k])) == 2:
                model = LogisticRegression(C=strength, max_iter=500).fit(near[known], labels[known, k])
                probabilities[:, k] = model.predict_proba(far)[:, 1]
    return probabilities


def _item(run: Opened, places: list[Place], measured: Estimates, trained: int) -> Item:
    names = [name for name in run.primary if any(measured.table.findings[c] == name for _, c in measured.cells)]
    macro = {place: measured.macro(measured.of(": ".join(place), names), "auroc") for place in places}
    defined = {place: value for place, value in macro.items() if value["low"] is not None}
    if not defined:
        raise InputError(
            "evidence: layers: no finding has both labels in training and two patients with each in the split; "
            "take more studies"
        )
    best = max(defined, key=lambda place: float(defined[place]["value"] or 0))
    feature = (places[-1][0], POOLINGS[1])
    gain = measured.difference(measured.of(": ".join(feature), names), measured.of(": ".join(places[0]), names))
    item = Item(
        "layers",
        "Where recognition lives",
        [
            f"Linear probes over {counted(len(names), 'finding')}, fitted on {counted(trained, 'training study')}: "
            f"macro AUROC {in_words(macro[places[0]])} on the tower, {in_words(macro[places[1]])} behind the "
            f"projector, {in_words(macro[feature])} at the modality tokens of the feature layer; best of all "
            f"{macro[best]['value']:.3f} at {best[0]}, {best[1]}.",
            f"Feature layer minus tower: {in_words(gain, '+.3f')}, paired.",
        ],
        {"macro": {": ".join(place): value for place, value in macro.items()}, "findings": names, "gain": gain},
        header=("place", "tokens", "macro", *(figures.plain(name) for name in names)),
    )
    data: figures.CsvRows = [["place", "tokens", "finding", "auroc", "low", "high"]]
    for place in places:
        cells = [measured.macro(measured.of(": ".join(place), [name]), "auroc") for name in names]
        values = [[*entry.values()] for entry in (macro[place], *cells)]
        item.rows.append([*place, *values])
        data += [[*place, name, *value] for name, value in zip(("macro", *names), values, strict=True)]
    caption = (
        "Macro AUROC of linear probes by depth; bars: 95 % intervals by patient. Dashed: chance. The mean over image "
        "tokens does not tell where in the image something lies, which the decoder may write into its tokens."
    )
    item.pictures.append(("layers", _figure(places, macro), data, caption))
    return item


def _figure(places: list[Place], macro: dict[Place, dict[str, Any]]) -> Any:
    """Macro AUROC over the places, a line for each pooling; tower and projector have image tokens only."""
    figure = figures.new_figure(3.8)
    axes = figure.subplots()
    ticks = list(dict.fromkeys(name for name, _ in places))
    styles = zip(POOLINGS, (figures.BLUE, figures.ORANGE, figures.GREEN), "oDs", strict=True)
    for shift, (pooling, colour, mark) in enumerate(styles, start=-1):
        shown = [place for place in places if place[1] == pooling and macro[place]["low"] is not None]
        x = np.array([ticks.index(name) for name, _ in shown]) + 0.06 * shift
        value, low, high = ([macro[place][key] for place in shown] for key in ("value", "low", "high"))
        axes.plot(x, value, color=colour, marker=mark, markersize=5, linewidth=1.5, label=pooling)
        axes.vlines(x, low, high, color=colour, linewidth=1.3)
    axes.axhline(0.5, color=figures.GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    every = max(1, len(ticks) // 18)
    axes.set_xticks(range(0, len(ticks), every), ticks[::every])
    axes.set_ylabel("macro AUROC of linear probes")
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    figure.legend(loc="outside upper right", ncols=3)
    return figure
