"""Forest plots: values with intervals, one line per label, several series beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radz.report.figures import BLUE, GREEN, GREY, INK, ORANGE, SEEN_TITLES, CsvRows, legend, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#7A5C00", "#56B4E9", INK)
MARKS = "oDs^vPX"


@dataclass(frozen=True)
class Bar:
    """One value with its interval; None where it is undefined."""

    label: str
    series: str
    value: float | None
    low: float | None
    high: float | None


def forest(groups: Mapping[str, Sequence[Bar]], xlabel: str, reference: float) -> tuple[Figure, CsvRows] | None:
    """Bars under the titles of their groups; None without a value.

    Args:
        groups: title ('' for none) -> bars; bars of one label stand together.
        reference: where the dashed line stands (chance, or no difference).
    """
    from matplotlib.lines import Line2D

    groups = {title: [bar for bar in bars if bar.value is not None] for title, bars in groups.items()}
    groups = {title: bars for title, bars in groups.items() if bars}
    if not groups:
        return None
    series = list(dict.fromkeys(bar.series for bars in groups.values() for bar in bars))
    style = {name: (COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]) for i, name in enumerate(series)}
    step = 0.6 / max(1, len(series) - 1) if len(series) > 1 else 0.0
    unit = 0.27 + 0.07 * (len(series) - 1)
    labels = sum(len({bar.label for bar in bars}) for bars in groups.values())
    titles = sum(bool(title) for title in groups)
    figure = new_figure(unit * (labels + titles) + 0.95)
    axes = figure.subplots()
    rows: CsvRows = [["group", "label", "series", "value", "low", "high"]]
    place, ticks = 0.0, {}
    ends = [reference]
    for title, bars in groups.items():
        if title:
            _group_title(axes, place, title)
            place += 1
        for label in dict.fromkeys(bar.label for bar in bars):
            ticks[place] = plain(label)
            axes.axhline(place + 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
            for bar in bars:
                if bar.label != label:
                    continue
                colour, mark = style[bar.series]
                at = place + (series.index(bar.series) - (len(series) - 1) / 2) * step
                rows.append([title, label, bar.series, bar.value, bar.low, bar.high])
                if bar.low is not None and bar.high is not None:
                    axes.plot([bar.low, bar.high], [at, at], color=colour, linewidth=1.4, solid_capstyle="butt")
                    ends += [bar.low, bar.high]
                value = math.nan if bar.value is None else bar.value
                axes.plot(value, at, color=colour, marker=mark, markersize=5)
                ends.append(value)
            place += 1
    margin = 0.03 * (max(ends) - min(ends)) or 0.05
    limits = min(ends) - margin, max(ends) + margin
    _finish(axes, ticks, reference, xlim=limits, ylim=(place - 0.4, -0.7), xlabel=xlabel)
    if len(series) > 1:
        handles = [Line2D([], [], color=c, marker=m, linewidth=1.4, label=name) for name, (c, m) in style.items()]
        figure.legend(handles=handles, loc="outside upper right", ncols=min(6, len(handles)))
    return figure, rows


def intervals(result: Mapping[str, Any], headline: str, baseline: str | None) -> tuple[Figure, CsvRows] | None:
    """AUROC of each finding with its interval, headline and baseline, grouped by seen; None without any finding."""
    own = result["scorers"][headline]["findings"]
    other = result["scorers"][baseline]["findings"] if baseline else {}
    rows: CsvRows = [["seen", "finding", "scorer", "auroc", "low", "high"]]
    groups = {seen: [f for f in own if own[f]["seen"] == seen] for seen in SEEN_TITLES}
    groups = {seen: sorted(f, key=lambda n: -own[n]["auroc"]["value"]) for seen, f in groups.items() if f}
    if not groups:
        return None
    height = 0.31 * sum(map(len, groups.values())) + 0.42 * len(groups) + 0.75
    figure = new_figure(height)
    axes = figure.subplots()
    place, ticks, lowest = 0.0, {}, 0.45
    for seen, findings in groups.items():
        _group_title(axes, place, SEEN_TITLES[seen])
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
    limits = max(0.0, math.floor(20 * lowest) / 20), 1.005
    _finish(axes, ticks, 0.5, xlim=limits, ylim=(place - 0.5, -0.6), xlabel="AUROC")
    legend(figure, headline, baseline, marker=True)
    return figure, rows


def _group_title(axes: Axes, place: float, title: str) -> None:
    words = axes.text(0.0, place, title, transform=axes.get_yaxis_transform(), va="center", color=GREY)
    # On white, so that the line of chance does not run through the words.
    words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})


def _finish(axes: Axes, labels: Mapping[float, str], reference: float, **axis: Any) -> None:
    """The dashed line at `reference`, limits and title of the axis, and a label for each line of the plot."""
    axes.axvline(reference, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    axes.set(**axis)
    axes.set_yticks(list(labels), list(labels.values()))
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axes.spines["left"].set_visible(False)
