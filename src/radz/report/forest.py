"""Forest plots: values with intervals, one line per label, several series beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radz.report.figures import BLUE, GREEN, GREY, ORANGE, WIDTH, Rows, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#7A5C00", "#56B4E9", "#222222")
MARKS = "oDs^vPX"


@dataclass(frozen=True)
class Bar:
    """One value with its interval; None where it is undefined."""

    label: str
    series: str
    value: float | None
    low: float | None
    high: float | None


def forest(groups: Mapping[str, Sequence[Bar]], xlabel: str, reference: float) -> tuple[Figure, Rows] | None:
    """Bars under the titles of their groups; None without a value.

    Args:
        groups: title ('' for none) -> bars; bars of one label stand together.
        reference: where the dashed line stands (chance, or no difference).
    """
    from matplotlib.figure import Figure
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
    figure = Figure(figsize=(WIDTH, unit * (labels + titles) + 0.95), layout="constrained")
    axes = figure.subplots()
    rows: Rows = [["group", "label", "series", "value", "low", "high"]]
    place, ticks = 0.0, {}
    ends = [reference]
    for title, bars in groups.items():
        if title:
            words = axes.text(0.0, place, title, transform=axes.get_yaxis_transform(), va="center", color=GREY)
            words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
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
    axes.axvline(reference, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    axes.set(xlim=(min(ends) - margin, max(ends) + margin), ylim=(place - 0.4, -0.7), xlabel=xlabel)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor="#222222")
    axes.spines["left"].set_visible(False)
    if len(series) > 1:
        handles = [Line2D([], [], color=c, marker=m, linewidth=1.4, label=name) for name, (c, m) in style.items()]
        figure.legend(handles=handles, loc="outside upper right", ncols=min(6, math.ceil(len(handles))))
    return figure, rows
