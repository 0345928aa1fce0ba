"""The figures of a run, each as inline SVG for the page, as PNG, and with its data as CSV.

Colours are from the Okabe-Ito set, told apart by colour-blind readers; line style and marker tell the scorers apart
once more, for print in grey. matplotlib is imported inside the functions, so that importing radz stays fast.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from radz.scoring import curves, statistics
from radz.scoring.table import ScoreTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, FAINT, INK = "#0072B2", "#D55E00", "#009E73", "#6B6B6B", "#D9D9D9", "#222222"
WIDTH = 10.0  # inches, the width of the page's column
SEEN_TITLES = {
    "label": "named in training labels",
    "text": "named in training text only",
    "none": "never named in training",
}
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": "#9A9A9A",
    "axes.linewidth": 0.7,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    # A finding called "$x$" is a name, not a formula.
    "text.parse_math": False,
}
Rows = list[list[Any]]
Lines = Mapping[str, NDArray[np.float64]]


def intervals(result: Mapping[str, Any], headline: str, baseline: str | None) -> tuple[Figure, Rows] | None:
    """AUROC of each finding with its interval, headline and baseline, grouped by seen; None without any finding."""
    from matplotlib.figure import Figure

    own = result["scorers"][headline]["findings"]
    other = result["scorers"][baseline]["findings"] if baseline else {}
    rows: Rows = [["seen", "finding", "scorer", "auroc", "low", "high"]]
    groups = {seen: [f for f in own if own[f]["seen"] == seen] for seen in SEEN_TITLES}
    groups = {seen: sorted(f, key=lambda n: -own[n]["auroc"]["value"]) for seen, f in groups.items() if f}
    if not groups:
        return None
    height = 0.31 * sum(map(len, groups.values())) + 0.42 * len(groups) + 0.75
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    place, ticks, lowest = 0.0, {}, 0.45
    for seen, findings in groups.items():
        # On white, so that the line of chance does not run through the words.
        title = axes.text(0.0, place, SEEN_TITLES[seen], transform=axes.get_yaxis_transform(), va="center", color=GREY)
        title.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
        place += 1.05
        for finding in findings:
            ticks[place] = plain(finding)
            axes.axhline(place + 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
            for scorer, cell, shift, colour, mark, fill in (
                (baseline, other.get(finding), 0.17, ORANGE, "D", "white"),
                (headline, own[finding], -0.17, BLUE, "o", BLUE),
            ):
                if cell is None:
                    continue
                shift = shift if finding in other else 0.0
                value, low, high = (cell["auroc"][k] for k in ("value", "low", "high"))
                rows.append([seen, finding, scorer, value, low, high])
                if low is not None:
                    axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.5, solid_capstyle="butt")
                    lowest = min(lowest, low)
                axes.plot(value, place + shift, color=colour, marker=mark, markerfacecolor=fill, markersize=5.5)
            place += 1
        place += 0.25
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    axes.set(xlim=(max(0.0, math.floor(20 * lowest) / 20), 1.005), ylim=(place - 0.5, -0.6), xlabel="AUROC")
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    legend(figure, headline, baseline, marker=True)
    return figure, rows


def roc(
    table: ScoreTable, findings: Sequence[str], headline: str, baseline: str | None, thresholds: Mapping[str, float]
) -> tuple[Figure, Rows] | None:
    """One small ROC plot per finding; the dot is the operating point of `thresholds`. None without any finding."""
    from matplotlib.figure import Figure

    columns = 5
    rows: Rows = [["finding", "scorer", "false_positive_rate", "true_positive_rate", "threshold"]]
    if not findings:
        return None
    lines = math.ceil(len(findings) / columns)
    figure = Figure(figsize=(WIDTH, 2.12 * lines + 0.45), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(findings) :]:
        axes.set_visible(False)
    for axes, finding in zip(grid.flat, findings, strict=False):
        column = table.findings.index(finding)
        labels = table.labels[:, column]
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9)
        for line, scorer in enumerate(name for name in (headline, baseline) if name):
            scores = table.scores[scorer][:, column]
            if np.isnan(scores).any():
                continue
            fpr, tpr, at = curves.roc_curve(labels, scores)
            rows += [[finding, scorer, *(f"{v:.6g}" for v in point)] for point in zip(fpr, tpr, at, strict=True)]
            first = scorer == headline
            style: dict[str, Any] = {"color": BLUE, "linewidth": 1.6} if first else {"color": ORANGE, "linewidth": 1.1}
            drawn = thin(len(fpr))
            axes.plot(fpr[drawn], tpr[drawn], linestyle="-" if first else (0, (3, 1.5)), zorder=3 - line, **style)
            area = statistics.auroc(labels, scores)
            axes.text(
                0.97, 0.17 - 0.12 * line, f"{area:.3f}", color=style["color"], ha="right", va="center", fontsize=8.5
            )
            if first and finding in thresholds:
                called, positive = scores >= thresholds[finding], labels == 1
                axes.plot(called[labels == 0].mean(), called[positive].mean(), "o", color=BLUE, markersize=5, zorder=4)
        axes.set_title(plain(finding), pad=3, wrap=True)
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    figure.supxlabel("1 \N{MINUS SIGN} specificity", fontsize=9)
    figure.supylabel("sensitivity", fontsize=9)
    legend(figure, headline, baseline, marker=False)
    return figure, rows


def training(logged: Lines) -> tuple[Figure, Rows] | None:
    """Losses, monitored score and learning rate against the step; None when none of them was logged.

    Args:
        logged: columns of metrics.csv, float64 [rows] each, NaN where a row does not hold the value; needs `step`.
    """
    from matplotlib.figure import Figure

    losses = {"train/loss": BLUE, "train/loss_alignment": ORANGE, "train/loss_category": GREEN}
    rates = [name for name in logged if name == "lr" or name.startswith(("lr-", "lr/"))]
    panels = [
        ("loss", [name for name in losses if _any(logged, name)]),
        ("validation, macro AUROC", [name for name in ("val/auroc_macro",) if _any(logged, name)]),
        ("learning rate", [name for name in rates if _any(logged, name)]),
    ]
    panels = [panel for panel in panels if panel[1]]
    if not panels or "step" not in logged:
        return None
    rows: Rows = [["step", "series", "value"]]
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    widths = [1.7 if title == "loss" else 1.0 for title, _ in panels]
    grid = figure.subplots(1, len(panels), width_ratios=widths, squeeze=False)[0]
    for axes, (title, names) in zip(grid, panels, strict=True):
        for name in names:
            there = np.isfinite(logged[name]) & np.isfinite(logged["step"])
            step, value = logged["step"][there], logged[name][there]
            rows += [[f"{s:.0f}", name, f"{v:.9g}"] for s, v in zip(step, value, strict=True)]
            _curve(axes, step, value, name, losses.get(name, BLUE))
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
        if title == "loss":
            axes.legend(loc="upper right", ncols=1)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        if title == "learning rate":
            axes.yaxis.set_major_formatter("{x:g}")
    return figure, rows


def save(figure: Figure, rows: Rows, folder: Path, name: str) -> str:
    """Write `<name>.png` and `<name>.csv` into `folder` and return the figure as SVG to stand inside a page."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    figure.savefig(folder / f"{name}.png", dpi=200)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    # A page may show drawings of one name from several folders.
    return _inline(text.getvalue(), re.sub(r"\W", "-", f"{folder.name}-{name}"))


