"""The cases that heat-maps are made of: studies of the split, their images or slices, maps and marks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules import slices
from data_modules.errors import InputError
from data_modules.marks import Marks, Mask
from data_modules.pixels import Gray, pixel_aspect, read_gray
from data_modules.placing import to_original
from data_modules.volumes import read_volume
from radz.evidence.open_run import Opened, RowNumbers
from radz.models import heatmaps

log = logging.getLogger(__name__)
Grids = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""finding -> kind of map -> [images, g, g]"""


@dataclass(frozen=True)
class Case:
    """One finding over one radiograph, or over the slices of one volume that the model saw, from head to feet."""

    row: int
    finding: str
    image: Gray
    """[H, W], or [S, H, W] under the first window"""
    heat: dict[str, NDArray[np.float32]]
    """kind -> of the image's shape"""
    mask: Mask | None
    """of the image's shape, empty where the finding lies in none of the slices"""

    @property
    def marked(self) -> bool:
        """Whether a mark can be met."""
        return self.mask is not None and bool(self.mask.any())

    def slice_of(self, kind: str) -> int | None:
        """The slice in which a map has its highest pixel, for '' that with most of the mark; None of a radiograph."""
        if self.image.ndim == 2:
            return None
        if not kind and self.mask is not None and self.marked:
            return int(self.mask.sum(axis=(1, 2)).argmax())
        return int(np.nanmax(self.heat[kind or "similarity"], axis=(1, 2)).argmax())

    def at(self, index: int | None) -> tuple[Gray, dict[str, NDArray[np.float32]], Mask | None]:
        """Image, maps and mask of a slice, or of the radiograph: [H, W] each."""
        if index is None:
            return self.image, self.heat, self.mask
        heat = {kind: values[index] for kind, values in self.heat.items()}
        return self.image[index], heat, None if self.mask is None else self.mask[index]


def chosen(run: Opened, known: Sequence[Marks | None], modality: str) -> RowNumbers:
    """Studies of a modality of the split: at most `heatmap_studies`, of corpora with marks only marked ones."""
    table = run.data.table

    def usable(row: int) -> bool:
        of_corpus = known[table.corpus[row]]
        images = table.image_ids[table.image_offsets[row] : table.image_offsets[row + 1]]
        return table.modality[row] == modality and (of_corpus is None or any(map(of_corpus.marked, images)))

    every = run.rows(run.settings.split, len(table))
    rows = np.array([row for row in every if usable(row)], dtype=np.int64)
    order = np.random.default_rng(run.settings.seed).permutation(rows)
    found: RowNumbers = np.sort(order[: run.settings.heatmap_studies])
    return found


def cases(run: Opened, known: Sequence[Marks | None], rows: RowNumbers) -> Iterator[Case]:
    """The findings present in studies of one modality, image by image."""
    data, table = run.data, run.data.table
    for row, grids in _grids(run, rows):
        start = 0
        for place in range(table.image_offsets[row], table.image_offsets[row + 1]):
            # As many as the model saw, so that a file that cannot be read shifts no other.
            here = slice(start, start + int(data.cache.slices[place]))
            start = here.stop
            try:
                image, masks = _opened(run, row, place, known[table.corpus[row]])
                if image.ndim == 3 and len(image) != here.stop - here.start:
                    raise InputError(f"{data.named([row])[0]}: has other slices than when it was cached")
            except InputError as error:  # its planes are in the cache, and the file has changed since
                log.warning("evidence: heatmaps: an image is left out: %s", error)
                continue
            aspect = pixel_aspect(Path(table.image_paths[place])) if image.ndim == 2 else 1.0
            side = data.config.image_size
            placed = image.shape[-2:], side, data.config.resize, aspect, run.encoder.backbone.covered(side)
            for finding, of_finding in grids.items():
                heat = {
                    kind: to_original(values[here], *placed).reshape(image.shape) for kind, values in of_finding.items()
                }
                yield Case(row, finding, image, heat, masks.get(finding))


def _grids(run: Opened, rows: RowNumbers) -> Iterator[tuple[int, Grids]]:
    """(row, maps of the findings present in it) of each study that has any."""
    readable = run.classifier.readable(run.target)
    labels = dict(zip(rows.tolist(), run.labels(rows), strict=True))
    for batch in run.batches(rows):
        present = [[k for k in np.flatnonzero(labels[row] == 1).tolist() if readable[k]] for row in batch.rows.tolist()]
        wanted = sorted({k for of_study in present for k in of_study})
        if not wanted:
            continue
        studies = batch.pixels, batch.image_counts, run.modalities(batch)
        similarity = run.mapper.similarity(*studies)
        maps = {
            "similarity": similarity[:, wanted],
            "contrast": heatmaps.contrast(similarity, readable)[:, wanted],
            "attention": run.mapper.attention(*studies, wanted),
        }
        arrays = {kind: values.float().cpu().numpy() for kind, values in maps.items()}
        stop = 0
        for row, count, of_study in zip(batch.rows.tolist(), batch.image_counts.tolist(), present, strict=True):
            start, stop = stop, stop + count
            own = {kind: values[start:stop] for kind, values in arrays.items()}
            yield (
                row,
                {run.findings[k]: {kind: values[:, wanted.index(k)] for kind, values in own.items()} for k in of_study},
            )


def _opened(run: Opened, row: int, place: int, marks: Marks | None) -> tuple[Gray, Mapping[str, Mask]]:
    """The image [H, W] of a file, or its chosen slices [S, H, W], and the masks of its findings."""
    table, config, name = run.data.table, run.data.config, run.data.named([row])[0]
    path = Path(table.image_paths[place])
    if table.modality[row] != "chest_ct":
        image = read_gray(path, name, config.frames)
        return image, marks.masks(table.image_ids[place], image.shape) if marks else {}
    slope, intercept = table.rescale[place].tolist()
    volume = read_volume(path, name, None if np.isnan(slope) else (slope, intercept))
    whole = marks.masks(table.image_ids[place], volume.hu.shape) if marks else {}
    masks = {finding: slices.mask_slices(mask, volume, config.ct) for finding, mask in whole.items()}
    return slices.images(volume, config.ct)[:, 0], masks
