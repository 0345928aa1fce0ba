"""Heat-maps of findings: over test radiographs and the slices of CTs, measured against marks where there are any."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_modules.counting import counted
from data_modules.errors import InputError
from data_modules.marks import Marks, marks
from radz.evidence import heatmap_cases, localisation
from radz.evidence.heatmap_cases import Case
from radz.evidence.items import FOLDER, Item
from radz.evidence.open_run import Opened, RowNumbers
from radz.metrics.estimates import in_words
from radz.models import heatmaps
from radz.report import figures
from radz.report.heatmap_picture import overlay, write_dicom, write_png

log = logging.getLogger(__name__)
SHOWN = ("similarity", "attention")
"""kinds of maps in the pictures"""
BEHIND = {"chest_xray": "", "chest_ct": "_ct"}
"""modality -> what the names of its pictures end in"""
COLUMNS = {
    "pointing": "pointing game",
    "random/pointing": "random pixel",
    "pointing minus random": "minus random",
    "pointing minus permuted": "minus permuted",
    "dice": "Dice",
    "dice minus random": "Dice minus random",
    "pixel_auroc": "AUROC of pixels",
    "pixel_auroc minus permuted": "minus permuted",
}
SLICE_COLUMNS = {
    "slice_hit": "slice found",
    "random/slice_hit": "random slice",
    "slice_hit minus random": "minus random",
    "slice_hit minus permuted": "minus permuted",
    "slice_auroc": "AUROC of slices",
    "slice_auroc minus permuted": "minus permuted",
}


def compute(run: Opened) -> Item:
    """Maps of the findings present in studies of the split; see `localisation` for the measures."""
    known = [marks(corpus, f"data.corpora.{n}") for n, corpus in enumerate(run.data.config.corpora)]
    chosen = {modality: heatmap_cases.chosen(run, known, modality) for modality in BEHIND}
    if not any(map(len, chosen.values())):
        raise InputError("evidence: heatmaps: the split has no study with a mark; leave heatmaps out of only=")
    item = Item("heatmaps", "Where in the image", [], {"target": run.target})
    columns = COLUMNS | (SLICE_COLUMNS if len(chosen["chest_ct"]) else {})
    item.header = ("map", "finding", "images", *columns.values())
    shutil.rmtree(run.folder / FOLDER / "heatmaps", ignore_errors=True)  # of other settings
    for modality, rows in chosen.items():
        _of_modality(run, item, known, modality, rows, list(columns))
    if not item.pictures:
        raise InputError(
            "evidence: heatmaps: no study of the split that could be looked at has one of the scored findings; "
            "warnings above say what was left out"
        )
    if cut := sorted(set().union(*(of_corpus.cut for of_corpus in known if of_corpus))):
        log.warning(
            "evidence: heatmaps: %s with boxes that reach beyond their image, such as %s",
            counted(len(cut), "row"),
            cut[0],
        )
        item.says.append(f"Rows with boxes that reach beyond their image, where they are cut: {len(cut)}.")
    readable = run.classifier.readable(run.target)
    if mute := [figures.plain(name) for name, can in zip(run.findings, readable, strict=True) if not can]:
        item.says.append(f"Without a description, and so without maps: {', '.join(mute)}.")
    return item


def _of_modality(
    run: Opened, item: Item, known: Sequence[Marks | None], modality: str, rows: RowNumbers, columns: Sequence[str]
) -> None:
    """Pictures and measures of the studies of one modality; nothing where none has a finding."""
    volumes, shown, located, beside = modality == "chest_ct", dict[str, list[Case]](), [], 0
    studies = set[int]()
    for case in heatmap_cases.cases(run, known, rows):
        if case.mask is not None and (case.marked or not volumes):
            patient = run.patients([case.row])[0]
            located.append(localisation.Located(case.row, case.finding, patient, case.mask, case.heat))
        studies.add(case.row)
        beside += case.mask is not None and not case.marked
        of_finding = shown.setdefault(case.finding, [])
        if len(of_finding) < run.settings.overlays or (volumes and case.marked):
            of_finding.append(case)
    if not shown:
        return
    shown = {name: shown[name] for name in run.findings if name in shown}
    if volumes:
        shown = {name: best_to_worst(of_finding, run.settings.overlays) for name, of_finding in shown.items()}
    _write_overlays(run, [case for of_finding in shown.values() for case in of_finding])
    item.pictures.append((f"heatmaps{BEHIND[modality]}", *_sheet(run, shown), _caption(volumes)))
    numbers = item.numbers.setdefault("ct", {}) if volumes else item.numbers
    numbers["studies"] = len(studies)
    if located:
        numbers["maps"] = _measured(run, item, located, modality, columns)
    else:
        item.says.append(
            f"{'The CTs have' if volumes else 'The corpus has'} no boxes or masks, so the maps are shown, not measured."
        )
    if volumes and beside:
        item.says.append(f"Findings that lie in none of the slices the model saw, and are not measured: {beside}.")


def best_to_worst(cases: Sequence[Case], most: int) -> list[Case]:
    """At most so many cases of volumes, evenly from the best to the worst similarity map (AUROC of pixels).

    Without a mark the first ones.
    """
    area = {
        n: localisation.measure(case.heat["similarity"], case.mask, case.mask.mean())[3]
        for n, case in enumerate(cases) if case.mask is not None and case.marked
    }  # fmt: skip
    if not area:
        return list(cases[:most])
    ranked = sorted(area, key=lambda n: -np.nan_to_num(area[n]))
    picked = np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(int)
    return [cases[ranked[n]] for n in picked]


def _caption(volumes: bool) -> str:
    if not volumes:
        return (
            "Columns of each case: the radiograph, similarity of its patches with the finding, attention times "
            "gradient. Cyan: the mark, where the corpus has one. Below its median a map is clear."
        )
    return (
        "Columns of each case, from the best to the worst by the AUROC of pixels: the slice with most of the mark, the "
        "slice where similarity is highest, that where attention times gradient is. Cyan: the mark in that slice, "
        "where the corpus has one. Below the slice's median a map is clear."
    )


def _measured(
    run: Opened, item: Item, located: list[localisation.Located], modality: str, columns: Sequence[str]
) -> dict[str, Any]:
    """The measures by kind of map, with their sentences, lines of the table and figure."""
    lines = localisation.table(located, run.settings.seed)
    summary = localisation.summary(lines, run.settings.replicates, run.settings.seed)
    volumes = modality == "chest_ct"
    for kind in heatmaps.KINDS:
        whole, findings = summary[kind]["macro"], summary[kind]["findings"]
        item.says += _sentences(kind, whole, len(findings))
        for name, cell in {"macro": whole, **findings}.items():
            shown = [cell_of(cell.get(key)) for key in columns]
            images = str(cell.get("images", len(lines) // len(heatmaps.KINDS)))
            item.rows.append([kind + ", CT" * volumes, figures.plain(name), images, *shown])
    lines = lines.drop(columns="row").astype(object).where(lines.drop(columns="row").notna(), "")
    item.tables[f"localisation{BEHIND[modality]}_images"] = [list(lines.columns), *lines.to_numpy().tolist()]
    caption = f"Pointing game{' in volumes' * volumes} and chance, with 95 % intervals by patient."
    item.pictures.append((f"localisation{BEHIND[modality]}", *_beyond(summary), caption))
    return summary


def _sentences(kind: str, whole: Mapping[str, Any], findings: int) -> list[str]:
    """One kind of map against both chances, also when it does not beat them; of volumes its slices too."""
    volumes = "slice_hit" in whole
    others = f"maps of other {'volumes' if volumes else 'images'} of the same finding"
    value, against = whole["pointing"]["value"], against_chance(whole, "pointing", "a random pixel", others)
    over = counted(findings, "finding")
    says = [f"Map {'of CT ' * volumes}by {kind}: pointing game {value:.3f} over {over}; it {against}."]
    if volumes:
        value, against = whole["slice_hit"]["value"], against_chance(whole, "slice_hit", "a random slice", others)
        says.append(f"Its highest pixel lies in a slice with the finding in {value:.3f} of volumes; it {against}.")
    return says


def against_chance(whole: Mapping[str, Any], measure: str, random: str, others: str) -> str:
    verdicts = []
    for chance, words in (("random", random), ("permuted", others)):
        gain = whole.get(f"{measure} minus {chance}")
        if not gain or gain["value"] is None:
            continue
        # Without an interval every resample has the value itself.
        low, high = (gain["value"] if gain[end] is None else gain[end] for end in ("low", "high"))
        verdict = "beats" if low > 0 else "does worse than" if high < 0 else "does not beat"
        verdicts.append(f"{verdict} {words} ({in_words(gain, '+.3f')})")
    return ", and ".join(verdicts)


def cell_of(value: Mapping[str, Any] | None) -> list[float | None]:
    return [value["value"], value["low"], value["high"]] if value else [None, None, None]


def _beyond(summary: Mapping[str, Any]) -> tuple[Any, figures.CsvRows]:
    from radz.report.forest import Bar, forest

    bars: dict[str, list[Bar]] = {}
    for name in ("macro", *next(iter(summary.values()))["findings"]):
        title = "" if name == "macro" else "per finding"
        for kind, of_kind in summary.items():
            cell = of_kind["macro"] if name == "macro" else of_kind["findings"][name]
            bars.setdefault(title, []).append(Bar(figures.plain(name), kind, *cell_of(cell["pointing"])))
        # The last kind of map is that of attention.
        for chance, words in (("random", "random pixel"), ("permuted", "attention maps, permuted")):
            bars[title].append(Bar(figures.plain(name), words, *cell_of(cell.get(f"{chance}/pointing"))))
    drawn = forest(bars, "share of maps whose highest pixel lies in the mark", 0.0)
    assert drawn is not None, "the macro has a value"
    return drawn


def _sheet(run: Opened, shown: Mapping[str, list[Case]]) -> tuple[Any, figures.CsvRows]:
    """One line per finding: its cases, each as image and maps, of a volume the slices where these are highest."""
    width, most = 1 + len(SHOWN), max(map(len, shown.values()))
    figure = figures.new_figure(len(shown) * figures.WIDTH / (most * width) * 1.12)
    grid = figure.subplots(len(shown), most * width, squeeze=False)
    volumes = next(iter(shown.values()))[0].image.ndim == 3
    rows: figures.CsvRows = [["finding", "study", "map", "highest", "in_mark", *["slice"] * volumes]]
    for line, (name, cases) in zip(grid, shown.items(), strict=True):
        for axes in line:
            axes.set_axis_off()
        line[0].set_title(figures.plain(name), fontsize=7, pad=2)
        for number, case in enumerate(cases):
            image, _, mask = case.at(case.slice_of(""))
            line[number * width].imshow(overlay(image, np.zeros(image.shape, np.float32), mask))
            for at, kind in enumerate(SHOWN, start=1):
                index = case.slice_of(kind)
                image, maps, mask = case.at(index)
                heat = maps[kind]
                line[number * width + at].imshow(overlay(image, heat, mask))
                top = np.unravel_index(int(np.nanargmax(heat)), heat.shape)
                inside = "" if mask is None else int(mask[top])
                of_slice = [] if index is None else [index + 1]
                rows.append([name, run.hashed(case.row), kind, f"{float(np.nanmax(heat)):.6g}", inside, *of_slice])
    return figure, rows


def _write_overlays(run: Opened, cases: list[Case]) -> None:
    """evidence/heatmaps/<finding>_<study hash>_<kind>.png and .dcm, in original pixels; of a volume the slice shown."""
    folder = run.folder / FOLDER / "heatmaps"
    for number, case in enumerate(cases, start=1):
        study, patient = run.hashed(case.row), run.patients([case.row])[0]
        for kind in SHOWN:
            index = case.slice_of(kind)
            image, maps, _ = case.at(index)
            rgb = overlay(image, maps[kind])
            path = folder / f"{case.finding}_{study}_{kind}.png"
            write_png(path, rgb)
            if run.settings.dicom:
                words = f"{figures.plain(case.finding)}, {kind} heat-map"
                words += "" if index is None else f", slice {index + 1}"
                write_dicom(path.with_suffix(".dcm"), rgb, study, patient, words, number)
