"""One self-contained HTML page per run: what it scored, how sure that is, how it trained, and where it was wrong.

The page is built from the run folder alone: metrics.json, predictions/, metrics.csv, environment.json, config.yaml,
evidence/.
It holds no corpus identifier: predictions are read for curves only, and cases arrive as pictures.
"""

from __future__ import annotations

import csv
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from data_modules.errors import InputError
from data_modules.files import read_json, read_rows, write_text
from data_modules.parsing import parse_yaml
from radz.metrics.estimates import METRICS
from radz.metrics.results_file import averaged, read_results
from radz.metrics.score_table import ScoreTable, prediction_file
from radz.metrics.split_results import GROUPS
from radz.report import evidence_section, figures, forest, panels
from radz.report.forest import Bar
from radz.report.templates import embedded, environment, flat, number, scalar

logger = logging.getLogger(__name__)

BASELINE = "pixel32"
KINDS = ("best", "worst")


@dataclass(frozen=True)
class Case:
    """One example for the page."""

    finding: str
    kind: str
    """best (sure and right) or worst (sure and wrong)"""
    score: float
    """of the headline scorer, in [0, 1]"""
    label: float
    """1 present, 0 absent"""
    image: NDArray[np.uint8]
    """[H, W]"""
    text: str = ""
    """report shown beside the picture; must hold no identifier"""


def write_report(run_dir: Path, cases: Sequence[Case] | None = None, place: Path | None = None) -> Path:
    """Write `report.html` and `figures/*.{png,csv}` of a run folder and return the page's path.

    What a run does not have (training curves, environment, predictions, cases) is left out or named as not recorded.
    `place`: what the folder will be called, where it is a draft.
    Raises InputError when metrics.json is missing or unreadable.
    """
    from matplotlib import rc_context

    metrics = read_results(run_dir)
    folder, named = run_dir / "figures", (place or run_dir).resolve()
    logged = _columns(run_dir / "metrics.csv")
    recorded = read_json(run_dir / "environment.json") or {}
    with rc_context(figures.STYLE):
        sections = [_section(run_dir, key, result, metrics, folder) for key, result in metrics["results"].items()]
        curves = figures.embed(figures.training(logged), folder, "training")
    # The test split leads; validation and other corpora follow in the order of metrics.json.
    sections.sort(key=lambda section: not section["key"].endswith("/test"))
    page = (
        environment()
        .get_template("report.html.jinja")
        .render(
            title=f"{named.parent.name} / {named.name}",
            metrics=metrics,
            sections=sections,
            curves=curves,
            cases=_cases(cases or []),
            evidence=evidence_section.sections(run_dir),
            environment=flat(recorded),
            cost=_cost(metrics, recorded, logged, _config(run_dir)),
            mapping=(mapping := _mapping(run_dir)),
            from_reports=sum("from report" in line for line in mapping),
            config=_text(run_dir / "config.yaml"),
            seen_titles=figures.SEEN_TITLES,
            groups=GROUPS,
            baseline=BASELINE,
        )
    )
    path = run_dir / "report.html"
    write_text(path, page)
    logger.info("report written to %s", named / path.name)
    return path


