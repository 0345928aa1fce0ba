"""Heat-maps of findings: over test radiographs, measured against marks where the corpus has them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError
from data_modules.marks import Marks, marks
from data_modules.pixels import Gray, read_gray
from data_modules.placing import to_original
from radz.evidence import localisation
from radz.evidence.items import FOLDER, Item
from radz.evidence.open_run import Opened, RowNumbers
from radz.models import heatmaps
from radz.report import figures
from radz.report.heatmap_picture import overlay, write_dicom, write_png

log = logging.getLogger(__name__)
SHOWN = ("similarity", "attention")
"""kinds of maps in the pictures"""


@dataclass(frozen=True)
class Picture:
    """One finding over one image."""

    row: int
    finding: str
    image: Gray
    heat: dict[str, NDArray[np.float32]]
    mask: NDArray[np.bool_] | None


def compute(run: Opened) -> Item:
    """Maps of the findings present in studies of the split; see `localise` for the measures."""
    known = [marks(corpus, f"data.corpora.{n}") for n, corpus in enumerate(run.data.config.corpora)]
    located: list[localisation.Located] = []
    pictures: dict[str, list[Picture]] = {name: [] for name in run.findings}
    for row, image, heat, masks in _images(run, known):
        for finding, of_finding in heat.items():
            mask = masks.get(finding)
            if mask is not None:
                located.append(localisation.Located(row, finding, run.patients([row])[0], mask, of_finding))
            if len(pictures[finding]) < run.settings.overlays:
                pictures[finding].append(Picture(row, finding, image, of_finding, mask))
    if not any(pictures.values()):
        raise InputError("evidence: heatmaps: no radiograph of the split has one of the scored findings")
    cases = [case for of_finding in pictures.values() for case in of_finding]
    _write_overlays(run, cases)
    caption = (
        "Columns of each case: the radiograph, similarity of its patches with the finding, attention times gradient. "
        "Cyan: the mark, where the corpus has one. Below its median a map is clear."
    )
    item = Item("heatmaps", "Where in the image", [], {"target": run.target, "studies": len({c.row for c in cases})})
    item.pictures.append(("heatmaps", *_sheet(run, pictures), caption))
    readable = run.classifier.readable(run.target)
    if mute := [figures.plain(name) for name, can in zip(run.findings, readable, strict=True) if not can]:
        item.says.append(f"Without a description, and so without maps: {', '.join(mute)}.")
    if located:
        _measured(run, item, located)
    else:
        item.says.append("The corpus has no boxes or masks, so the maps are shown and not measured.")
    return item


def _images(run: Opened, known: list[Marks | None]) -> Any:
    """(row, image, finding -> kind -> map, finding -> mask) of each radiograph; marked ones where there are marks."""
    data, table = run.data, run.data.table
    rows, readable = _chosen(run, known), run.classifier.readable(run.target)
    labels = dict(zip(rows.tolist(), run.labels(rows), strict=True))
    for batch in run.batches(rows):
        present = [
            {run.findings[k] for k in np.flatnonzero(labels[row] == 1) if readable[k]} for row in batch.rows.tolist()
        ]
        wanted = [k for k, name in enumerate(run.findings) if any(name in of_study for of_study in present)]
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
        start = 0
        for study, row in enumerate(batch.rows.tolist()):
            for number, place in enumerate(range(table.image_offsets[row], table.image_offsets[row + 1])):
                try:
                    image = read_gray(Path(table.image_paths[place]), run.data.named([row])[0], data.config.frames)
                except InputError as error:  # its planes are in the cache, and the file has changed since
                    log.warning("evidence: heatmaps: an image is left out: %s", error)
                    continue
                of_corpus = known[table.corpus[row]]
                masks = of_corpus.masks(table.image_ids[place], image.shape) if of_corpus is not None else {}
                heat = {
                    run.findings[k]: {
                        kind: to_original(
                            values[start + number, at], image.shape, data.config.image_size, data.config.resize
                        )
                        for kind, values in arrays.items()
                    }
                    for at, k in enumerate(wanted)
                    if run.findings[k] in present[study]
                }
                yield row, image, heat, masks
            start += int(table.image_offsets[row + 1] - table.image_offsets[row])


def _chosen(run: Opened, known: list[Marks | None]) -> RowNumbers:
    """Radiographs of the split: at most `heatmap_studies`, of corpora with marks only marked ones."""
    table = run.data.table

    def usable(row: int) -> bool:
        of_corpus = known[table.corpus[row]]
        images = table.image_ids[table.image_offsets[row] : table.image_offsets[row + 1]]
        return table.modality[row] == "chest_xray" and (of_corpus is None or any(map(of_corpus.marked, images)))

    every = run.rows(run.settings.split, len(table))
    rows = np.array([row for row in every if usable(row)], dtype=np.int64)
    if not len(rows):
        raise InputError(
            "evidence: heatmaps: the split has no radiograph (maps of CT slices are not made), or none with a mark; "
            "leave heatmaps out of only="
        )
    order = np.random.default_rng(run.settings.seed).permutation(rows)
    chosen: RowNumbers = np.sort(order[: run.settings.heatmap_studies])
    return chosen


def _measured(run: Opened, item: Item, located: list[localisation.Located]) -> None:
    """Numbers, sentences, table and figure of the measures."""
    lines = localisation.table(located, run.settings.seed)
    summary = localisation.summary(lines, run.settings.replicates, run.settings.seed)
    item.numbers["maps"] = summary
    for kind in heatmaps.KINDS:
        whole, findings = summary[kind]["macro"], summary[kind]["findings"]
        item.says.append(_sentence(kind, whole, len(findings)))
        for name, cell in {"macro": whole, **findings}.items():
            shown = [_cell(cell.get(key)) for key in (
                "pointing", "random/pointing", "pointing minus random", "pointing minus permuted", "dice",
                "dice minus random", "pixel_auroc", "pixel_auroc minus permuted",
            )]  # fmt: skip
            item.rows.append(
                [kind, figures.plain(name), str(cell.get("images", len(lines) // len(heatmaps.KINDS))), *shown]
            )
    item.header = (
        "map", "finding", "images", "pointing game", "random pixel", "minus random", "minus permuted", "Dice",
        "Dice minus random", "AUROC of pixels", "minus permuted",
    )  # fmt: skip
    lines = lines.drop(columns="row").astype(object).where(lines.drop(columns="row").notna(), "")
    item.tables["localisation_images"] = [list(lines.columns), *lines.to_numpy().tolist()]
    caption = "Pointing game and chance, with 95 % intervals by patient."
    item.pictures.append(("localisation", *_beyond(summary), caption))


def _sentence(kind: str, whole: Mapping[str, Any], findings: int) -> str:
    """One kind of map against both chances, also when it does not beat them."""
    verdicts = []
    for chance, words in (("random", "a random pixel"), ("permuted", "maps of other images of the same finding")):
        gain = whole.get(f"pointing minus {chance}")
        if not gain or gain["low"] is None:
            continue
        verdict = "beats" if gain["low"] > 0 else "does worse than" if gain["high"] < 0 else "does not beat"
        verdicts.append(f"{verdict} {words} ({gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}])")
    value = whole["pointing"]["value"]
    return f"Map by {kind}: pointing game {value:.3f} over {findings} findings; it " + ", and ".join(verdicts) + "."


def _cell(value: Mapping[str, Any] | None) -> list[float | None]:
    return [value["value"], value["low"], value["high"]] if value else [None, None, None]


def _beyond(summary: Mapping[str, Any]) -> tuple[Any, figures.CsvRows]:
    from radz.report.forest import Bar, forest

    bars: dict[str, list[Bar]] = {}
    for name in ("macro", *next(iter(summary.values()))["findings"]):
        title = "" if name == "macro" else "per finding"
        for kind, of_kind in summary.items():
            cell = of_kind["macro"] if name == "macro" else of_kind["findings"][name]
            bars.setdefault(title, []).append(Bar(figures.plain(name), kind, *_cell(cell["pointing"])))
        # The last kind of map is that of attention.
        for chance, words in (("random", "random pixel"), ("permuted", "attention maps, permuted")):
            bars[title].append(Bar(figures.plain(name), words, *_cell(cell.get(f"{chance}/pointing"))))
    drawn = forest(bars, "share of maps whose highest pixel lies in the mark", 0.0)
    assert drawn is not None, "the macro has a value"
    return drawn


def _sheet(run: Opened, pictures: Mapping[str, list[Picture]]) -> tuple[Any, figures.CsvRows]:
    """One line per finding: its cases, each as image and maps."""
    shown = {name: cases for name, cases in pictures.items() if cases}
    width, most = 1 + len(SHOWN), max(map(len, shown.values()))
    figure = figures.new_figure(len(shown) * figures.WIDTH / (most * width) * 1.12)
    grid = figure.subplots(len(shown), most * width, squeeze=False)
    rows: figures.CsvRows = [["finding", "study", "map", "highest", "in_mark"]]
    for line, (name, cases) in zip(grid, shown.items(), strict=True):
        for axes in line:
            axes.set_axis_off()
        line[0].set_title(figures.plain(name), fontsize=7, pad=2)
        for number, case in enumerate(cases):
            whole = np.zeros(case.image.shape, np.float32)
            line[number * width].imshow(overlay(case.image, whole, case.mask))
            for at, kind in enumerate(SHOWN, start=1):
                heat = case.heat[kind]
                line[number * width + at].imshow(overlay(case.image, heat, case.mask))
                top = np.unravel_index(int(np.nanargmax(heat)), heat.shape)
                inside = "" if case.mask is None else int(case.mask[top])
                rows.append([name, run.hashed(case.row), kind, f"{float(np.nanmax(heat)):.6g}", inside])
    return figure, rows


def _write_overlays(run: Opened, cases: list[Picture]) -> None:
    """evidence/heatmaps/<finding>_<study hash>_<kind>.png and .dcm, in original pixels."""
    folder = run.folder / FOLDER / "heatmaps"
    shutil.rmtree(folder, ignore_errors=True)  # of other settings
    for number, case in enumerate(cases, start=1):
        study, patient = run.hashed(case.row), run.patients([case.row])[0]
        for kind in SHOWN:
            rgb = overlay(case.image, case.heat[kind])
            path = folder / f"{case.finding}_{study}_{kind}.png"
            write_png(path, rgb)
            if run.settings.dicom:
                words = f"{figures.plain(case.finding)}, {kind} heat-map"
                write_dicom(path.with_suffix(".dcm"), rgb, study, patient, words, number)
