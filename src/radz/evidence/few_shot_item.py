"""Table, figure and sentences of few shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_modules.counting import counted
from radz.evidence.items import Item
from radz.metrics.estimates import Cell, Entry, Estimates, in_words, mean_of_seeds
from radz.metrics.intervals import UNIT
from radz.report import figures

ANCHOR, ALL = "anchor", "all"
KINDS = ("plain", "curated")
"""studies as they are drawn | chosen against co-occurrence"""
READINGS = ("prototype", "prototype and anchor", "regression")


@dataclass(frozen=True)
class Arm:
    """One way to score by shots."""

    kind: str
    reading: str
    number: int | None
    """positives of each finding; None is all"""

    def scorer(self, draw: int) -> str:
        """The name in the score table of one draw."""
        return f"{self.kind}, {self.reading}, {named(self.number)}, draw {draw}"


@dataclass(frozen=True)
class Measured:
    """Scores of every arm and draw, measured on the same findings and studies."""

    estimates: Estimates
    names: list[str]
    numbers: Sequence[int | None]
    draws: int
    positives: Mapping[str, int]
    """of each finding, where all are taken"""

    def arms(self) -> list[Arm]:
        """All arms, fewest shots first."""
        return [Arm(kind, reading, n) for n in self.numbers for reading in READINGS for kind in KINDS]

    def auroc(self, arm: Arm | None, names: Sequence[str] | None = None) -> Entry:
        """Macro AUROC of an arm, mean over draws with an interval of patients and draws; None is the anchor."""
        of = [self.estimates.macro(self._cells(arm, draw, names), "auroc") for draw in range(self.draws)]
        return mean_of_seeds(of if arm else of[:1], UNIT)

    def less(self, arm: Arm, than: Arm | None) -> Entry:
        """Paired difference in macro AUROC, draw by draw."""
        both = [(self._cells(arm, draw, None), self._cells(than, draw, None)) for draw in range(self.draws)]
        return mean_of_seeds([self.estimates.difference(ours, theirs) for ours, theirs in both])

    def _cells(self, arm: Arm | None, draw: int, names: Sequence[str] | None) -> list[Cell]:
        return self.estimates.of(arm.scorer(draw) if arm else ANCHOR, self.names if names is None else names)


def named(number: int | None) -> str:
    """A number of shots in words."""
    return ALL if number is None else str(number)


def item(measured: Measured, left_out: Mapping[str, str], alike: Mapping[str, float], train: int, test: int) -> Item:
    """The item of evidence.

    Args:
        left_out: finding -> why. alike: of `few_shot.likeness`.
        train, test: studies drawn from, studies scored.
    """
    auroc = {arm: measured.auroc(arm) for arm in measured.arms()}
    anchor = measured.auroc(None)
    gains = {arm: measured.less(arm, None) for arm in auroc}
    against = {arm: measured.less(arm, _plain(arm)) for arm in auroc if arm.kind == "curated"}
    numbers: dict[str, Any] = {
        "findings": measured.names, "positives": dict(measured.positives), "left_out": dict(left_out),
        "studies": {"train": train, "scored": test}, "anchor": anchor, "likeness": dict(alike), "shots": {},
    }  # fmt: skip
    header = ("positives", "scores", *KINDS, "curated minus plain", *(f"{kind} minus anchor" for kind in KINDS))
    found = Item("fewshot", "Few shots without training", [], numbers, header=header)
    found.rows.append(["0", ANCHOR, [*anchor.values()], *[[None, None, None]] * 4])
    data: figures.CsvRows = [["positives", "studies", "scores", "finding", "auroc", "low", "high"]]
    for name in ("macro", *measured.names):
        data.append(["0", "", ANCHOR, name, *measured.auroc(None, None if name == "macro" else [name]).values()])
    for arm, value in auroc.items():
        of = numbers["shots"].setdefault(named(arm.number), {}).setdefault(arm.reading, {})
        of[arm.kind], of[f"{arm.kind} minus anchor"] = value, gains[arm]
        for name in ("macro", *measured.names):
            own = value if name == "macro" else measured.auroc(arm, [name])
            data.append([named(arm.number), arm.kind, arm.reading, name, *own.values()])
    for arm, entry in against.items():
        numbers["shots"][named(arm.number)][arm.reading]["curated minus plain"] = entry
        cells = (auroc[_plain(arm)], auroc[arm], entry, gains[_plain(arm)], gains[arm])
        found.rows.append([named(arm.number), arm.reading, *([*cell.values()] for cell in cells)])
    found.says += [_result(measured, anchor, auroc, train, test), *_gain(gains), _curated(against, alike)]
    found.says += _absent(left_out)
    caption = (
        "Macro AUROC against positives of each finding, curated against co-occurrence (grey: prototypes of plain "
        "means); bars: 95 % intervals by patient and draw. Line: the text anchor without any shot. Dashed: chance."
    )
    found.pictures.append(("fewshot", _figure(measured.numbers, anchor, auroc), data, caption))
    return found


def _result(measured: Measured, anchor: Entry, auroc: Mapping[Arm, Entry], train: int, test: int) -> str:
    few, most = min(measured.positives.values()), max(measured.positives.values())
    some = list(dict.fromkeys([measured.numbers[0], measured.numbers[-2], None]))

    def of(reading: str) -> str:
        return ", ".join(f"{in_words(auroc[Arm('curated', reading, n)])} ({named(n)})" for n in some)

    return (
        f"Macro AUROC over {counted(len(measured.names), 'finding')} on {counted(test, 'study')}, shots drawn "
        f"{measured.draws} times from {train:,} training studies: text anchor {in_words(anchor)}; "
        f"by positives of each finding (all: {few:,} to "
        f"{most:,}), prototypes {of(READINGS[0])}, prototypes and anchor {of(READINGS[1])}, regressions "
        f"{of(READINGS[2])}. The model itself was trained with the labels of its whole training split."
    )


def _gain(gains: Mapping[Arm, Entry]) -> list[str]:
    """What shots add to the anchor, and where they add nothing or take away."""
    sentences = []
    for reading in READINGS:
        said = []
        for kind in reversed(KINDS):
            of = {
                named(arm.number): entry for arm, entry in gains.items() if (arm.kind, arm.reading) == (kind, reading)
            }
            better = [name for name, entry in of.items() if entry["low"] is not None and entry["low"] > 0]
            worse = [name for name, entry in of.items() if entry["high"] is not None and entry["high"] < 0]
            words = f"better with {_listed(better)}" if better else "nothing is gained at any number of positives"
            words += f", worse with {_listed(worse)}" if worse else ""
            said.append(f"{kind.capitalize()}: {words}; with all {in_words(of[ALL], '+.3f')}.")
        sentences.append(" ".join([f"{reading.capitalize()} minus anchor, paired.", *said]))
    return sentences


def _plain(arm: Arm) -> Arm:
    """The arm of the same reading and number on studies as they are drawn."""
    return Arm("plain", arm.reading, arm.number)


def _curated(against: Mapping[Arm, Entry], alike: Mapping[str, float]) -> str:
    of = {named(arm.number): entry for arm, entry in against.items() if arm.reading == READINGS[0]}
    words = "; ".join(f"{in_words(entry, '+.3f')} ({name})" for name, entry in of.items())
    text = f"Prototypes curated against co-occurrence minus plain means, paired: {words}."
    if alike:
        text += (
            " Mean cosine of a prototype with that of the finding that most often stands beside it, all positives: "
            + ", ".join(f"{value:.3f} {kind}" for kind, value in alike.items())
            + "."
        )
    return text


def _absent(left_out: Mapping[str, str]) -> list[str]:
    """One sentence for each reason."""
    reasons = dict.fromkeys(left_out.values())
    return [
        f"Left out ({reason}): {', '.join(figures.plain(name) for name, why in left_out.items() if why == reason)}."
        for reason in reasons
    ]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _figure(numbers: Sequence[int | None], anchor: Entry, auroc: Mapping[Arm, Entry]) -> Any:
    figure = figures.new_figure(3.8)
    axes = figure.subplots()
    styles: list[tuple[str, str, str, str]] = [("plain", READINGS[0], figures.GREY, "x")]
    colours = (figures.BLUE, figures.ORANGE, figures.GREEN)
    styles += [
        ("curated", reading, *style) for reading, style in zip(READINGS, zip(colours, "oDs", strict=True), strict=True)
    ]
    for shift, (kind, reading, colour, mark) in zip(np.linspace(-0.09, 0.09, 4), styles, strict=True):
        label = reading if kind == "curated" else f"{reading}, plain means"
        entries = [auroc[Arm(kind, reading, n)] for n in numbers]
        # NaN, which is not drawn, for what is undefined.
        value, low, high = (np.array([e[key] for e in entries], dtype=float) for key in ("value", "low", "high"))
        x = np.arange(len(numbers)) + shift
        axes.plot(x, value, color=colour, marker=mark, markersize=5, linewidth=1.5, label=label)
        axes.vlines(x, low, high, color=colour, linewidth=1.3)
    if anchor["value"] is not None:
        axes.axhline(anchor["value"], color=figures.INK, linewidth=1.2, label="text anchor, no shots")
    if anchor["low"] is not None and anchor["high"] is not None:
        axes.axhspan(anchor["low"], anchor["high"], color=figures.FAINT, alpha=0.4, linewidth=0)
    axes.axhline(0.5, color=figures.GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xticks(range(len(numbers)), [named(n) for n in numbers])
    axes.set(xlabel="positive studies of each finding", ylabel="macro AUROC")
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    figure.legend(loc="outside upper right", ncols=3)
    return figure
