"""Small multiples, one panel per finding: ROC, precision-recall, calibration and confusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from radz.metrics import ranking
from radz.metrics.calibration import Calibration, Platt
from radz.metrics.score_table import ScoreTable
from radz.report.figures import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    CsvRows,
    legend,
    new_figure,
    plain,
    small_multiples,
    thin,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def roc(
    table: ScoreTable, findings: Sequence[str], headline: str, baseline: str | None, thresholds: Mapping[str, float]
) -> tuple[Figure, CsvRows] | None:
    """One small ROC plot per finding; the dot is the operating point of `thresholds`. None without any finding."""
    if not findings:
        return None
    figure, panels = _grid(findings)
    rows: CsvRows = [["finding", "scorer", "false_positive_rate", "true_positive_rate", "threshold"]]
    for axes, finding in panels:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9)
        rows += _curves(axes, table, finding, (headline, baseline), ranking.roc_curve, ranking.auroc, 0.17)
        labels, scores = table.column(headline, finding)
        if finding in thresholds and not np.isnan(scores).any():
            called = scores >= thresholds[finding]
            axes.plot(called[labels == 0].mean(), called[labels == 1].mean(), "o", color=BLUE, markersize=5, zorder=4)
    figure.supxlabel("1 \N{MINUS SIGN} specificity", fontsize=9)
    figure.supylabel("sensitivity", fontsize=9)
    legend(figure, headline, baseline, marker=False)
    return figure, rows


def precision_recall(
    table: ScoreTable, findings: Sequence[str], headline: str, baseline: str | None
) -> tuple[Figure, CsvRows] | None:
    """Precision against recall; the dotted line is the share of positives. None without any finding."""
    if not findings:
        return None
    figure, panels = _grid(findings)
    rows: CsvRows = [["finding", "scorer", "recall", "precision", "threshold"]]
    curve, area = ranking.precision_recall_curve, ranking.average_precision
    for axes, finding in panels:
        share = float(np.nanmean(table.column(headline, finding)[0]))
        axes.axhline(share, color=GREY, linewidth=0.9, linestyle=(0, (1, 1.5)))
        rows += _curves(axes, table, finding, (headline, baseline), curve, area, 0.93, drawstyle="steps-pre")
    figure.supxlabel("recall (sensitivity)", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    legend(figure, headline, baseline, marker=False)
    return figure, rows


def answers(conformal: Mapping[str, Any] | None) -> tuple[Figure, CsvRows] | None:
    """Risk against coverage: errors among the surest studies, by how many are answered. None without a curve.

    Args:
        conformal: of `radz.metrics.conformal.answers`.
    """
    rows = [[row["coverage"], row["risk"]] for row in (conformal or {}).get("curve", [])]
    if not rows:
        return None
    figure = new_figure(2.4)
    axes = figure.subplots()
    axes.plot(*zip(*rows, strict=True), "-o", color=BLUE, markersize=3.5)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, None)
    axes.set_xlabel("share of studies answered, the surest first", fontsize=9)
    axes.set_ylabel("wrong among them", fontsize=9)
    return figure, [["coverage", "risk"], *rows]


def _curves(
    axes: Axes, table: ScoreTable, finding: str, scorers: Sequence[str | None], curve: Callable[..., ranking.Curve],
    area: Callable[..., float], top: float, **style: Any,
) -> CsvRows:  # fmt: skip
    """Draw the curve of each scorer of a finding with its area in words, the first at height `top`; their points."""
    rows: CsvRows = []
    for line, scorer in enumerate(name for name in scorers if name):
        labels, scores = table.column(scorer, finding)
        if np.isnan(scores).any():
            continue
        x, y, at = curve(labels, scores)
        rows += [[finding, scorer, *(f"{v:.6g}" for v in point)] for point in zip(x, y, at, strict=True)]
        drawn = thin(len(x))
        colour, dash = ((BLUE, "-"), (ORANGE, (0, (3, 1.5))))[line]
        width = (1.6, 1.1)[line]
        axes.plot(x[drawn], y[drawn], color=colour, linestyle=dash, linewidth=width, zorder=3 - line, **style)
        words = f"{area(labels, scores):.3f}"
        axes.text(0.97, top - 0.12 * line, words, color=colour, ha="right", va="center", fontsize=8.5)
    return rows


def calibration(
    table: ScoreTable, findings: Sequence[str], headline: str, fits: Mapping[str, Sequence[float]]
) -> tuple[Figure, CsvRows] | None:
    """Share of positives against the probability that the fit on validation gives, in bins of equal mass.

    Args:
        fits: finding -> slope and intercept; findings without one are left out. None when none is left.
    """
    shown = [finding for finding in findings if finding in fits]
    if not shown:
        return None
    figure, panels = _grid(shown)
    rows: CsvRows = [["finding", "bin", "rows", "mean_probability", "share_of_positives"]]
    for axes, finding in panels:
        labels, scores = table.column(headline, finding)
        calibrated = Calibration(labels, Platt(*fits[finding])(scores))
        points = calibrated.curve()
        rows += [[finding, number, size, f"{p:.6g}", f"{y:.6g}"] for number, (size, p, y) in enumerate(points)]
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9)
        axes.plot([p for _, p, _ in points], [y for *_, y in points], "o-", color=BLUE, linewidth=1.2, markersize=3.5)
        axes.text(0.97, 0.07, f"{calibrated.error:.3f}", color=BLUE, ha="right", va="center", fontsize=8.5)
    figure.supxlabel("probability (Platt's fit on validation)", fontsize=9)
    figure.supylabel("share of positives", fontsize=9)
    return figure, rows


def confusion(
    table: ScoreTable, findings: Sequence[str], headline: str, thresholds: Mapping[str, float]
) -> tuple[Figure, CsvRows] | None:
    """Counts at the validation threshold, shaded by their share of the row; None without any threshold."""
    shown = [finding for finding in findings if finding in thresholds]
    if not shown:
        return None
    figure, panels = _grid(shown, share=False)
    rows: CsvRows = [
        ["finding", "threshold", "true_positives", "false_negatives", "false_positives", "true_negatives",
         "sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value"]
    ]  # fmt: skip
    for axes, finding in panels:
        labels, scores = table.column(headline, finding)
        called = scores >= thresholds[finding]
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
    figure, grid = small_multiples(len(findings), 5, 2.12, 0.45, sharex=share, sharey=share)
    for axes, finding in zip(grid, findings, strict=True):
        axes.set_title(plain(finding), pad=3, wrap=True)
        if share:
            axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
            axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    return figure, zip(grid, findings, strict=True)