def plain(name: str) -> str:
    """A finding as read aloud."""
    return name.replace("_", " ")


def _inline(svg: str, name: str) -> str:
    """Only the drawing: no XML declaration, document type or metadata, sized by the page, in the page's typeface."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    # Inside HTML the namespaces are known, and the page then holds no address at all.
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    # matplotlib's ids are random; numbered ones make the page repeatable, and the name keeps drawings apart on it.
    for number, old in enumerate(dict.fromkeys(re.findall(r' id="([^"]+)"', svg))):
        svg = svg.replace(f' id="{old}"', f' id="{name}-{number}"').replace(f"#{old}", f"#{name}-{number}")
    return svg.replace("'DejaVu Sans'", "var(--sans)")


def _curve(axes: Axes, step: NDArray[np.float64], value: NDArray[np.float64], name: str, colour: str) -> None:
    """Losses with a moving mean when they are many, validation with its best value, the rest as it is."""
    words = name.removeprefix("train/").removeprefix("loss_").replace("_", " ")
    label = "total" if name == "train/loss" else words
    if name.startswith("train/") and len(value) >= 60:
        window = np.ones(len(value) // 40 + 2)
        # Dividing by the same sum over ones keeps the ends unbiased.
        mean = np.convolve(value, window, "same") / np.convolve(np.ones(len(value)), window, "same")
        axes.plot(step, value, color=colour, linewidth=0.6, alpha=0.25)
        axes.plot(step, mean, color=colour, linewidth=1.6, label=label)
        return
    axes.plot(
        step, value, color=colour, linewidth=1.5, marker="o" if len(value) < 60 else "", markersize=3, label=label
    )
    if name.startswith("val/"):
        best = int(value.argmax())
        axes.plot(step[best], value[best], "o", color=colour, markersize=8, markerfacecolor="none")
        words = f"best {value[best]:.3f} at step {step[best]:.0f}"
        axes.text(0.98, 0.05, words, transform=axes.transAxes, ha="right", fontsize=8.5, color=colour)


def legend(figure: Figure, headline: str, baseline: str | None, marker: bool) -> None:
    """The two scorers, above the panels; `marker` as in forest plots."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=BLUE, linewidth=1.6, marker="o" if marker else None, markersize=5.5, label=headline)
    ]
    if baseline:
        mark: dict[str, Any] = {"marker": "D", "markerfacecolor": "white", "markersize": 5} if marker else {}
        dash: Any = "-" if marker else (0, (3, 1.5))
        handles.append(Line2D([], [], color=ORANGE, linewidth=1.2, linestyle=dash, label=baseline, **mark))
    figure.legend(handles=handles, loc="outside upper right", ncols=2)


def _any(logged: Lines, name: str) -> bool:
    return name in logged and bool(np.isfinite(logged[name]).any())


def thin(points: int, most: int = 250) -> NDArray[np.int64]:
    """Positions to draw: all, or `most` of them evenly; the CSV keeps every point."""
    return np.unique(np.linspace(0, points - 1, min(points, most)).round().astype(np.int64))
