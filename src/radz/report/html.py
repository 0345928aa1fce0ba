"""One self-contained HTML page per run: what it scored, how sure that is, how it trained, and where it was wrong.

The page is built from the run folder alone: metrics.json, predictions/, metrics.csv, environment.json, config.yaml,
evidence/.
It holds no corpus identifier: predictions are read for curves only, and cases arrive as pictures.
"""

from __future__ import annotations

import base64
import csv
import io
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import InputError
from data_modules.files import replacing
from radz.report import evidence, figures, panels
from radz.report.facts import cost, read_config, retrieval_bars, small_cells, subgroup_bars
from radz.report.forest import forest
from radz.report.page import environment, flat, read_json
from radz.scoring.results import SEEN
from radz.scoring.table import ScoreTable

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


def write_report(run_dir: Path, cases: Sequence[Case] | None = None) -> Path:
    """Write `report.html` and `figures/*.{png,csv}` of a run folder and return the page's path.

    What a run does not have (training curves, environment, predictions, cases) is left out or named as not recorded.
    Raises InputError when metrics.json is missing or unreadable.
    """
    from matplotlib import rc_context

    metrics = read_json(run_dir / "metrics.json")
    if not metrics or not metrics.get("results"):
        raise InputError(f"{run_dir / 'metrics.json'}: no results; score the run first with radz eval")
    folder = run_dir / "figures"
    logged = _columns(run_dir / "metrics.csv")
    recorded = read_json(run_dir / "environment.json") or {}
    with rc_context(figures.STYLE):
        sections = [_section(run_dir, key, result, metrics, folder) for key, result in metrics["results"].items()]
        curves = _drawn(figures.training(logged), folder, "training")
    # The test split leads; validation and other corpora follow in the order of metrics.json.
    sections.sort(key=lambda section: not section["key"].endswith("/test"))
    page = (
        environment()
        .get_template("report.html.jinja")
        .render(
            title=f"{run_dir.resolve().parent.name} / {run_dir.resolve().name}",
            metrics=metrics,
            sections=sections,
            curves=curves,
            cases=_cases(cases or []),
            evidence=evidence.sections(run_dir),
            environment=flat(recorded),
            cost=cost(metrics, recorded, logged, read_config(run_dir)),
            mapping=_mapping(run_dir),
            config=_text(run_dir / "config.yaml"),
            seen_titles=figures.SEEN_TITLES,
            groups=SEEN,
            baseline=BASELINE,
        )
    )
    path = run_dir / "report.html"
    with replacing(path) as draft:
        draft.write_text(page, encoding="utf-8")
    logger.info("report written to %s", path)
    return path


def _section(run_dir: Path, key: str, result: dict[str, Any], metrics: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the template needs of one corpus and split, with its figures drawn."""
    scorers = result["scorers"]
    if not scorers:
        raise InputError(f"{run_dir / 'metrics.json'}: '{key}' has no scorer; score the run again with radz eval")
    named = str(metrics.get("headline_scorer"))
    headline = named if named in scorers else next(iter(scorers))
    baseline = BASELINE if BASELINE in scorers and headline != BASELINE else None
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", key)
    own = scorers[headline]["findings"]
    order = sorted(own, key=lambda name: (SEEN.index(own[name]["seen"]), -own[name]["auroc"]["value"]))
    predictions = run_dir / "predictions" / f"{key.replace('/', '_')}.csv"
    drawn: dict[str, dict[str, str] | None] = {}
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
            "roc": figures.roc(table, order, headline, baseline, rule),
            "pr": panels.precision_recall(table, order, headline, baseline),
            "calibration": panels.calibration(table, order, headline, fits),
            "confusion": panels.confusion(table, order, headline, rule),
        }
        drawn = {name: _drawn(picture, folder, f"{name}_{stem}") for name, picture in pictures.items()}
    groups, found = result.get("subgroups", {}), result.get("retrieval")
    return {
        "key": key,
        "result": result,
        "scorers": scorers,
        "headline": headline,
        "baseline": baseline,
        "order": order,
        "own": own,
        "macro": scorers[headline]["macro"],
        "primary": [name for name in result.get("primary", order) if name in own],
        "used": {group: [name for name in order if own[name]["seen"] == group] for group in SEEN},
        "everywhere": list(dict.fromkeys([*order, *(name for s in scorers.values() for name in s["findings"])])),
        "excluded": _excluded(scorers),
        "coverage": flat(result["coverage"]),
        "unavailable": scorers[headline].get("unavailable", {}).get("f1_validation", {}),
        "intervals": _drawn(figures.intervals(result, headline, baseline), folder, f"intervals_{stem}"),
        "drawn": drawn,
        "subgroups": _drawn(forest(subgroup_bars(groups), "macro AUROC", 0.5), folder, f"subgroups_{stem}"),
        "small": small_cells(groups),
        "retrieval": _drawn(forest(retrieval_bars(found), "recall", 0.0), folder, f"retrieval_{stem}"),
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
    return [{"reason": reason, "scorers": named, "findings": found} for (reason, named), found in lines.items()]


def _drawn(figure: tuple[Any, figures.Rows] | None, folder: Path, name: str) -> dict[str, str] | None:
    return {"svg": figures.save(*figure, folder, name), "name": name} if figure else None


def _cases(cases: Sequence[Case]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Finding -> kind -> cards, in the order given."""
    from PIL import Image

    shown: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for case in cases:
        assert case.kind in KINDS and case.image.dtype == np.uint8 and case.image.ndim == 2, "see Case"
        picture = Image.fromarray(case.image)
        picture.thumbnail((320, 320))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        card = {
            "score": case.score,
            "label": {1.0: "present", 0.0: "absent"}.get(float(case.label), "unknown"),
            "image": base64.b64encode(buffer.getvalue()).decode("ascii"),
            "text": case.text,
        }
        shown.setdefault(case.finding, {kind: [] for kind in KINDS})[case.kind].append(card)
    return shown


def _columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Columns of metrics.csv as float64 [rows], NaN for empty cells and for words; {} without the file."""
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    names = [name for name in (lines[0] if lines else {}) if name is not None]
    return {name: np.array([_float(line.get(name)) for line in lines]) for name in names}


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
