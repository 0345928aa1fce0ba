"""How often intervals hold the truth, and p values their level: `python -m benchmarks.coverage [only=..] [n=500]`.

Prints the tables of docs/statistics.md. Data are drawn from a known law (binormal scores), so that the truth is known;
each cell of a table is the share of n repetitions whose 95 % interval holds it, and the median width in brackets.
Numpy on one core: about three minutes a table at n=500.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import sqrt

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from data_modules.errors import InputError, nearest
from radz.metrics import bootstrap, intervals
from radz.metrics.delong import Parts, covariance, delong, holm, parts
from radz.metrics.estimates import entry
from radz.metrics.ranking import Ranking

Floats = NDArray[np.float64]
Row = dict[str, str]
REPLICATES = 400
"""of the bootstraps that are compared with"""


class Tally:
    """Coverage and width of several kinds of interval."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[bool, float]]] = defaultdict(list)

    def add(self, kind: str, interval: tuple[float, float], truth: float) -> None:
        """An interval without ends holds nothing."""
        low, high = interval
        self._found[kind].append((bool(low <= truth <= high), high - low))

    def share(self, kind: str) -> float:
        """Of the intervals, how many hold the truth."""
        return float(np.mean([hit for hit, _ in self._found[kind]]))

    def row(self) -> Row:
        """kind -> share and median width."""
        return {kind: f"{self.share(kind):.3f} ({_median([w for _, w in of]):.3f})"
                for kind, of in self._found.items()}  # fmt: skip


def _median(widths: Sequence[float]) -> float:
    """Of those that have one; NaN where none has."""
    return float("nan") if np.isnan(widths).all() else float(np.nanmedian(widths))


def shift(auroc: float, spread: float = 1.0) -> float:
    """Distance of normal scores of positives (SD `spread`) from those of negatives (SD 1) with this AUROC."""
    return float(ndtri(auroc)) * sqrt(1 + spread**2)


def of_some(count: int, total: int, rng: np.random.Generator) -> Floats:
    """Labels [total] of which `count`, drawn at random, are 1."""
    return (rng.permutation(total) < count).astype(float)


def by_patient(each: int, share: float, patients: int, rng: np.random.Generator) -> Floats:
    """Standard normal noise [patients x each], of which a patient's images have `share` of the variance in common."""
    common = np.repeat(rng.normal(size=patients), each)
    return sqrt(share) * common + sqrt(1 - share) * rng.normal(size=patients * each)


def resampled(columns: Sequence[tuple[Floats, Floats]], codes: NDArray[np.int64], seed: int) -> list[Floats]:
    """AUROC [R] of each column under shared resamples of patients."""
    rankings = [Ranking(*column) for column in columns]
    drawn = bootstrap.bootstrap(rankings, codes, [()] * len(rankings), REPLICATES, seed)
    return [measures.auroc for measures in drawn]


