"""How far scores hold: under faults of the image at graded strength, and under prompts in other words."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_modules.batch import StudyBatch
from data_modules.counting import counted
from radz.evidence.items import Item
from radz.evidence.open_run import Opened, RowNumbers
from radz.evidence.perturbations import FAULTS, perturbed
from radz.metrics.estimates import Estimates, in_words
from radz.models.prompts import ClassSentences, lint, read_paraphrases
from radz.models.zero_shot import ZeroShot
from radz.report import figures

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
    images = Estimates(run.table(rows, scores), {}, {}, run.settings.replicates, run.settings.seed)
    words = _paraphrased(run, rows)
    prompts = Estimates(run.table(rows, words), {}, {}, run.settings.replicates, run.settings.seed)
    return _item(run, images, prompts, list(words), len(rows))


def _scored(run: Opened, rows: RowNumbers, fault: str | None, level: float) -> NDArray[np.float32]:
    """Scores [n, C] of the headline."""

    def scores(batch: StudyBatch) -> torch.Tensor:
        pixels = batch.pixels if fault is None else _faulty(run, batch, fault, level)
        return run.classifier.score(pixels, batch.image_counts, run.modalities(batch))[run.scoring.headline]

    return run.over(rows, scores)


def _faulty(run: Opened, batch: StudyBatch, fault: str, level: float) -> torch.Tensor:
    # On the CPU and by the row of the table, so that draws depend on neither device nor batch.
    studies = batch.pixels.cpu().split(batch.image_counts.tolist())
    faulty = [
        perturbed(study.numpy(), fault, level, run.settings.seed, row)
        for study, row in zip(studies, batch.rows.tolist(), strict=True)
    ]
    return torch.from_numpy(np.concatenate(faulty)).to(batch.pixels.device)


def _paraphrased(run: Opened, rows: RowNumbers) -> dict[str, NDArray[np.float32]]:
    """`<scorer>, <name of the prompts>` -> scores [n, C]; images are encoded once."""
    wanted: Mapping[str, ClassSentences | None] = {WHOLE: None, **read_paraphrases(run.settings.paraphrases)}
    classifiers = {}
    for name, words in wanted.items():
        scoring = run.scoring
        if words is not None:
            scoring = replace(scoring, prompts=[*words.positive], negative_prompts=[*words.negative], class_prompts={})
        texts, of_bank = run.classifier.texts, run.classifier.of_bank
        classifier = ZeroShot(run.encoder, texts, of_bank, run.module.dfat, scoring, run.module.modalities)
        classifier.refresh(run.module.anchors, run.module.class_anchors, float(run.module.temperature))
        names = dict(zip(texts.findings, texts.names, strict=True))
        for classes in classifier.classes.values():
            lint(dict(zip(texts.findings, classes, strict=True)), names, ())
        classifiers[name] = classifier
    parts: dict[str, list[NDArray[np.float32]]] = {}
    with torch.no_grad():
        for batch in run.batches(rows, run.data.config.eval_batch_size):
            modalities = run.modalities(batch)
            image = run.classifier.encode(batch.pixels, batch.image_counts, modalities)
            for name, classifier in classifiers.items():
                scores = classifier.score_features(image, batch.image_counts, modalities)
                for scorer in READ:
                    parts.setdefault(f"{scorer}, {name}", []).append(scores[scorer].float().cpu().numpy())
    return {name: np.concatenate(part) for name, part in parts.items()}


def _macro(run: Opened, measured: Estimates, name: str) -> dict[str, float | None]:
    return measured.macro(measured.of(name, run.primary), "auroc")


def _less(run: Opened, measured: Estimates, name: str, than: str) -> dict[str, float | None]:
    """Paired difference in macro AUROC over the findings that both score (an image fault may make all scores equal)."""
    pairs = [(cell, (than, cell[1])) for cell in measured.of(name, run.primary) if (than, cell[1]) in measured.points]
    return measured.difference([a for a, _ in pairs], [b for _, b in pairs])


def _item(run: Opened, images: Estimates, prompts: Estimates, words: list[str], studies: int) -> Item:
    curves: figures.CsvRows = [
        ["fault", "unit", "level", "auroc", "low", "high", "difference", "difference_low", "difference_high"]
    ]
    scorer, whole, losses = run.scoring.headline, _macro(run, images, WHOLE), {}
    drawn: dict[str, list[tuple[float, dict[str, float | None]]]] = {}
    item = Item("robustness", "Robustness", [], {"studies": studies, "scorer": scorer, WHOLE: whole, "faults": {}})
    for name, fault in FAULTS.items():
        for level in fault.levels:
            value, loss = _macro(run, images, f"{name} {level:g}"), _less(run, images, f"{name} {level:g}", WHOLE)
            curves.append([name, fault.unit, level, *value.values(), *loss.values()])
            item.rows.append([f"{name} {level:g}", fault.unit, [*value.values()], [*loss.values()]])
            item.numbers["faults"][f"{name} {level:g}"] = {"auroc": value, "difference": loss}
            drawn.setdefault(name, []).append((level, value))
            losses[f"{name} {level:g}"] = loss
    lost = {name: loss for name, loss in losses.items() if loss["value"] is not None}
    if lost:
        worst = min(lost, key=lambda name: float(lost[name]["value"] or 0))
        weak = min((f"{n} {f.levels[0]:g}" for n, f in FAULTS.items()), key=lambda n: float(losses[n]["value"] or 0))
        item.says.append(
            f"Scorer {scorer} on {counted(studies, 'study')} as they are: macro AUROC {in_words(whole)}. The fault "
            f"that hurts most is {worst} ({lost[worst]['value']:+.3f}); of the weakest ones, {weak} "
            f"({in_words({**losses[weak], 'low': None}, '+.3f')})."
        )
    item.says += _of_words(run, item, prompts, words)
    item.header = ("fault or prompts", "strength", "macro AUROC", "minus as it is")
    caption = "Macro AUROC under faults of the image, left: as it is. Bars: 95 % intervals by patient. Dashed: chance."
    item.pictures.append(("robustness", _figure(whole, drawn), curves, caption))
    if (bars := _prompt_figure(run, prompts, words)) is not None:
        item.pictures.append(("paraphrases", *bars, "Macro AUROC under prompts in other words."))
    return item


def _of_words(run: Opened, item: Item, prompts: Estimates, words: list[str]) -> list[str]:
    """Sentences on the paraphrases; adds them to the item's table and numbers."""
    said = []
    item.numbers["paraphrases"] = {}
    for scorer in READ:
        own = f"{scorer}, {WHOLE}"
        macro = {name: _macro(run, prompts, name) for name in words if name.startswith(f"{scorer}, ")}
        for name, value in macro.items():
            loss = _less(run, prompts, name, own)
            item.rows.append([name.replace("_", " "), "prompts", [*value.values()], [*loss.values()]])
            item.numbers["paraphrases"][name] = {"auroc": value, "difference": loss}
        others = [value["value"] for name, value in macro.items() if name != own and value["value"] is not None]
        if others and macro[own]["value"] is not None:
            said.append(
                f"Scorer {scorer} with the prompts of the run: {in_words(macro[own])}; in the {len(others)} wordings "
                f"of the file from {min(others):.3f} to {max(others):.3f}."
            )
    return said


