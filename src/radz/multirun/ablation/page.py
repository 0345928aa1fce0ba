"""The page of a comparison: a table and a forest plot per test split, with the CSV beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from data_modules.files import replacing, write_text
from radz.multirun.ablation.arm_scores import SEEN, ArmScores, Estimate, difference, scores
from radz.multirun.ablation.arms import Arm
from radz.report import figures
from radz.report.templates import environment


@dataclass(frozen=True)
class Line:
    """One arm on one test split and group of findings."""

    arm: Arm
    scores: ArmScores
    difference: Estimate | None
    """to the base; None for the base itself, or where the two score other findings"""


def write_page(
    title: str, note: str, arms: Sequence[Arm], failed: Mapping[str, str], folder: Path, scorer: str | None
) -> Path:  # fmt: skip
    """Write comparison.html, comparison.csv and the pictures of arms that have run, the first of which is the base.

    Args:
        note: said under the title, such as what the numbers must not be taken for.
        failed: {arm: reason} of those that could not be run; listed on the page.
        scorer: compared on every arm; None takes each arm's headline.

    Returns:
        The page's path.
    """
    shown = [arm for arm in arms if arm.runs]
    sections = compared(shown, folder, scorer)
    page = environment(Path(__file__).parent).get_template("comparison.html.jinja").render(
        title=title, note=note, arms=shown, failed={**failed, **unscored(shown, sections)}, sections=sections,
        seeds=len(shown[0].runs),
    )  # fmt: skip
    path = folder / "comparison.html"
    write_text(path, page)
    return path


def compared(arms: Sequence[Arm], folder: Path, scorer: str | None) -> list[dict[str, Any]]:
    """Tables and pictures of arms that have run, the first of which is the base; comparison.csv goes to `folder`.

    Returns:
        For each test split and group of findings: `key`, `group`, `lines` and `svg`, as compared.html.jinja shows them.
    """
    found = {arm.name: scores(arm.name, arm.runs, scorer) for arm in arms}
    base = {(one.key, one.group): one for one in found[arms[0].name]}
    lines: dict[tuple[str, str], list[Line]] = {}
    for arm in arms:
        for one in found[arm.name]:
            place = (one.key, one.group)
            beside = difference(one, base[place]) if arm is not arms[0] and place in base else None
            lines.setdefault(place, []).append(Line(arm, one, beside))
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "comparison.csv") as draft:
        frame(lines).to_csv(draft, index=False)
    return [
        {"key": key, "group": SEEN[group], "lines": of, "svg": Markup(_forest(of, folder, f"{key}_{group}"))}
        for (key, group), of in lines.items()
    ]


def unscored(arms: Sequence[Arm], sections: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """{arm: reason} of arms that have run and stand in no table of `compared`."""
    shown = {line.arm.name for section in sections for line in section["lines"]}
    reason = "it ran, but none of its findings has a number; its report.html says why"
    return {arm.name: reason for arm in arms if arm.name not in shown}


def frame(lines: Mapping[tuple[str, str], Sequence[Line]]) -> pd.DataFrame:
    """All numbers of the page, one row per arm, split and group of findings."""
    rows: list[dict[str, Any]] = []
    for (key, group), of in lines.items():
        for line in of:
            own, points = line.scores.estimate, line.scores.points
            rows.append({
                "arm": line.arm.name, "split": key, "findings": group, "count": len(line.scores.findings),
                "scorer": line.scores.scorer, "seeds": len(points), "auroc": own.value, "low": own.low,
                "high": own.high, "interval": own.holds, "least": points.min(), "greatest": points.max(),
                **({"difference": line.difference.value, "difference_low": line.difference.low,
                    "difference_high": line.difference.high, "difference_seeds": line.difference.seeds,
                    "difference_interval": line.difference.holds} if line.difference else {}),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _forest(lines: Sequence[Line], folder: Path, name: str) -> str:
    """Inline SVG of the arms' AUROC: mean and interval as a bar, the seeds as dots; PNG and CSV beside the page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows: figures.CsvRows = [["arm", "auroc", "low", "high", "seeds"]]
    with rc_context(figures.STYLE):
        figure = Figure(figsize=(figures.WIDTH, 0.36 * len(lines) + 0.8), layout="constrained")
        axes = figure.subplots()
        axes.axvline(lines[0].scores.estimate.value, color=figures.FAINT, zorder=0)
        for place, line in enumerate(lines):
            own, points = line.scores.estimate, line.scores.points
            colour = figures.BLUE if place else figures.GREY
            axes.plot([own.low, own.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(points, np.full(len(points), place), "o", color=colour, markersize=4)
            rows.append([line.arm.name, own.value, own.low, own.high, " ".join(f"{point:.6f}" for point in points)])
        axes.set_yticks(range(len(lines)), [line.arm.name.rpartition("/")[2] for line in lines])
        axes.invert_yaxis()
        axes.set_xlabel(f"macro AUROC: mean over seeds, interval of {lines[0].scores.estimate.holds}; each seed a dot")
        return figures.save(figure, rows, folder, re.sub(r"[^A-Za-z0-9_-]+", "_", name))