def level(n: int) -> Iterator[Row]:
    """p below .05 without any difference, and tables of 14 findings with some p_holm below .05."""
    for each, share, constant in ((1, 0.8, True), (3, 0.8, True), (9, 0.8, True), (3, 1 / 3, False), (9, 1 / 3, False)):
        rates = p_below(each, share, constant, max(1, n // 5))
        labels = "of the patient" if constant else "of the image"
        yield {"images a patient": str(each), "noise in common": f"{share:.0%}", "labels": labels, **rates}


def p_below(each: int, share: float, constant: bool, tables: int, patients: int = 200) -> Row:
    """Of `tables` tables of 14 findings: the share of p below .05, and of tables with some p_holm below it."""
    rng, codes = np.random.default_rng(each), np.repeat(np.arange(patients), each)
    below: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for _ in range(tables):
        p: dict[str, list[float]] = {"by row": [], "by patient": []}
        for _ in range(14):
            labels = np.repeat(of_some(patients // 5, patients, rng), each)
            if not constant:
                labels = of_some(len(codes) // 5, len(codes), rng)
            scores = [by_patient(each, share, patients, rng) + labels for _ in "ab"]
            p["by row"].append(delong(labels, scores).p_value())
            p["by patient"].append(delong(labels, scores, codes).p_value())
        for kind, values in p.items():
            below[kind].append((float(np.mean(np.array(values) < 0.05)), min(holm(values)) < 0.05))
    found: Row = {}
    for kind, each_table in below.items():
        single, some = np.mean(each_table, axis=0)
        found |= {f"p, {kind}": f"{single:.3f}", f"some p_holm, {kind}": f"{some:.3f}"}
    return found


SIZES = ((4, 500), (11, 500), (29, 500), (8, 500), (20, 65), (150, 500))
"""positives of studies"""


def cells(n: int) -> Iterator[Row]:
    """AUROC of one finding with one image a patient, then with several."""
    for spread in (1.0, 1.7):
        for positives, total in SIZES if spread == 1 else SIZES[:3]:
            for auroc in (0.76, 0.92):
                found = cell(positives, total, 1, auroc, n, spread)
                yield {"positives": f"{positives} of {total}", "AUROC": f"{auroc}", "SD": f"{spread}", **found.row()}
    for positives, total, each in ((4, 50, 9), (10, 50, 9), (30, 60, 9), (8, 200, 3), (30, 200, 3)):
        for auroc in (0.76, 0.92):
            found = cell(positives, total, each, auroc, n)
            yield {"positives": f"{positives} of {total}, {each} images each", "AUROC": f"{auroc}", "SD": "1.0",
                   **found.row()}  # fmt: skip


def cell(positives: int, patients: int, each: int, auroc: float, n: int, spread: float = 1.0) -> Tally:
    """Intervals of n AUROCs, patients with `each` images that share their label and .8 of the variance."""
    rng, found, codes = np.random.default_rng(positives), Tally(), np.repeat(np.arange(patients), each)
    for run in range(n):
        labels = np.repeat(of_some(positives, patients, rng), each)
        noise = by_patient(each, 0.8 if each > 1 else 0.0, patients, rng)
        scores = np.where(labels == 1, shift(auroc, spread) + spread * noise, noise)
        one = parts(labels, scores, codes, patients)
        found.add("percentile", bootstrap.interval(resampled([(labels, scores)], codes, run)[0])[:2], auroc)
        found.add("DeLong", covariance([one]).interval(), auroc)
        found.add("DeLong, logit", _logit(one), auroc)
        found.add("radz", intervals.of_mean([one]), auroc)
    return found


def _logit(one: Parts) -> tuple[float, float]:
    if not 0 < one.auroc < 1:
        return float("nan"), float("nan")
    middle, half = np.log(one.auroc / (1 - one.auroc)), 1.96 * sqrt(covariance([one]).covariance[0, 0])
    ends = middle + np.array([-1, 1]) * half / (one.auroc * (1 - one.auroc))
    low, high = 1 / (1 + np.exp(-ends))
    return float(low), float(high)


POSITIVES = (4, 8, 11, 29, 35, 60, 80, 100, 120, 150, 170, 178, 200, 250)
"""of 500 studies, as rare and as common as CheXpert's test set"""
FINDINGS = {"all 14": range(14), "the 4 rarest": range(4), "4 positives": [0], "8 positives": [1], "29 positives": [3]}


def means(n: int) -> Iterator[Row]:
    """Macro AUROC and paired differences of two equal scorers, 500 patients."""
    for auroc in (0.76, 0.92):
        found = {what: (Tally(), Tally()) for what in FINDINGS}
        rng, codes = np.random.default_rng(5), np.arange(500)
        for run in range(max(1, n // 2)):
            labels = [of_some(count, 500, rng) for count in POSITIVES]
            common = rng.normal(size=500)
            noise = [rng.normal(size=500) for _ in POSITIVES]
            # Scores of two findings are correlated by .3, two scorers of one finding by .65.
            columns = [(y, sqrt(0.3) * common + sqrt(0.35) * (own + rng.normal(size=500)) + shift(auroc) * y)
                       for _ in "ab" for y, own in zip(labels, noise, strict=True)]  # fmt: skip
            drawn, of = resampled(columns, codes, run), [parts(*column, codes, 500) for column in columns]
            for what, (mean, gap) in found.items():
                ours, theirs = list(FINDINGS[what]), [place + 14 for place in FINDINGS[what]]
                samples = [bootstrap.macro([drawn[place] for place in side]) for side in (ours, theirs)]
                mean.add("percentile", bootstrap.interval(samples[0])[:2], auroc)
                mean.add("radz", intervals.of_mean([of[place] for place in ours]), auroc)
                gap.add("percentile", bootstrap.interval(samples[0] - samples[1])[:2], 0.0)
                one, other = ([of[place] for place in side] for side in (ours, theirs))
                gap.add("radz", intervals.of_difference(one, other), 0.0)
        for what, (mean, gap) in found.items():
            rows = {"mean": mean.row(), "difference": gap.row()}
            yield {"over": what, "AUROC": f"{auroc}",
                   **{f"{name}, {kind}": text for name, of in rows.items() for kind, text in of.items()}}  # fmt: skip


def seeds(n: int) -> Iterator[Row]:
    """Mean over seeds and difference of two arms: 300 patients of two images, 8 findings."""
    for count in (3, 5):
        for wide in (0.0, 0.022, 0.055, 0.1):
            for effect in (0.0, 0.1):
                spread, mean, gap = over_seeds(count, wide, effect, max(1, n // 2))
                row = {"seeds": str(count), "SD of seeds": f"{spread:.3f}", "true effect": "yes" if effect else "no"}
                yield (
                    row
                    | {f"mean, {kind}": text for kind, text in mean.row().items()}
                    | {f"difference, {kind}": text for kind, text in gap.row().items()}
                )


def over_seeds(count: int, wide: float, effect: float, n: int) -> tuple[float, Tally, Tally]:
    """SD of macro AUROC between seeds, and coverage of the mean and of the difference of two arms.

    A seed moves the positives of all its findings by normal(0, wide) and adds noise of its own to each image.
    """
    rng, patients, findings = np.random.default_rng(count), 300, 8
    codes, noise, mean, gap = np.repeat(np.arange(patients), 2), 0.53, Tally(), Tally()
    nodes, weights = hermegauss(31)
    scale = sqrt(2 * (1 + noise**2))
    truth = [float((ndtr((1 + gain + wide * nodes) / scale) * weights).sum() / weights.sum()) for gain in (0, effect)]
    spread = []
    for _ in range(n):
        labels = [of_some(120, 600, rng) for _ in range(findings)]
        common = [by_patient(2, 0.5, patients, rng) for _ in range(findings)]
        of: list[list[list[Parts]]] = [
            [
                [parts(y, c + (1 + gain + moved) * y + noise * rng.normal(size=600), codes, patients)
                 for y, c in zip(labels, common, strict=True)]
                for moved in wide * rng.normal(size=count)
            ]
            for gain in (0.0, effect)
        ]  # fmt: skip
        points = np.array([[np.mean([one.auroc for one in seed]) for seed in arm] for arm in of])
        influence = np.array([[intervals.mean_influence(seed) for seed in arm] for arm in of])
        spread.append(points[0].var(ddof=1))
        base, other = ([one for seed in arm for one in seed] for arm in of)
        whole, apart = intervals.of_mean(base), intervals.of_difference(other, base)
        for tally, of_seeds, adds, of_patients, true in (
            (mean, points[0], influence[0], whole, truth[0]),
            (gap, points[1] - points[0], influence[1] - influence[0], apart, truth[1] - truth[0]),
        ):  # fmt: skip
            tally.add("patients only", of_patients, true)
            tally.add("two-stage", _two_stage(of_seeds, adds, rng), true)
            tally.add("t, Satterthwaite", _satterthwaite(of_seeds, adds), true)
            tally.add("radz", intervals.with_seeds(of_seeds, of_patients), true)
    return sqrt(float(np.mean(spread))), mean, gap


def _two_stage(points: Floats, influence: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Percentiles of resamples of seeds and of patients; a seed's replicate by what patients add to it."""
    count, patients = influence.shape
    drawn = rng.multinomial(patients, np.full(patients, 1 / patients), REPLICATES) - 1
    chosen = rng.multinomial(count, np.full(count, 1 / count), REPLICATES) / count
    return bootstrap.interval((chosen * (points + drawn @ influence.T)).sum(axis=1))[:2]


def _satterthwaite(points: Floats, influence: Floats) -> tuple[float, float]:
    of_seeds, of_patients = points.var(ddof=1) / len(points), float((influence.mean(axis=0) ** 2).sum())
    total = of_seeds + of_patients
    freedom = total**2 / (of_seeds**2 / (len(points) - 1) + of_patients**2 / (influence.shape[1] - 1))
    half = float(stdtrit(freedom, 0.975)) * sqrt(total)
    return float(points.mean()) - half, float(points.mean()) + half


def others(n: int) -> Iterator[Row]:
    """Percentile intervals of AUPRC, F1 at a fixed threshold and oracle F1, with the mean of what is reported."""
    for positives, total, auroc in ((4, 500, 0.76), (11, 500, 0.92), (20, 100, 0.76), (29, 500, 0.76), (150, 500, 0.76),
                                    (150, 500, 0.92)):  # fmt: skip
        yield {"positives": f"{positives} of {total}", "AUROC": f"{auroc}", **f1(positives, total, auroc, n)}


def f1(positives: int, total: int, auroc: float, n: int) -> Row:
    """The truths are those of a population of which positives / total have the finding."""
    rng, found, share = np.random.default_rng(positives), Tally(), positives / total
    grid = np.linspace(-4, 6, 4001)
    hit, false = share * ndtr(shift(auroc) - grid), (1 - share) * ndtr(-grid)
    curve = 2 * hit / (hit + false + share)
    best = int(curve.argmax())
    precision = hit / np.maximum(hit + false, 1e-300)
    area = float((precision[:-1] * -np.diff(hit / share)).sum())
    reported = []
    for run in range(n):
        labels = of_some(positives, total, rng)
        ranking = Ranking(labels, rng.normal(size=total) + shift(auroc) * labels)
        drawn = bootstrap.bootstrap([ranking], np.arange(total), [(grid[best],)], REPLICATES, run)[0]
        reported.append(ranking.measure(np.ones((1, total), np.int64)).best_f1[0])
        for kind, values, truth in (
            ("AUPRC", drawn.auprc, area), ("F1, fixed threshold", drawn.fixed.f1[:, 0], curve[best]),
            ("oracle F1", drawn.best_f1, curve[best]),
        ):  # fmt: skip
            shown = entry(0.0, values)
            found.add(kind, (_end(shown["low"]), _end(shown["high"])), truth)
    return {
        **found.row(),
        "oracle F1, mean": f"{np.mean(reported):.3f}",
        "best F1 of the population": f"{curve[best]:.3f}",
    }


def rare(n: int) -> Iterator[Row]:
    """Mean AUPRC of 6 common and 16 rare findings, 1,000 patients, with its percentiles."""
    for count in (1, 2, 3, 4):
        rng, found, shown = np.random.default_rng(count), [], []
        for run in range(max(1, n // 5)):
            labels = [of_some(positives, 1000, rng) for positives in (*[300] * 6, *[count] * 16)]
            rankings = [Ranking(y, rng.normal(size=1000) + 1.2 * y) for y in labels]
            drawn = bootstrap.bootstrap(rankings, np.arange(1000), [()] * len(rankings), REPLICATES, run)
            shown.append(bootstrap.interval(bootstrap.macro([one.auprc for one in drawn]))[:2])
            once = np.ones((1, 1000), np.int64)
            found.append(np.mean([ranking.measure(once).auprc[0] for ranking in rankings]))
        means_, (low, high) = np.array(found), np.array(shown).T
        truth = means_.mean()
        yield {
            "positives": str(count),
            "mean AUPRC": f"{truth:.3f}",
            "interval": f"{low.mean():.3f} to {high.mean():.3f}",
            "holds": f"{((low <= truth) & (truth <= high)).mean():.3f}",
            "leaves out its own value": f"{((means_ < low) | (means_ > high)).mean():.3f}",
        }


def _end(shown: float | None) -> float:
    return float("nan") if shown is None else shown


STUDIES: dict[str, Callable[[int], Iterator[Row]]] = {
    "level": level, "cells": cells, "means": means, "seeds": seeds, "others": others, "rare": rare
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Print the tables that were asked for, all of them without `only`."""
    given = dict(word.partition("=")[::2] for word in arguments)
    names = given["only"].split(",") if "only" in given else list(STUDIES)
    for name in names:
        if name not in STUDIES:
            raise InputError(f"only: there is no table '{name}'{nearest(name, STUDIES)}")
        rows = list(STUDIES[name](int(given.get("n", "500"))))
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        sys.stdout.write(f"{name}: {STUDIES[name].__doc__}\n\n{text}\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
