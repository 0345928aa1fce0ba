"""`radz compare`: runs side by side on the studies that all of them scored, with paired differences to the first."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.errors import InputError, nearest
from data_modules.files import alone_in, write_rows, write_text
from radz.metrics.calibration import Platt
from radz.metrics.estimates import METRICS, Cell, Entry, Estimates
from radz.metrics.intervals import few
from radz.metrics.results_file import headline_in, read_results
from radz.metrics.score_table import ScoreTable, prediction_file
from radz.metrics.split_results import inference, paired
from radz.report import figures
from radz.report.forest import Bar, forest
from radz.report.templates import environment

log = logging.getLogger(__name__)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Run:
    """One run of the comparison."""

    letter: str
    folder: Path
    metrics: dict[str, Any]
    scorer: str

    @property
    def name(self) -> str:
        """Experiment and run."""
        return f"{self.folder.resolve().parent.name}/{self.folder.resolve().name}"


def compare(folders: Sequence[Path], out: Path | None = None, scorer: str | None = None) -> Path:
    """Write comparison.html, comparison.csv and figures/ and return the page's path.

    Args:
        folders: finished run folders, two or more; the first is what the others are compared with.
        out: default `compare/` in the first run folder.
        scorer: None takes the headline of each run.

    Raises:
        InputError: no run folder, no test split, study or finding in common, or labels that differ.
    """
    from matplotlib import rc_context

    runs = _open(folders, scorer)
    keys = [key for key in runs[0].metrics["results"] if all(key in run.metrics["results"] for run in runs)]
    if not keys:
        each = "; ".join(f"{run.letter}: {', '.join(run.metrics['results'])}" for run in runs)
        raise InputError(f"compare: the runs have no test split in common ({each}); compare runs on the same data")
    folder = out if out is not None else folders[0] / "compare"
    with alone_in(folder, "out"), rc_context(figures.STYLE):
        return _write(runs, keys, folder)


def _write(runs: Sequence[Run], keys: Sequence[str], folder: Path) -> Path:
    sections = [_section(runs, key, folder) for key in keys]
    page = environment().get_template("compare.html.jinja").render(
        runs=runs, sections=sections, metrics=METRICS,
        protocols=len({run.metrics.get("protocol_digest") for run in runs}),
    )  # fmt: skip
    _write_csv(folder / "comparison.csv", runs, sections)
    path = folder / "comparison.html"
    write_text(path, page)
    return path


def _open(folders: Sequence[Path], scorer: str | None) -> list[Run]:
    if not 2 <= len(folders) <= len(LETTERS):
        raise InputError(f"compare: {len(folders)} run folder(s); name 2 to {len(LETTERS)}")
    runs: list[Run] = []
    for letter, folder in zip(LETTERS, folders, strict=False):
        if any(folder.resolve() == run.folder.resolve() for run in runs):
            raise InputError(f"compare: {folder} is named twice")
        metrics = read_results(folder)
        name, sets = scorer or headline_in(metrics, folder), metrics["results"].values()
        if name not in (known := min((of["scorers"] for of in sets), key=lambda scorers: name in scorers)):
            raise InputError(f"scorer={name}: {folder} has no such scorer{nearest(name, known)}")
        runs.append(Run(letter, folder, metrics, name))
    return runs


def _joined(runs: Sequence[Run], key: str) -> tuple[ScoreTable, list[int]]:
    """The scores of all runs on the studies and findings that they share, one scorer per run's letter.

    Also returns how many rows each run has scored.
    """
    tables, places = [], []
    for run in runs:
        path = prediction_file(run.folder, key)
        table = ScoreTable.read_csv(path)
        if run.scorer not in table.scores:
            raise InputError(f"{path}: no scores of '{run.scorer}', unlike metrics.json; run radz eval again")
        place: dict[tuple[str, str], int] = {}
        for row, unit in enumerate(zip(table.study_id, table.image_id, strict=True)):
            if place.setdefault(unit, row) != row:
                raise InputError(f"{path}: rows {place[unit] + 1} and {row + 1} are the same study; score it once")
        tables.append(table)
        places.append(place)
    if all(len(set(table.study_id)) == len(table) for table in tables):
        # One row a study in all of them: whether it is called an image, and how, does not count.
        places = [{(study, ""): row for row, study in enumerate(table.study_id)} for table in tables]
    first = tables[0]
    shared = [unit for unit in places[0] if all(unit in place for place in places[1:])]
    names = tuple(name for name in first.findings if all(name in table.findings for table in tables[1:]))
    if not shared or not names:
        what = "study" if not shared else "finding"
        raise InputError(f"compare: {key}: the runs have scored no {what} in common; compare runs on the same data")
    rows = [np.array([place[unit] for unit in shared]) for place in places]
    columns = [[table.findings.index(name) for name in names] for table in tables]
    labels = [table.labels[r][:, c] for table, r, c in zip(tables, rows, columns, strict=True)]
    for run, other in zip(runs[1:], labels[1:], strict=True):
        differ = ~((labels[0] == other) | (np.isnan(labels[0]) & np.isnan(other)))
        if differ.any():
            column = int(differ.any(axis=0).argmax())
            row = int(rows[0][differ[:, column].argmax()]) + 1
            raise InputError(
                f"compare: {key}: {int(differ.any(axis=1).sum())} shared studies have other labels in {run.folder} "
                f"than in {runs[0].folder}, first {names[column]} in row {row}; score both under one label policy"
            )
    scores = {
        run.letter: table.scores[run.scorer][r][:, c]
        for run, table, r, c in zip(runs, tables, rows, columns, strict=True)
    }
    joined = replace(first.take(rows[0]), findings=names, labels=labels[0], scores=scores)
    return joined, [len(table) for table in tables]


def _section(runs: Sequence[Run], key: str, folder: Path) -> dict[str, Any]:
    """Numbers and pictures of one test split."""
    table, sizes = _joined(runs, key)
    of = {run.letter: run.metrics["results"][key] for run in runs}
    rules = {run.letter: of[run.letter]["thresholds"]["validation"].get(run.scorer, {}) for run in runs}
    fits = {
        run.letter: {
            name: Platt(*pair) for name, pair in
            of[run.letter].get("calibration", {}).get("parameters", {}).get(run.scorer, {}).items()
        }
        for run in runs
    }  # fmt: skip
    drawn = of["A"]["bootstrap"]
    measured = Estimates(table, rules, fits, drawn["replicates"], drawn["seed"])
    everywhere = [n for c, n in enumerate(table.findings) if all((run.letter, c) in measured.points for run in runs)]
    primary = [name for name in everywhere if all(name in of[run.letter]["primary"] for run in runs)]
    cells = {run.letter: measured.of(run.letter, primary) for run in runs}
    macro, over = _means(measured, cells)
    difference = {run.letter: measured.difference(cells[run.letter], cells["A"]) for run in runs[1:]}
    number = {name: table.findings.index(name) for name in everywhere}
    tests = {
        run.letter: paired(measured, {n: ((run.letter, c), ("A", c)) for n, c in number.items()}) for run in runs[1:]
    }
    findings = {
        name: {run.letter: measured.macro([(run.letter, c)], "auroc") for run in runs} for name, c in number.items()
    }
    areas = [Bar("macro", letter, **of_run["auroc"]) for letter, of_run in macro.items()]
    areas += [Bar(name, letter, **value) for name, by in findings.items() for letter, value in by.items()]
    gains = [Bar("macro", f"{letter} minus A", **gain) for letter, gain in difference.items()]
    gains += [Bar(n, f"{letter} minus A", **by[n]["auroc"]) for n in everywhere for letter, by in tests.items()]
    stem = key.replace("/", "_")
    words = {letter: _in_words(result) for letter, result in of.items()}
    return {
        "key": key,
        "shared": len(table),
        "sizes": dict(zip(LETTERS, sizes, strict=False)),
        "inference": inference(table),
        "few": {n: few(measured.parts(("A", c))) for n, c in number.items()},
        "bootstrap": drawn,
        "primary": primary,
        "macro": macro,
        "over": over,
        "difference": difference,
        "findings": findings,
        "tests": tests,
        "excluded": _excluded(runs, measured, of),
        "words": words,
        "prompts": [*dict.fromkeys(n for own in words.values() for n in own or () if n.startswith("prompts_"))],
        "auroc": figures.embed(forest({"": areas}, "AUROC", 0.5), folder / "figures", f"auroc_{stem}"),
        "differences": figures.embed(
            forest({"": gains}, "difference in AUROC", 0.0), folder / "figures", f"differences_{stem}"
        ),
    }


def _means(
    measured: Estimates, cells: Mapping[str, Sequence[Cell]]
) -> tuple[dict[str, dict[str, Entry]], dict[str, int]]:  # fmt: skip
    """Macro metrics of each run, and over how many findings: those for which every run has the metric.

    A run without a threshold of validation for one finding has no F1 there, and its mean would be of the others.
    """
    macro: dict[str, dict[str, Entry]] = {letter: {} for letter in cells}
    over = {}
    for metric in METRICS:
        shared = set.intersection(*({c for _, c in measured.having(own, metric)} for own in cells.values()))
        over[metric] = len(shared)
        for letter, own in cells.items():
            macro[letter][metric] = measured.macro([cell for cell in own if cell[1] in shared], metric)
    return macro, over


def _in_words(result: Mapping[str, Any]) -> dict[str, dict[str, float | None]] | None:
    """What other wordings and published prompts do to a run's own scores, with intervals where it has them; None where
    they were not asked.
    """
    if (found := result.get("wordings")) is None:
        return None
    plain = {**{name: found["auroc"][name] for name in ("least", "median", "most")}, **found["negation"]}
    bare = {name: {"value": value, "low": None, "high": None} for name, value in plain.items()}
    given = {name: value for name, value in found.get("intervals", {}).items() if name in bare}
    sets = {f"prompts_{name}": area for name, area in result.get("prompt_sets", {}).get("auroc", {}).items()}
    return {"spread": {**bare["most"], "value": plain["most"] - plain["least"]}, **bare, **given, **sets}


def _excluded(runs: Sequence[Run], measured: Estimates, of: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Finding, run and reason of all that is not compared."""
    names = measured.table.findings
    excluded = [(names[c], letter, reason) for (letter, c), reason in measured.excluded.items()]
    for run in runs:
        scored = of[run.letter]["scorers"][run.scorer]["findings"]
        excluded += [(name, run.letter, "not scored by every run") for name in scored if name not in names]
    return excluded