def _section(run_dir: Path, key: str, result: dict[str, Any], metrics: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the template needs of one corpus and split, with its figures drawn."""
    scorers = result["scorers"]
    named = str(metrics.get("headline_scorer"))
    headline = named if named in scorers else next(iter(scorers))
    baseline = BASELINE if BASELINE in scorers and headline != BASELINE else None
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", key)
    own = scorers[headline]["findings"]
    order = sorted(own, key=lambda name: (GROUPS.index(own[name]["seen"]), -own[name]["auroc"]["value"]))
    predictions = prediction_file(run_dir, key)
    curves: dict[str, dict[str, str] | None] = {}
    if predictions.is_file():
        table = ScoreTable.read_csv(predictions)
        lacking = {headline, baseline or headline} - set(table.scores) | set(order) - set(table.findings)
        if lacking:
            raise InputError(f"{predictions}: no scores of '{min(lacking)}', unlike metrics.json; run radz eval again")
        table, _ = table.distinct()
        if len(set(table.study_id)) != result["coverage"]["studies"]:
            raise InputError(
                f"{predictions}: holds {len(set(table.study_id)):,} studies, metrics.json was made of "
                f"{result['coverage']['studies']:,}; run radz eval again"
            )
        rule = result.get("thresholds", {}).get("validation", {}).get(headline, {})
        fits = result.get("calibration", {}).get("parameters", {}).get(headline, {})
        pictures = {
            "roc": panels.roc(table, order, headline, baseline, rule),
            "pr": panels.precision_recall(table, order, headline, baseline),
            "calibration": panels.calibration(table, order, headline, fits),
            "confusion": panels.confusion(table, order, headline, rule),
        }
        curves = {name: figures.embed(picture, folder, f"{name}_{stem}") for name, picture in pictures.items()}
    groups, retrieval = result.get("subgroups", {}), result.get("retrieval")
    return {
        "key": key,
        "result": result,
        "scorers": scorers,
        "headline": headline,
        "baseline": baseline,
        "order": order,
        "own": own,
        "macro": scorers[headline]["macro"],
        "primary": averaged(result, headline),
        "over": {metric: len(averaged(result, headline, metric)) for metric in METRICS},
        "scored": {scorer: len(averaged(result, scorer)) for scorer in scorers},
        "used": {group: [name for name in order if own[name]["seen"] == group] for group in GROUPS},
        "everywhere": list(dict.fromkeys([*order, *(name for s in scorers.values() for name in s["findings"])])),
        "excluded": _excluded(scorers),
        "coverage": flat(result["coverage"]),
        "unavailable": scorers[headline].get("unavailable", {}).get("f1_validation", {}),
        "intervals": figures.embed(forest.intervals(result, headline, baseline), folder, f"intervals_{stem}"),
        "drawn": curves,
        "answers": figures.embed(panels.answers(result.get("conformal")), folder, f"answers_{stem}"),
        "subgroups": figures.embed(
            forest.forest(_subgroup_bars(groups), "macro AUROC", 0.5), folder, f"subgroups_{stem}"
        ),
        "small": _small_cells(groups),
        "retrieval": figures.embed(
            forest.forest(_retrieval_bars(retrieval), "recall", 0.0), folder, f"retrieval_{stem}"
        ),
    }


def _excluded(scorers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Exclusions with one line per reason and set of scorers."""
    by_cell: dict[tuple[str, str], list[str]] = {}
    for scorer, values in scorers.items():
        for finding, reason in values.get("excluded", {}).items():
            by_cell.setdefault((finding, reason), []).append(scorer)
    lines: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (finding, reason), named in by_cell.items():
        lines.setdefault((reason, tuple(named)), []).append(finding)
    return [{"reason": reason, "scorers": named, "findings": names} for (reason, named), names in lines.items()]


def _cases(cases: Sequence[Case]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Finding -> kind -> cards, in the order given."""
    from PIL import Image

    shown: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for case in cases:
        assert case.kind in KINDS and case.image.dtype == np.uint8 and case.image.ndim == 2, "see Case"
        card = {
            "score": case.score,
            "label": {1.0: "present", 0.0: "absent"}.get(float(case.label), "unknown"),
            "image": embedded(Image.fromarray(case.image), (320, 320), format="PNG"),
            "text": case.text,
        }
        shown.setdefault(case.finding, {kind: [] for kind in KINDS})[case.kind].append(card)
    return shown


def _columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Columns of metrics.csv as float64 [rows], NaN for empty cells and for words; {} without the file."""
    rows = read_rows(path)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([_float(row.get(name)) for row in rows]) for name in names}


def _cost(
    metrics: Mapping[str, Any], recorded: Mapping[str, Any], logged: Mapping[str, NDArray[np.float64]],
    config: Mapping[str, Any],
) -> list[tuple[str, str]]:  # fmt: skip
    """Throughput, hours, memory and latency, as far as the run has logged them."""
    lines: list[tuple[str, str]] = []
    rate = logged.get("pairs_per_second", np.zeros(0))
    rate = rate[np.isfinite(rate) & (rate > 0)]
    if len(rate):
        lines.append(("pairs per second, training, median", number(float(np.median(rate)), 1)))
        steps = np.nanmax(logged["step"])
        batch = config.get("data", {}).get("batch_size")
        if batch:
            trainer = config.get("trainer", {})
            pairs = steps * batch * trainer.get("devices", 1) * trainer.get("num_nodes", 1)
            hours = pairs / np.median(rate) / 3600
            lines.append(("hours of training steps (pairs / median rate)", number(float(hours), 3)))
    for key, words in (("peak_memory_gb", "peak memory of the process, GB"), ("peak_gpu_memory_gb", "of the GPU, GB")):
        if key in recorded:
            lines.append((words, scalar(recorded[key])))
    if timed := metrics.get("cost"):
        words = f"latency per image on {timed['device']}, ms (all scorers, mean of {timed['images']:,} images)"
        lines.append((words, number(timed["latency_ms_per_image"], 1)))
    return lines


def _subgroup_bars(subgroups: Mapping[str, Any]) -> dict[str, list[Bar]]:
    """Macro AUROC of each value, under its attribute."""
    return {
        figures.plain(attribute): [
            Bar(f"{value} ({one['rows']:,} rows)", "macro AUROC", **one["macro"]["auroc"]) for value, one in of.items()
        ]
        for attribute, of in subgroups.items()
    }


def _small_cells(subgroups: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Attribute, value and what is not measured there, with reasons."""
    cells = []
    for attribute, of in subgroups.items():
        for value, one in of.items():
            if one["small"]:
                reasons = "; ".join(f"{figures.plain(name)}: {why}" for name, why in one["small"].items())
                cells.append((attribute, value, reasons))
    return cells


def _retrieval_bars(retrieval: Mapping[str, Any] | None) -> dict[str, Sequence[Bar]]:
    """Recall in both directions, beside that of a random order."""
    if not retrieval:
        return {}
    groups: dict[str, Sequence[Bar]] = {}
    for direction, title in (("image_to_report", "image to report"), ("report_to_image", "report to image")):
        bars = []
        for name, chance in retrieval[direction]["chance"].items():
            label = name.replace("recall_", "recall at ")
            bars += [Bar(label, "model", **retrieval[direction][name]), Bar(label, "random order", chance, None, None)]
        groups[f"{title}, median rank {retrieval[direction]['median_rank']:.0f}"] = bars
    return groups


def _config(run_dir: Path) -> dict[str, Any]:
    """config.yaml of a run; {} when it is missing or damaged, which the page says elsewhere."""
    try:
        content = parse_yaml(_text(run_dir / "config.yaml"))
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def _mapping(run_dir: Path) -> list[list[str]]:
    """label_mapping.csv, header first; [] without the file."""
    path = run_dir / "label_mapping.csv"
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
