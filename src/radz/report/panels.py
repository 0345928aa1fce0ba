"""Small multiples, one panel per finding: precision-recall, calibration and confusion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from radz.report.figures import BLUE, FAINT, GREY, INK, ORANGE, WIDTH, Rows, legend, plain, thin
from radz.scoring import curves, statistics
from radz.scoring.calibration import Calibration, Platt
from radz.scoring.table import ScoreTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5


def precision_recall(
    table: ScoreTable, findings: Sequence[str], headline: str, baseline: str | None
) -> tuple[Figure, Rows] | None:
    """Precision against recall; the dotted line is the share of positives. None without any finding."""
    if not findings:
        return None
    figure, panels = _grid(findings)
    rows: Rows = [["finding", "scorer", "recall", "precision", "threshold"]]
    for axes, finding in panels:
        column = table.findings.index(finding)
        labels = table.labels[:, column]
        axes.axhline(float(np.nanmean(labels)), color=GREY, linewidth=0.9, linestyle=(0, (1, 1.5)))
        for line, scorer in enumerate(name for name in (headline, baseline) if name):
            scores = table.scores[scorer][:, column]
            if np.isnan(scores).any():
                continue
            recall, precision, at = curves.precision_recall_curve(labels, scores)
            rows += [[finding, scorer, *(f"{v:.6g}" for v in p)] for p in zip(recall, precision, at, strict=True)]
            drawn = thin(len(recall))
            colour, dash = ((BLUE, "-"), (ORANGE, (0, (3, 1.5))))[line]
            axes.plot(
                recall[drawn], precision[drawn], color=colour, linestyle=dash, linewidth=(1.6, 1.1)[line],
                drawstyle="steps-pre", zorder=3 - line,
            )  # fmt: skip
            area = statistics.average_precision(labels, scores)
            axes.text(0.97, 0.93 - 0.12 * line, f"{area:.3f}", color=colour, ha="right", va="center", fontsize=8.5)
    figure.supxlabel("recall (sensitivity)", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    legend(figure, headline, baseline, marker=False)
    return figure, rows


def calibration(
    table: ScoreTable, findings: Sequence[str], headline: str, fits: Mapping[str, Sequence[float]]
) -> tuple[Figure, Rows] | None:
    """Share of positives against the probability that the fit on validation gives, in bins of equal mass.

    Args:
        fits: finding -> slope and intercept; findings without one are left out. None when none is left.
    """
    shown = [finding for finding in findings if finding in fits]
    if not shown:
        return None
    figure, panels = _grid(shown)
    rows: Rows = [["finding", "bin", "rows", "mean_probability", "share_of_positives"]]
    for axes, finding in panels:
        column = table.findings.index(finding)
        one = Calibration(table.labels[:, column], Platt(*fits[finding])(table.scores[headline][:, column]))
        points = one.curve()
        rows += [[finding, number, size, f"{p:.6g}", f"{y:.6g}"] for number, (size, p, y) in enumerate(points)]
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9)
        axes.plot([p for _, p, _ in points], [y for *_, y in points], "o-", color=BLUE, linewidth=1.2, markersize=3.5)
        size = max(len(one.labels), 1)
        error = sum(rows_in * abs(y - p) for rows_in, p, y in points) / size
        axes.text(0.97, 0.07, f"{error:.3f}", color=BLUE, ha="right", va="center", fontsize=8.5)
    figure.supxlabel("probability (Platt's fit on validation)", fontsize=9)
    figure.supylabel("share of positives", fontsize=9)
    return figure, rows


def confusion(
    table: ScoreTable, findings: Sequence[str], headline: str, thresholds: Mapping[str, float]
) -> tuple[Figure, Rows] | None:
    """Counts at the validation threshold, shaded by their share of the row; None without any threshold."""
    shown = [finding for finding in findings if finding in thresholds]
    if not shown:
        return None
    figure, panels = _grid(shown, share=False)
    rows: Rows = [
        ["finding", "threshold", "true_positives", "false_negatives", "false_positives", "true_negatives",
         "sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value"]
    ]  # fmt: skip
    for axes, finding in panels:
        column = table.findings.index(finding)
        labels, called = table.labels[:, column], table.scores[headline][:, column] >= thresholds[finding]
        counts = np.array([[(called[labels == y] == c).sum() for c in (True, False)] for y in (1, 0)])
        of_row = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        below = counts.sum(axis=0)
        values = [f"{counts[i, i] / below[i]:.6g}" if below[i] else "" for i in (0, 1)]
        rows.append([
            finding, f"{thresholds[finding]:.9g}", *counts.ravel().tolist(), f"{of_row[0, 0]:.6g}",
            f"{of_row[1, 1]:.6g}", *values,
        ])  # fmt: skip
        axes.imshow(of_row, cmap="Blues", vmin=0, vmax=1.3)
        for y, x in np.ndindex(2, 2):
            ink = "white" if of_row[y, x] > 0.75 else INK
            words = f"{counts[y, x]:,}\n{100 * of_row[y, x]:.0f} %"
            axes.text(x, y, words, ha="center", va="center", color=ink, fontsize=8.5)
        axes.set_xticks([0, 1], ["called", "not"])
        axes.set_yticks([0, 1], ["present", "absent"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure, rows


def _grid(findings: Sequence[str], share: bool = True) -> tuple[Figure, Iterator[tuple[Axes, str]]]:
    """A figure of one square panel per finding; with `share`, all axes run from 0 to 1."""
    from matplotlib.figure import Figure

    lines = math.ceil(len(findings) / COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.12 * lines + 0.45), layout="constrained")
    grid = figure.subplots(lines, COLUMNS, sharex=share, sharey=share, squeeze=False)
    for axes in grid.flat[len(findings) :]:
        axes.set_visible(False)
    for axes, finding in zip(grid.flat, findings, strict=False):
        axes.set_title(plain(finding), pad=3, wrap=True)
        if share:
            axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
            axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    return figure, zip(grid.flat, findings, strict=False)
