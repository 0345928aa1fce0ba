"""The figures of a run, each as inline SVG for the page, as PNG, and with its data as CSV.

Colours are from the Okabe-Ito set, told apart by colour-blind readers; line style and marker tell the scorers apart
once more, for print in grey. matplotlib is imported inside the functions, so that importing radz stays fast.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_modules.files import replacing, write_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, FAINT, INK = "#0072B2", "#D55E00", "#009E73", "#6B6B6B", "#D9D9D9", "#222222"
WIDTH = 10.0  # inches, the width of the page's column
SEEN_TITLES = {
    "label": "named in training labels",
    "text": "named in training text only",
    "none": "never named in training",
    "unknown": "training not known",
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
CsvRows = list[list[Any]]
"""The numbers of a drawing, header first."""
Lines = Mapping[str, NDArray[np.float64]]


def new_figure(height: float) -> Figure:
    """An empty figure of the page's width, `height` in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def small_multiples(
    count: int, columns: int, line_height: float, margin: float = 0.0, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels; heights in inches, `margin` for what stands around them."""
    lines = math.ceil(count / columns)
    figure = new_figure(line_height * lines + margin)
    grid = figure.subplots(lines, columns, squeeze=False, **shared).flatten()
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, list(grid[:count])


def training(logged: Lines) -> tuple[Figure, CsvRows] | None:
    """Losses, monitored score and learning rate against the step; None when none of them was logged.

    Args:
        logged: columns of metrics.csv, float64 [rows] each, NaN where a row does not hold the value; needs `step`.
    """
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
    rows: CsvRows = [["step", "series", "value"]]
    figure = new_figure(2.9)
    widths = [1.7 if title == "loss" else 1.0 for title, _ in panels]
    grid = figure.subplots(1, len(panels), width_ratios=widths, squeeze=False)[0]
    for axes, (title, names) in zip(grid, panels, strict=True):
        for name in names:
            # A row of metrics.csv holds what was logged together; the other cells are empty.
            filled = np.isfinite(logged[name]) & np.isfinite(logged["step"])
            step, value = logged["step"][filled], logged[name][filled]
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


def save(figure: Figure, rows: CsvRows, folder: Path, name: str) -> str:
    """Write `<name>.png` and `<name>.csv` into `folder` and return the figure as SVG to stand inside a page."""
    write_rows(folder / f"{name}.csv", rows)
    with replacing(folder / f"{name}.png") as draft:
        figure.savefig(draft, dpi=200, format="png")
    text = io.StringIO()
    figure.savefig(text, format="svg")
    # A page may show drawings of one name from several folders.
    return _inline(text.getvalue(), re.sub(r"\W", "-", f"{folder.name}-{name}"))


def embed(drawing: tuple[Figure, CsvRows] | None, folder: Path, name: str) -> dict[str, str] | None:
    """`save` a drawing for the templates: its `svg` and `name`; None where there is nothing to draw."""
    return {"svg": save(*drawing, folder, name), "name": name} if drawing else None


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
