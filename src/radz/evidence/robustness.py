"""How far scores hold: under faults of the image at graded strength, and under prompts in other words."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from radz.evidence.opened import Opened, Rows
from radz.evidence.perturb import FAULTS, perturbed
from radz.evidence.writing import Item
from radz.experiment import find_resource
from radz.report import figures
from radz.scoring.prompts import ClassSentences, lint
from radz.scoring.results import entry
from radz.scoring.samples import Samples
from radz.scoring.zero_shot import ZeroShot

log = logging.getLogger(__name__)
WHOLE = "as it is"
READ = ("prompt", "fused")
"""scorers that read prompts"""


def compute(run: Opened) -> Item:
    """Score the split's studies anew under every fault and every paraphrase."""
    rows = run.rows(run.settings.split, run.settings.robustness_studies)
    scores: dict[str, NDArray[np.float32]] = {WHOLE: _scored(run, rows, None, 0)}
    for name, fault in FAULTS.items():
        for level in fault.levels:
            scores[f"{name} {level:g}"] = _scored(run, rows, name, level)
        log.info("scored under %s", name)
    images = Samples(run.table(rows, scores), {}, {}, run.settings.replicates, run.settings.seed)
    words = _paraphrased(run, rows)
    prompts = Samples(run.table(rows, words), {}, {}, run.settings.replicates, run.settings.seed)
    return _item(run, images, prompts, list(words), len(rows))


def _scored(run: Opened, rows: Rows, fault: str | None, level: float) -> NDArray[np.float32]:
    """Scores [n, C] of the headline."""
    parts = []
    with torch.no_grad():
        for batch in run.batches(rows, run.experiment.data.eval_batch_size):
            pixels = batch.pixels if fault is None else _faulty(run, batch, fault, level)
            found = run.classifier.score(pixels, batch.image_counts, run.modalities(batch))[run.scorer]
            parts.append(found.float().cpu().numpy())
    return np.concatenate(parts)


def _faulty(run: Opened, batch: StudyBatch, fault: str, level: float) -> torch.Tensor:
    studies = batch.pixels.cpu().split(batch.image_counts.tolist())
    found = [
        perturbed(study.numpy(), fault, level, run.settings.seed, row)
        for study, row in zip(studies, batch.rows.tolist(), strict=True)
    ]
    return torch.from_numpy(np.concatenate(found)).to(batch.pixels.device)


def read_paraphrases(name: str) -> dict[str, ClassSentences]:
    """Templates by name, from a file of `paraphrases: {name: {positive: .., negative: ..}}`; negative may be left out.

    Raises:
        InputError: another form, or a positive template without {finding}.
    """
    path = find_resource(name)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = dict(content["paraphrases"])
        found = {
            str(key): ClassSentences((str(one["positive"]),), (str(one["negative"]),) if "negative" in one else ())
            for key, one in entries.items()
        }
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise InputError(f"paraphrases: {path}: must hold `paraphrases: {{name: {{positive: sentence}}}}`") from None
    for key, one in found.items():
        if "{finding}" not in one.positive[0].lower():
            raise InputError(
                f"paraphrases: {path}: {key}: the positive sentence must contain {{finding}} or {{Finding}}"
            )
    if not found:
        raise InputError(f"paraphrases: {path}: holds no sentence")
    return found


def _paraphrased(run: Opened, rows: Rows) -> dict[str, NDArray[np.float32]]:
    """`<scorer>, <name of the prompts>` -> scores [n, C]; images are encoded once."""
    wanted: Mapping[str, ClassSentences | None] = {WHOLE: None, **read_paraphrases(run.settings.paraphrases)}
    classifiers = {}
    for name, one in wanted.items():
        scoring = run.experiment.scoring
        if one is not None:
            scoring = replace(scoring, prompts=[*one.positive], negative_prompts=[*one.negative], class_prompts={})
        texts = run.classifier.texts
        classifier = ZeroShot(run.encoder, texts, run.experiment.dfat, scoring, run.module.modalities)
        classifier.refresh(run.module.anchors, run.module.class_anchors, float(run.module.temperature))
        for classes in classifier.classes.values():
            lint(
                dict(zip(texts.findings, classes, strict=True)), dict(zip(texts.findings, texts.names, strict=True)), ()
            )
        classifiers[name] = classifier
    parts: dict[str, list[NDArray[np.float32]]] = {}
    with torch.no_grad():
        for batch in run.batches(rows, run.experiment.data.eval_batch_size):
            modalities = run.modalities(batch)
            image = run.classifier.encode(batch.pixels, batch.image_counts, modalities)
            for name, classifier in classifiers.items():
                found = classifier.score_features(image, batch.image_counts, modalities)
                for scorer in READ:
                    parts.setdefault(f"{scorer}, {name}", []).append(found[scorer].float().cpu().numpy())
    return {name: np.concatenate(part) for name, part in parts.items()}


def _macro(run: Opened, measured: Samples, name: str) -> dict[str, float | None]:
    return entry(*measured.macro(measured.of(name, run.primary), "auroc"))


