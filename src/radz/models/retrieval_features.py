"""Features of a test split, kept for retrieval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.batch import StudyBatch
from radz.distributed import gather_objects
from radz.models.losses import Features, at_least_fp32


@dataclass(frozen=True)
class Kept:
    """Studies that have a report, of all ranks, with each distinct report once; on the CPU, in fp32.

    A study takes 2 x e x 4 bytes and a distinct report the same (e 4096: 32 kB).
    """

    rows: NDArray[np.int64]
    """[N], rows of the study table, rising"""
    image: Features
    """[N, e]"""
    text: Features
    """[D, e]"""
    owner: Tensor
    """int64 [N], the report of each study"""

    def take(self, rows: NDArray[np.int64]) -> Kept:
        """Of these rows of the study table, and the reports that they have."""
        at = torch.from_numpy(np.flatnonzero(np.isin(self.rows, rows)))
        used, owner = torch.unique(self.owner[at], return_inverse=True)
        return Kept(self.rows[at.numpy()], self.image.rows(at), self.text.rows(used), owner)


class EncodesTexts(Protocol):
    """An encoder of reports."""

    def encode_texts(self, texts: list[str]) -> Features:
        """Features of N texts."""


class Keeper:
    """Collects the features of one pass over a split on this rank."""

    def __init__(self) -> None:
        self._studies: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._reports: dict[int, tuple[Tensor, Tensor]] = {}

    def add(self, batch: StudyBatch, image: Features, encoder: EncodesTexts) -> None:
        """Keep the studies of a batch that have a report; a report met before is not encoded again."""
        reported = torch.tensor([i for i, words in enumerate(batch.reports) if words], dtype=torch.int64)
        if not len(reported):
            return
        digest = batch.text_digest.cpu()
        at = reported.to(image.overall.device)
        self._studies.append(
            (batch.rows.cpu()[reported], digest[reported], _host(image.overall[at]), _host(image.local[at]))
        )
        new = {int(digest[i]): i for i in reported.tolist() if int(digest[i]) not in self._reports}
        if new:
            text = encoder.encode_texts([batch.reports[i] for i in new.values()])
            for place, key in enumerate(new):
                self._reports[key] = (_host(text.overall[place]), _host(text.local[place]))

    def gathered(self) -> Kept | None:
        """What all ranks kept, each study once; None when no study has a report. Every rank must call it."""
        parts = gather_objects((self._studies, self._reports))
        studies = [study for part in parts for study in part[0]]
        if not studies:
            return None
        reports = {key: value for part in parts for key, value in part[1].items()}
        place = {key: number for number, key in enumerate(reports)}
        rows, digest, overall, local = (torch.cat(column) for column in zip(*studies, strict=True))
        # A sampler that evens out ranks repeats studies.
        first = torch.from_numpy(np.unique(rows.numpy(), return_index=True)[1])
        words = [torch.stack(side) for side in zip(*reports.values(), strict=True)]
        none = torch.zeros(())
        return Kept(
            rows[first].numpy(),
            Features(overall[first], local[first], none),
            Features(words[0], words[1], none),
            torch.tensor([place[int(key)] for key in digest[first]]),
        )


def _host(tensor: Tensor) -> Tensor:
    return at_least_fp32(tensor.detach()).cpu()
