"""Whether phrases of reports are seen where radiologists drew them: maps of sentences against the boxes of a list.

The map of a phrase is the similarity of its features with every image token, in the pixels of the original image, as
`Mapper.similarity` has it of prompts; see `localisation` for the measures. No phrase is written anywhere: it is of a
report.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_modules.config import SPLITS
from data_modules.counting import counted
from data_modules.errors import InputError
from data_modules.marks import stem
from data_modules.phrases import Phrase, read_phrases
from data_modules.pixels import pixel_aspect, read_gray
from data_modules.placing import to_original
from radz.evidence import localisation
from radz.evidence.config import EvidenceConfig
from radz.evidence.heatmap_quality import against_chance, cell_of
from radz.evidence.items import Item
from radz.evidence.open_run import Opened, RowNumbers
from radz.models.losses import cosine
from radz.report import figures
from radz.report.forest import Bar, forest

log = logging.getLogger(__name__)
KIND = "similarity"
COLUMNS = {
    "pointing": "pointing game",
    "random/pointing": "random pixel",
    "pointing minus permuted": "minus permuted",
    "iou": "IoU",
    "iou minus permuted": "minus permuted",
    "dice": "Dice",
    "cnr": "CNR",
    "cnr minus permuted": "minus permuted",
    "pixel_auroc": "AUROC of pixels",
}


@dataclass(frozen=True)
class Placed:
    """The phrases of one image of a study."""

    row: int
    place: int
    """of the image in the study table"""
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True)
class Grounded:
    """A phrase over its image, a `localisation.Marked` that keeps the map over the patches alone."""

    row: int
    finding: str
    patient: str
    phrase: Phrase
    shape: tuple[int, int]
    """of the image"""
    grid: NDArray[np.float32]
    """[g, g]"""
    size: int
    resize: str
    aspect: float
    """height of a pixel over its width"""
    covered: float
    """see `Backbone.covered`"""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[H, W], the union of the boxes."""
        return self.phrase.mask(self.shape)

    @property
    def maps(self) -> dict[str, NDArray[np.float32]]:
        """[H, W] under KIND, NaN where a crop cut off."""
        return {KIND: to_original(self.grid, self.shape, self.size, self.resize, self.aspect, self.covered)}


def listed(settings: EvidenceConfig) -> tuple[list[Phrase], int]:
    """`read_phrases` of the file of the settings."""
    return read_phrases(Path(settings.phrases).expanduser(), "phrases")


def compute(run: Opened) -> Item:
    """Measure the maps of all phrases on at most `heatmap_studies` studies of the split."""
    phrases, without = listed(run.settings)
    of_image: dict[str, list[Phrase]] = {}
    for phrase in phrases:
        of_image.setdefault(phrase.image, []).append(phrase)
    everywhere = _placed(run, of_image, run.settings.split)
    if not everywhere:
        raise InputError(_nowhere(run, of_image))
    rows = np.array(sorted({one.row for one in everywhere}), dtype=np.int64)
    drawn = np.sort(np.random.default_rng(run.settings.seed).permutation(rows)[: run.settings.heatmap_studies])
    chosen = [one for one in everywhere if one.row in set(drawn.tolist())]
    located = list(_located(run, drawn, chosen))
    if not located:
        raise InputError("evidence: phrases: no phrase could be set against its image; the warnings above say why")
    wanted = sum(len(one.phrases) for one in chosen)
    item = _item(run, located)
    item.says += [
        f"Of the {counted(len(of_image), 'image')} of the list {len(everywhere):,} are in {run.settings.split}; "
        f"measured are {counted(len(located), 'phrase')} "
        f"of {len(drawn):,} of {counted(len(rows), 'study')} (heatmap_studies)."
    ]
    if without:
        item.says.append(f"Sentences of the list without any box, which are not measured: {without:,}.")
    if wanted > len(located):
        item.says.append(f"Phrases that could not be set against their image, by the log: {wanted - len(located):,}.")
    if run.settings.split == "train":
        item.says.append("These are training studies: the model has seen the reports that the phrases are from.")
    item.numbers |= {"phrases": len(located), "without_boxes": without, "left_out": wanted - len(located)}
    return item


def _placed(run: Opened, of_image: Mapping[str, Sequence[Phrase]], split: str) -> list[Placed]:
    """The images of radiographs of a split that the list has, in table order."""
    table, found = run.data.table, []
    for row in table.rows(split).tolist():
        if table.modality[row] != "chest_xray":
            continue
        for place in range(table.image_offsets[row], table.image_offsets[row + 1]):
            if own := of_image.get(stem(table.image_ids[place])):
                found.append(Placed(row, place, tuple(own)))
    return found


def _nowhere(run: Opened, of_image: Mapping[str, Sequence[Phrase]]) -> str:
    """Why nothing is measured, with how many images of the list are in other splits."""
    split, counts = run.settings.split, {other: len(_placed(run, of_image, other)) for other in SPLITS}
    elsewhere = ", ".join(f"{count:,} in {other}" for other, count in counts.items() if count)
    most = max(counts, key=lambda other: counts[other])
    advice = f"give split={most}" if elsewhere else "give the list of this run's corpus, or an evaluation on the list's"
    return (
        f"phrases={run.settings.phrases}: none of its {counted(len(of_image), 'image')} is in split {split} of "
        f"{'+'.join(run.data.table.corpora)} ({elsewhere or 'nor in another'}); {advice}"
    )