def _less(run: Opened, measured: Samples, name: str, than: str) -> dict[str, float | None]:
    """Paired difference in macro AUROC over the findings that both score (an image fault may make all scores equal)."""
    pairs = [(cell, (than, cell[1])) for cell in measured.of(name, run.primary) if (than, cell[1]) in measured.points]
    return entry(*measured.difference([a for a, _ in pairs], [b for _, b in pairs]))


def _item(run: Opened, images: Samples, prompts: Samples, words: list[str], studies: int) -> Item:
    curves: figures.Rows = [["fault", "unit", "level", "auroc", "low", "high", "difference", "low", "high"]]
    whole, losses = _macro(run, images, WHOLE), {}
    drawn: dict[str, list[tuple[float, dict[str, float | None]]]] = {}
    item = Item("robustness", "Robustness", [], {"studies": studies, "scorer": run.scorer, WHOLE: whole, "faults": {}})
    for name, fault in FAULTS.items():
        for level in fault.levels:
            value, loss = _macro(run, images, f"{name} {level:g}"), _less(run, images, f"{name} {level:g}", WHOLE)
            curves.append([name, fault.unit, level, *value.values(), *loss.values()])
            item.rows.append([f"{name} {level:g}", fault.unit, [*value.values()], [*loss.values()]])
            item.numbers["faults"][f"{name} {level:g}"] = {"auroc": value, "difference": loss}
            drawn.setdefault(name, []).append((level, value))
            losses[f"{name} {level:g}"] = loss
    told = {name: loss for name, loss in losses.items() if loss["value"] is not None}
    if told:
        worst = min(told, key=lambda name: float(told[name]["value"] or 0))
        weak = min((f"{n} {f.levels[0]:g}" for n, f in FAULTS.items()), key=lambda n: float(losses[n]["value"] or 0))
        item.says.append(
            f"Scorer {run.scorer} on {studies} studies as they are: macro AUROC {_told(whole)}. The fault that hurts "
            f"most is {worst} ({_told(told[worst], True)}); of the weakest ones, {weak} ({_told(losses[weak], True)})."
        )
    item.says += _of_words(run, item, prompts, words)
    item.header = ("fault or prompts", "strength", "macro AUROC", "minus as it is")
    caption = "Macro AUROC under faults of the image, left: as it is. Bars: 95 % intervals by patient. Dashed: chance."
    item.pictures.append(("robustness", _figure(whole, drawn), curves, caption))
    if (bars := _prompt_figure(run, prompts, words)) is not None:
        item.pictures.append(("paraphrases", *bars, "Macro AUROC under prompts in other words."))
    return item


def _of_words(run: Opened, item: Item, prompts: Samples, words: list[str]) -> list[str]:
    """Sentences on the paraphrases; adds them to the item's table and numbers."""
    said = []
    item.numbers["paraphrases"] = {}
    for scorer in READ:
        own = f"{scorer}, {WHOLE}"
        mine = [name for name in words if name.startswith(f"{scorer}, ")]
        macro = {name: _macro(run, prompts, name) for name in mine}
        for name in mine:
            loss = _less(run, prompts, name, own)
            item.rows.append([name.replace("_", " "), "prompts", [*macro[name].values()], [*loss.values()]])
            item.numbers["paraphrases"][name] = {"auroc": macro[name], "difference": loss}
        others = [value["value"] for name, value in macro.items() if name != own and value["value"] is not None]
        if others and macro[own]["value"] is not None:
            said.append(
                f"Scorer {scorer} with the prompts of the run: {_told(macro[own])}; in the {len(others)} wordings "
                f"of the file from {min(others):.3f} to {max(others):.3f}."
            )
    return said


def _told(value: Mapping[str, float | None], sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    if None in value.values():
        return "undefined"
    return f"{value['value']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"


def _prompt_figure(run: Opened, prompts: Samples, words: list[str]) -> tuple[Any, figures.Rows] | None:
    from radz.report.forest import Bar, forest

    bars = []
    for name in words:
        scorer, _, form = name.partition(", ")
        bars.append(Bar(form.replace("_", " "), scorer, *_macro(run, prompts, name).values()))
    return forest({"": bars}, "macro AUROC", 0.5)


def _figure(whole: Mapping[str, float | None], drawn: Mapping[str, list[tuple[float, Any]]]) -> Any:
    """A panel for each fault, its levels evenly spaced."""
    from matplotlib.figure import Figure

    columns = 4
    lines = -(-len(drawn) // columns)
    figure = Figure(figsize=(figures.WIDTH, 2.3 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    for axes, (name, levels) in zip(grid.flat, drawn.items(), strict=False):
        points = [("none", whole), *((f"{level:g}", value) for level, value in levels)]
        there = [(x, value) for x, (_, value) in enumerate(points) if value["value"] is not None]
        axes.plot([x for x, _ in there], [v["value"] for _, v in there], "-o", color=figures.BLUE, markersize=4)
        for x, value in there:
            if value["low"] is not None:
                axes.plot([x, x], [value["low"], value["high"]], color=figures.BLUE, linewidth=1.3)
        axes.axhline(0.5, color=figures.GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_xticks(range(len(points)), [label for label, _ in points])
        axes.set_title(name)
        axes.set_xlabel(FAULTS[name].unit, fontsize=7.5)
    figure.supylabel("macro AUROC", fontsize=9)
    return figure
