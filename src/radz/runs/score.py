"""Scores of a trained module as tables, and what is computed from them: metrics.json, predictions/, cases."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as pl
import numpy as np
from numpy.typing import NDArray

from data_modules import privacy
from data_modules.datamodule import StudyDataModule
from radz.methods.base import WORDING, run_rows
from radz.metrics.score_table import ScoreTable
from radz.models.prompts import PROMPT_SET

log = logging.getLogger(__name__)
PIXEL_BASELINE = "pixel32"


def score(
    trainer: pl.Trainer, module: Any, data: StudyDataModule, split: str, findings: tuple[str, ...],
    blank: NDArray[np.int64] | None = None,
) -> list[ScoreTable]:  # fmt: skip
    """Score one split with all scorers; one table per corpus, each study exactly once under any world size.

    `blank`: score only these rows of the split, each image replaced by an even grey one of the same size.

    `module.keeper`, where it is set, holds this rank's features afterwards; `module.wordings` are asked too.
    """
    chosen = data.table.rows(split) if blank is None else blank
    rows, scores = run_rows(trainer, module, data, chosen, blank is not None)
    worded = {name.removeprefix(WORDING): scores.pop(name) for name in [*scores] if name.startswith(WORDING)}
    found = tables(data, split, rows, findings, scores)
    for table in found:
        own = {name: values[np.isin(rows, table.rows)] for name, values in worded.items()}
        table.prompt_sets = {
            name.removeprefix(PROMPT_SET): own.pop(name) for name in [*own] if name.startswith(PROMPT_SET)
        }
        table.wordings = own
    return found


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
        of_corpus = rows[at]
        images = [""] * len(of_corpus)
        if data.unit == "image":
            images = [privacy.pseudonym(corpus, table.image_ids[i], salt) for i in table.image_offsets[of_corpus]]
        found.append(
            ScoreTable(
                corpus,
                split,
                of_corpus,
                [str(table.study_id[r]) for r in of_corpus],
                images,
                [table.who(r, salt) for r in of_corpus],
                findings,
                labels[at],
                {name: values[at] for name, values in scores.items()},
            )
        )
    return found


def add_pixel_baseline(data: StudyDataModule, splits: dict[str, list[ScoreTable]]) -> None:
    """Fit the 32-pixel logistic regression on the training split and add its scores to every table.

    Data without a training split, or without a validation split that chooses its strength, have no such baseline.
    """
    from radz.methods.pixels import fit_predict

    for split, words in (("train", "training split to fit it on"), ("val", "validation split to choose its strength")):
        if not len(data.table.rows(split)):
            log.info("no %s: these data have no %s", PIXEL_BASELINE, words)
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
        data.table.corpus[val], pixels(rows),
    )  # fmt: skip
    start = 0
    for table in every:
        table.scores[PIXEL_BASELINE] = found[start : start + len(table)]
        start += len(table)
