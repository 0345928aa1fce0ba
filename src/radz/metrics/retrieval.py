"""Recall of image-to-report and report-to-image retrieval, by distinct report: torch features in, plain values out.

Names of sizes: N images (studies), D distinct reports, K findings of a choice, e feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radz.metrics import bootstrap
from radz.metrics.estimates import entry

AT = (1, 5, 10)
PRECISION_AT = (5, 10, 100)
"""of GLoRIA's retrieval (Huang et al., ICCV 2021)"""
_ROWS = 1024
"""images compared at once; a similarity matrix of 25,000 x 25,000 would hold 2.5 GB"""

Similarity = Callable[[Tensor], Tensor]
"""Places [n] of images to their similarities with the D reports, [n, D]."""


def ranks(owner: Tensor, reports: int, similarity: Similarity) -> tuple[NDArray, NDArray]:
    """Rank (from 1) of each image's own report among D, int64 [N], and of each report's best own image among N, [D].

    Of equal similarities the wrong one goes first, so that features which tell nothing apart find nothing.

    Args:
        owner: int64 [N], the report of each image.
    """
    total = len(owner)
    of_image = torch.empty(total, dtype=torch.int64)
    own = torch.empty(total)
    best = torch.full((reports,), -torch.inf)
    blocks = [torch.arange(start, min(start + _ROWS, total)) for start in range(0, total, _ROWS)]
    for rows in blocks:
        similarities = similarity(rows).float().cpu()
        of_own = similarities.gather(1, owner[rows][:, None])
        own[rows] = of_own[:, 0]
        of_image[rows] = (similarities >= of_own).sum(1)  # its own counts as well
    best.scatter_reduce_(0, owner, own, "amax")
    ahead = torch.ones(len(best), dtype=torch.int64)
    # A report's rank needs its best own image first, so the blocks are compared a second time and not kept.
    for rows in blocks:
        similarities = similarity(rows).float().cpu()
        foreign = owner[rows][:, None] != torch.arange(len(best))
        ahead += ((similarities >= best) & foreign).sum(0)
    return of_image.numpy(), ahead.numpy()


def retrieval(
    owner: Tensor, reports: int, patients: Sequence[str], similarity: Similarity, replicates: int, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Recall at AT with 95 % intervals in both directions; resampled are patients, and reports in the way back.

    The candidates stay as they are in the resamples. `chance` is the recall of a random order.
    """
    of_image, of_report = ranks(owner, reports, similarity)
    recalls: dict[str, Any] = {"images": len(of_image), "reports": len(of_report)}
    for name, rank, units, candidates in (
        ("image_to_report", of_image, np.asarray(patients), len(of_report)),
        ("report_to_image", of_report, np.arange(len(of_report)), len(of_image)),
    ):
        hits = np.stack([rank <= k for k in AT], axis=1).astype(float)
        values = bootstrap.means_by_unit(hits, units, replicates, seed)
        recalls[name] = {
            **{f"recall_{k}": entry(hits[:, i].mean(), values[:, i]) for i, k in enumerate(AT)},
            "median_rank": float(np.median(rank)),
            "chance": {f"recall_{k}": _chance(k, owner, candidates, name) for k in AT},
        }
    return recalls


def precision(
    owner: Tensor, reports: int, patients: Sequence[str], truth: NDArray[np.int64], similarity: Similarity,
    replicates: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Precision at PRECISION_AT of image-to-report retrieval: the share of the first k reports of the image's finding.

    A report is of the findings of all images that own it. Of equal similarities the report of another finding goes
    first. A k above D is left out. `chance` is the precision of a random order. Intervals resample patients; the
    candidates stay as they are.

    Args:
        owner, reports, patients, similarity: as of `retrieval`.
        truth: int64 [N], the one finding of each image; -1 where it has none of them alone, which asks nothing.
    """
    own = owner.numpy()
    of_report = np.zeros((int(truth.max()) + 1, reports), dtype=bool)
    asked = np.flatnonzero(truth >= 0)
    of_report[truth[asked], own[asked]] = True
    at = [k for k in PRECISION_AT if k <= reports]
    shares = np.empty((len(asked), len(at)))
    for start in range(0, len(asked), _ROWS):
        rows = asked[start : start + _ROWS]
        similarities = similarity(torch.from_numpy(rows)).float().cpu().numpy()
        alike = of_report[truth[rows]]
        order = np.lexsort((alike, -similarities), axis=1)
        hits = np.cumsum(np.take_along_axis(alike, order, axis=1), axis=1)
        shares[start : start + len(rows)] = hits[:, [k - 1 for k in at]] / np.array(at)
    samples = bootstrap.means_by_unit(shares, np.asarray(patients)[asked], replicates, seed)
    return {
        "images": len(asked),
        "reports": reports,
        **{f"precision_{k}": entry(shares[:, i].mean(), samples[:, i]) for i, k in enumerate(at)},
        "chance": float(of_report[truth[asked]].mean()),
    }


def _chance(k: int, owner: Tensor, candidates: int, direction: str) -> float:
    """Of an image k in D; of a report the chance that one of its n images is among k drawn from N."""
    if direction == "image_to_report":
        return min(1.0, k / candidates)
    images = np.bincount(owner.numpy())
    drawn = np.arange(min(k, candidates))
    missed = np.prod(np.clip((candidates - images[:, None] - drawn) / (candidates - drawn), 0, 1), axis=1)
    return float(1 - missed.mean())