def _located(run: Opened, rows: RowNumbers, chosen: Sequence[Placed]) -> Iterator[Grounded]:
    """Every phrase with its map and boxes; images that cannot be read or have another size are told and left out."""
    at = {one.place: one for one in chosen}
    texts = list(dict.fromkeys(phrase.text for one in chosen for phrase in one.phrases))
    number = {text: n for n, text in enumerate(texts)}
    spoken = _spoken(run, texts)
    table, data = run.data.table, run.data
    for batch in run.batches(rows):
        features, _ = run.mapper.tokens(batch.pixels, batch.image_counts, run.modalities(batch))
        image = 0
        for row in batch.rows.tolist():
            for place in range(table.image_offsets[row], table.image_offsets[row + 1]):
                # As many as the model saw, so that a file that cannot be read shifts no other.
                here, image = image, image + int(data.cache.slices[place])
                if place not in at:
                    continue
                phrases = at[place].phrases
                if image == here:
                    log.warning("evidence: phrases: an image is left out that is not in the cache: it cannot be read")
                    continue
                scores = cosine(features[here], spoken[[number[phrase.text] for phrase in phrases]])
                grids = run.mapper.grids(scores[None], batch.pixels.shape[-1])[0].float().cpu().numpy()
                yield from _of_image(run, at[place], grids)


def _of_image(run: Opened, one: Placed, grids: NDArray[np.float32]) -> Iterator[Grounded]:
    """The phrases of one image; grids [K, g, g]."""
    table, config = run.data.table, run.data.config
    patient = run.patients([one.row])[0]
    path = Path(table.image_paths[one.place])
    try:
        shape = read_gray(path, run.data.named([one.row])[0], config.frames).shape
        aspect = pixel_aspect(path)
    except InputError as error:  # it is in the cache, and the file has changed since
        log.warning("evidence: phrases: an image is left out: %s", error)
        return
    for phrase, grid in zip(one.phrases, grids, strict=True):
        try:
            phrase.mask(shape)
        except InputError as error:
            log.warning("evidence: phrases: a phrase is left out: %s", error)
            continue
        placed = (shape[0], shape[1]), grid.copy(), config.image_size, config.resize, aspect
        covered = run.encoder.backbone.covered(config.image_size)
        yield Grounded(one.row, phrase.category, patient, phrase, *placed, covered)


def _spoken(run: Opened, texts: list[str]) -> Tensor:
    """Features [K, e] of phrases, of the side that the loss compared with single image tokens, less what they share."""
    dfat, spoken = run.module.dfat, run.spoken(texts)
    by_tokens = dfat.sentences_weight > 0 and dfat.sentences_by == "tokens"
    return spoken.overall if by_tokens or dfat.loss != "global_local" else spoken.local


def _item(run: Opened, located: list[Grounded]) -> Item:
    lines = localisation.table(located, run.settings.seed)
    summary = localisation.summary(lines, run.settings.replicates, run.settings.seed)[KIND]
    item = Item("phrases", "Where phrases are seen", [], {"maps": summary})
    item.header = ("finding", "phrases", *COLUMNS.values())
    whole, categories = summary["macro"], summary["findings"]
    for name, cell in {"macro": whole, **categories}.items():
        count = str(cell.get("images", len(located)))
        item.rows.append([figures.plain(name), count, *(cell_of(cell.get(key)) for key in COLUMNS)])
    value, others = whole["pointing"]["value"], "maps of other phrases of the same finding"
    item.says.append(
        f"Maps of phrases by similarity: pointing game {value:.3f} over {counted(len(categories), 'finding')}; it "
        f"{against_chance(whole, 'pointing', 'a random pixel', others)}."
    )
    shown = lines.drop(columns="row").astype(object).where(lines.drop(columns="row").notna(), "")
    item.tables["phrases_images"] = [list(shown.columns), *shown.to_numpy().tolist()]
    caption = "Pointing game of the maps of phrases and its chance levels, with 95 % intervals by patient."
    item.pictures.append(("phrases", *_figure(summary), caption))
    return item


def _figure(summary: Mapping[str, Any]) -> tuple[Any, figures.CsvRows]:
    series = {"pointing": "phrases", "random/pointing": "random pixel", "permuted/pointing": "permuted phrases"}
    bars: dict[str, list[Bar]] = {"": [], "per finding": []}
    for name, cell in {"macro": summary["macro"], **summary["findings"]}.items():
        of_it = [Bar(figures.plain(name), words, *cell_of(cell.get(key))) for key, words in series.items()]
        bars["" if name == "macro" else "per finding"] += of_it
    drawn = forest(bars, "share of maps whose highest pixel lies in the boxes", 0.0)
    assert drawn is not None, "the macro has a value"
    return drawn
