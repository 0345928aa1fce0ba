"""A map of image features: t-SNE of the global features of studies, coloured by finding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_modules.batch import StudyBatch
from data_modules.counting import counted
from data_modules.errors import InputError
from radz.evidence.items import Item
from radz.evidence.open_run import Opened, RowNumbers
from radz.models.losses import normalise
from radz.report import figures

NEIGHBOURS = 10
PERPLEXITY = 30


def compute(run: Opened) -> Item:
    """Map the split's studies; beside it, how far neighbours share a finding in the features themselves."""
    rows = run.rows(run.settings.split, run.settings.studies)
    labels, features = run.labels(rows), encoded(run, rows)
    people = run.data.table.people[rows]
    if len(rows) - np.unique(people, return_counts=True)[1].max() < NEIGHBOURS:
        raise InputError(
            f"evidence: features: {len(rows)} studies are too few for a map: each needs {NEIGHBOURS} of other patients "
            "beside it; raise studies="
        )
    places = mapped(features, run.settings.seed)
    near = neighbours(features, people)
    item = Item("features", "Feature map", [], {"findings": {}}, header=("finding", "studies", "present", "neighbours"))
    data: figures.CsvRows = [["study", "x", "y", *run.findings]]
    for row, place, of_study in zip(rows, places, labels, strict=True):
        cells = ["" if np.isnan(value) else int(value) for value in of_study]
        data.append([run.hashed(row), f"{place[0]:.5g}", f"{place[1]:.5g}", *cells])
    gains = []
    for k, name in enumerate(run.findings):
        share, base = shared(labels[:, k], near, people)
        item.numbers["findings"][name] = {"neighbours": _finite(share), "present": _finite(base)}
        known = str(int((~np.isnan(labels[:, k])).sum()))
        item.rows.append([figures.plain(name), known, _finite(base), _finite(share)])
        if name in run.primary and np.isfinite(share) and base:  # nobody else has it: no ratio
            gains.append(share / base)
    if gains:
        item.says.append(
            f"Of the {NEIGHBOURS} nearest studies of other patients (cosine, in the features) of a study with a "
            f"finding, {np.mean(gains):.2f} times as many have it as of all studies of others, on average over "
            f"{counted(len(gains), 'finding')}; 1 would be no order. Distances in the map itself mean little."
        )
    caption = f"t-SNE (perplexity {PERPLEXITY}, seed {run.settings.seed}) of {len(rows)} studies; blue: present."
    item.pictures.append(("features", _figure(run, places, labels), data, caption))
    return item


def encoded(run: Opened, rows: RowNumbers) -> NDArray[np.float32]:
    """Global features [N, e] of studies, L2-normalised."""

    def features(batch: StudyBatch) -> Tensor:
        images = run.classifier.encode(batch.pixels, batch.image_counts, run.modalities(batch))
        return normalise(run.classifier.study_features(images, batch.image_counts).overall)

    return run.over(rows, features)


def mapped(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """[N, 2] by scikit-learn's t-SNE from the first two principal components, cosine distance."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    tsne = TSNE(init="pca", perplexity=perplexity, metric="cosine", random_state=seed)
    # Sums over several threads round in another order, and t-SNE carries the last bit far.
    with threadpool_limits(1):
        places: NDArray[np.float32] = tsne.fit_transform(features)
    return places


def neighbours(features: NDArray[np.float32], people: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N, NEIGHBOURS] nearest rows of other patients (`people` [N]) of normalised features [N, e]."""
    similarity = features @ features.T
    # A study is nearest to itself, and then to others of its patient, which tells nothing of findings.
    similarity[people[:, None] == people] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]


def shared(labels: NDArray[np.float32], near: NDArray[np.int64], people: NDArray[np.int64]) -> tuple[float, float]:
    """Shares of positives (labels [N]) among the known neighbours [N, k] of positives, and among the known studies of
    other patients (people [N]) that they are drawn from; NaN if undefined."""
    of_positives = labels[near[labels == 1]]
    others = [labels[people != person] for person in people[labels == 1]]
    known, whole = (values[~np.isnan(values)] for values in (of_positives, np.concatenate([*others, labels[:0]])))
    return (float(known.mean()) if len(known) else np.nan), (float(whole.mean()) if len(whole) else np.nan)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _figure(run: Opened, places: NDArray[np.float32], labels: NDArray[np.float32]) -> Any:
    figure, panels = figures.small_multiples(len(run.findings), 5, 2.1)
    size = float(np.clip(2500 / len(places), 2, 14))
    for k, (axes, name) in enumerate(zip(panels, run.findings, strict=True)):
        axes.set_axis_off()
        present = labels[:, k] == 1
        axes.scatter(places[~present, 0], places[~present, 1], s=size, color=figures.FAINT, linewidths=0)
        axes.scatter(places[present, 0], places[present, 1], s=1.5 * size, color=figures.BLUE, linewidths=0)
        axes.set_title(f"{figures.plain(name)} ({int(present.sum())})")
    return figure