def _write_csv(path: Path, runs: Sequence[Run], sections: Sequence[Mapping[str, Any]]) -> None:
    """One line per split, run, finding (or `macro`, over `findings`) and metric; differences are to the first run."""
    header = ["split", "run", "folder", "scorer", "finding", "metric", "value", "low", "high"]
    header += ["difference", "difference_low", "difference_high", "p_delong", "p_holm", "findings"]
    rows: figures.CsvRows = [header]
    for section in sections:
        for run in runs:
            start = [section["key"], run.letter, run.folder, run.scorer]
            gain = section["difference"].get(run.letter, {})
            for metric, values in section["macro"][run.letter].items():
                beside = list(gain.values()) if metric == "auroc" and gain else [None] * 3
                rows.append([*start, "macro", metric, *values.values(), *beside, None, None, section["over"][metric]])
            for name, values in (section["words"][run.letter] or {}).items():
                rows.append([*start, "macro", f"wordings_{name}", *values.values(), *[None] * 6])
            for name, by in section["findings"].items():
                test = section["tests"].get(run.letter, {}).get(name)
                beside = [*test["auroc"].values(), test["p"], test["p_holm"]] if test else [None] * 5
                rows.append([*start, name, "auroc", *by[run.letter].values(), *beside, None])
    write_rows(path, rows)