def _prompt_figure(run: Opened, prompts: Estimates, words: list[str]) -> tuple[Any, figures.CsvRows] | None:
    from radz.report.forest import Bar, forest

    bars = []
    for name in words:
        scorer, _, form = name.partition(", ")
        bars.append(Bar(form.replace("_", " "), scorer, *_macro(run, prompts, name).values()))
    return forest({"": bars}, "macro AUROC", 0.5)


def _figure(whole: Mapping[str, float | None], drawn: Mapping[str, list[tuple[float, Any]]]) -> Any:
    """A panel for each fault, its levels evenly spaced."""
    figure, panels = figures.small_multiples(len(drawn), 4, 2.3, sharey=True)
    for axes, (name, levels) in zip(panels, drawn.items(), strict=True):
        points = [("none", whole), *((f"{level:g}", value) for level, value in levels)]
        defined = [(x, value) for x, (_, value) in enumerate(points) if value["value"] is not None]
        axes.plot([x for x, _ in defined], [v["value"] for _, v in defined], "-o", color=figures.BLUE, markersize=4)
        for x, value in defined:
            if value["low"] is not None:
                axes.plot([x, x], [value["low"], value["high"]], color=figures.BLUE, linewidth=1.3)
        axes.axhline(0.5, color=figures.GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_xticks(range(len(points)), [label for label, _ in points])
        axes.set_title(name)
        axes.set_xlabel(FAULTS[name].unit, fontsize=7.5)
    figure.supylabel("macro AUROC", fontsize=9)
    return figure
