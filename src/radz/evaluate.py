"""Scores of a trained module as tables, and what is computed from them: metrics.json, predictions/, cases."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from data_modules import privacy
from data_modules.base import StudyDataModule
from data_modules.batch import StudyBatch
from data_modules.leaks import leaked
from radz import beside
from radz.baselines.answers import unread
from radz.build import NO_PATHOLOGY, UNREACHABLE
from radz.config import Experiment
from radz.distributed import gather_objects
from radz.exporting.load import exported_thresholds
from radz.report.html import Case
from radz.run_folder import read_environment, write_json
from radz.scoring.kept import Kept
from radz.scoring.results import Calibrations, Thresholds, calibrations_from, results, thresholds_from
from radz.scoring.statistics import undefined_reason
from radz.scoring.table import ScoreTable
from radz.trainer import MONITOR

log = logging.getLogger(__name__)
PIXEL_BASELINE = "pixel32"
GREY = 128
"""value of every pixel of a blank image"""


class Rows(pl.LightningDataModule):
    """Rows to score. Their loader is made on demand: how many processes share it is known only inside the test.

    `blank`: every image is an even grey one.
    """

    def __init__(self, data: StudyDataModule, rows: NDArray[np.int64], blank: bool = False) -> None:
        super().__init__()
        self._data, self._rows, self._blank = data, rows, blank

    def test_dataloader(self) -> Any:
        return self._data.rows_dataloader(self._rows)

    def on_after_batch_transfer(self, batch: StudyBatch, dataloader_idx: int) -> StudyBatch:
        return replace(batch, pixels=torch.full_like(batch.pixels, GREY)) if self._blank else batch


def score(
    trainer: pl.Trainer, module: Any, data: StudyDataModule, split: str, findings: tuple[str, ...],
    blank: NDArray[np.int64] | None = None,
) -> list[ScoreTable]:  # fmt: skip
    """Score one split with all scorers; one table per corpus, each study exactly once under any world size.

    `blank`: score only these rows of the split, each image replaced by an even grey one of the same size.

    `module.scored` holds, after `trainer.test`, this rank's (rows, {scorer: [n, C]}); `module.keeper`, where it is set,
    the features.
    """
    chosen = data.table.rows(split) if blank is None else blank
    trainer.test(module, datamodule=Rows(data, chosen, blank is not None), verbose=False)
    own = [(rows.numpy(), {k: v.numpy() for k, v in scores.items()}) for rows, scores in module.scored]
    parts = [part for rank in gather_objects(own) for part in rank]
    rows = np.concatenate([part[0] for part in parts])
    _, order = np.unique(rows, return_index=True)  # ranks that must be even score a study again
    scores = {key: np.concatenate([part[1][key] for part in parts])[order] for key in parts[0][1]}
    return tables(data, split, rows[order], findings, scores)


def tables(
    data: StudyDataModule, split: str, rows: NDArray[np.int64], findings: tuple[str, ...],
    scores: dict[str, NDArray[np.float32]],
) -> list[ScoreTable]:  # fmt: skip
    """Scores [N, C] of table rows as one ScoreTable per corpus, patients as salted hashes."""
    salt = privacy.salt(data.cache_dir)
    table = data.table
    columns = [data.findings.index(name) for name in findings]
    labels = data.metric_labels(rows)[:, columns]
    found = []
    for number, corpus in enumerate(table.corpora):
        at = np.flatnonzero(table.corpus[rows] == number)
        if not len(at):
            continue
        mine = rows[at]
        images = [""] * len(mine)
        if data.unit == "image":
            images = [privacy.pseudonym(corpus, table.image_ids[i], salt) for i in table.image_offsets[mine]]
        found.append(
            ScoreTable(
                corpus,
                split,
                mine,
                [str(table.study_id[r]) for r in mine],
                images,
                [privacy.pseudonym(corpus, table.patient[r], salt) for r in mine],
                findings,
                labels[at],
                {name: values[at] for name, values in scores.items()},
            )
        )
    return found


def add_pixel_baseline(data: StudyDataModule, splits: dict[str, list[ScoreTable]]) -> None:
    """Fit the 32-pixel logistic regression on the training split and add its scores to every table.

    Data without a training split have no such baseline.
    """
    from radz.baselines.pixel import fit_predict

    if not len(data.table.rows("train")):
        log.info("no %s: these data have no training split to fit it on", PIXEL_BASELINE)
        return

    def pixels(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([data.cache.picture(int(image)) for image in data.table.image_offsets[rows]])

    findings = next(tables for tables in splits.values())[0].findings
    columns = [data.findings.index(name) for name in findings]
    train, val = data.table.rows("train"), data.table.rows("val")
    every = [table for tables in splits.values() for table in tables]
    rows = np.concatenate([table.rows for table in every])
    found = fit_predict(
        pixels(train), data.loss_labels(train)[:, columns], pixels(val), data.metric_labels(val)[:, columns],
        pixels(rows),
    )  # fmt: skip
    start = 0
    for table in every:
        table.scores[PIXEL_BASELINE] = found[start : start + len(table)]
        start += len(table)


def write_results(
    experiment: Experiment, data: StudyDataModule, splits: dict[str, list[ScoreTable]], seen: dict[str, str],
    headline: str, world_size: int, run_dir: Path, trained: Path | None = None, kept: Kept | None = None,
    cost: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """predictions/*.csv, private/ids.csv and metrics.json from the tables of each split; returns the metrics.

    `trained`: the run that is scored on other data. Its validation gives the thresholds where these data have no
    validation split. `leaked` is then null: what it was trained on is not at hand. `kept`: features of the test split,
    for retrieval. `cost`: of `beside.cost`.
    """
    own = trained is None or read_environment(trained).get("data_digest") == data.table.digest()
    coverage = data.table.coverage
    account = coverage.to_dict()
    account["reasons"] = account.pop("skipped")
    found: dict[str, Any] = {}
    for split, scored in splits.items():
        for table in scored:
            table.write_csv(run_dir / "predictions" / table.file_name)
            if split != "test":
                continue
            primary = [n for n in table.findings if experiment.scoring.primary == "all" or seen[n] == "label"]
            source, thresholds, calibrations = _rules(table.corpus, splits.get("val", []), trained)
            entry = results(
                table, {n: seen[n] for n in table.findings}, primary, thresholds,
                experiment.scoring.replicates, experiment.scoring.seed, headline=headline, calibrations=calibrations,
                coverage={"skipped": coverage.skipped(table.corpus), **account},
            )  # fmt: skip
            entry["thresholds_from"] = source
            for values in entry["scorers"].values():
                values["excluded"] |= _not_scored(experiment, data, table.findings)
            for name, count in unread(table.scores).items():
                entry["scorers"][name]["unread"] = count
            entry["subgroups"] = beside.within_subgroups(experiment, data, table, headline, primary)
            if (found_again := beside.retrieved(experiment, kept, table)) is not None:
                entry["retrieval"] = found_again
            found[table.key] = entry
    write_private_ids(data, splits, run_dir)
    protocol = beside.protocol(experiment, data, splits["test"])
    path = run_dir / "metrics.json"
    before = json.loads(path.read_text())["test_evaluations"] if path.is_file() else 0
    metrics: dict[str, Any] = {
        "schema": 1,
        "headline_scorer": headline,
        "monitor": MONITOR,
        "protocol_digest": beside.digest(protocol),
        "protocol": protocol,
        "world_size": world_size,
        "test_evaluations": before + 1,
        "leaked": leaked(data) if own else None,
        "pixels": protocol["pixels"],
        "cost": cost,
        "results": found,
    }
    write_json(path, metrics)
    return metrics


def _rules(
    corpus: str, val: list[ScoreTable], trained: Path | None
) -> tuple[str | None, Thresholds | None, Calibrations | None]:
    """Best-F1 thresholds and Platt fits, and where they are from: this corpus' validation split, else that of the
    trained run (its corpus of the same name, or its only one), else none."""
    for table in val:
        if table.corpus == corpus:
            return table.key, thresholds_from(table), calibrations_from(table)
    files = sorted((trained / "predictions").glob("*_val.csv")) if trained is not None else []
    tables = [ScoreTable.read_csv(file) for file in files]
    for table in [t for t in tables if t.corpus == corpus] or tables[: len(tables) == 1]:
        log.info("%s has no validation split: thresholds are those of %s in %s", corpus, table.key, trained)
        return f"{table.key} of the trained run", thresholds_from(table), calibrations_from(table)
    if trained is not None and (kept := exported_thresholds(trained, corpus)) is not None:
        return f"validation of {kept[0]} of the exported run", kept[1], None
    log.info("%s has no validation split: its thresholds and calibration are unavailable", corpus)
    return None, None, None


def _not_scored(experiment: Experiment, data: StudyDataModule, scored: Collection[str]) -> dict[str, str]:
    """Why findings were not scored: asked for without a label column in these data, or without a known test label."""
    if asked := experiment.scoring.findings:
        return {name: UNREACHABLE for name in asked if name not in data.findings}
    labels = data.metric_labels(data.table.rows("test"))
    others = [(column, name) for column, name in enumerate(data.findings) if name not in (*scored, *NO_PATHOLOGY)]
    return {name: reason for column, name in others if (reason := undefined_reason(labels[:, column])) is not None}


def write_private_ids(data: StudyDataModule, splits: dict[str, list[ScoreTable]], run_dir: Path) -> None:
    """private/ids.csv (0600): table row, corpus ids and salted hash of every scored study."""
    folder = run_dir / "private"
    folder.mkdir(mode=0o700, exist_ok=True)
    salt = privacy.salt(data.cache_dir)
    descriptor = os.open(folder / "ids.csv", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "corpus", "split", "study_id", "patient", "hash"])
        for scored in splits.values():
            for table in scored:
                for row, study in zip(table.rows, table.study_id, strict=True):
                    patient = data.table.patient[row]
                    writer.writerow(
                        [row, table.corpus, table.split, study, patient, privacy.pseudonym(table.corpus, study, salt)]
                    )


def cases(data: StudyDataModule, scored: list[ScoreTable], headline: str, each: int) -> list[Case]:
    """Per finding the `each` best and worst studies under the headline scorer, half of them positive.

    Best: positives scored highest and negatives scored lowest; worst: the other way round. Texts name row and hash.
    """
    salt = privacy.salt(data.cache_dir)
    found = []
    for table in scored:
        for column, finding in enumerate(table.findings):
            scores, labels = table.scores[headline][:, column], table.labels[:, column]
            if np.isnan(scores).any():
                continue
            up = np.argsort(scores, kind="stable")
            positive, negative = up[labels[up] == 1], up[labels[up] == 0]
            half = max(1, each // 2)
            picks = {
                "best": [*positive[::-1][:half], *negative[:half]],
                "worst": [*positive[:half], *negative[::-1][:half]],
            }
            for kind, positions in picks.items():
                for i in positions:
                    row = int(table.rows[i])
                    picture = data.cache.picture(int(data.table.image_offsets[row]))
                    text = f"row {row}, {privacy.pseudonym(table.corpus, table.study_id[i], salt)}"
                    found.append(Case(finding, kind, float(scores[i]), int(labels[i]), picture, text))
    return found


def log_summary(metrics: dict[str, Any]) -> None:
    """One line per corpus and scorer: macro AUROC with interval, and the groups of findings by seen."""
    for key, result in metrics["results"].items():
        log.info("%s: macro AUROC [95 %% interval] per scorer", key)
        for scorer, values in result["scorers"].items():
            groups = {"macro": values["macro"], **{f"seen={g}": v for g, v in values["macro_by_seen"].items()}}
            cells = []
            for group, entry in groups.items():
                auroc = entry["auroc"]
                if auroc["value"] is not None:
                    cells.append(f"{group} {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]")
            mark = "*" if scorer == metrics["headline_scorer"] else " "
            log.info("%s %-12s %s", mark, scorer, "  ".join(cells))
