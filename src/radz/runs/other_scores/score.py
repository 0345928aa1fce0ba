"""`radz score`: the scores of any model, with the statistics and the page of a run. No torch, no image."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules import privacy
from data_modules.counting import counted
from data_modules.errors import InputError
from data_modules.files import check_free, new_folder, write_json, write_rows
from radz.metrics.score_table import ScoreTable, prediction_file
from radz.metrics.summary import log_summary
from radz.report.run_report import write_report
from radz.runs.other_scores.headers import ColumnNames
from radz.runs.other_scores.joined import NOBODY, Pairs, check_matched, pair
from radz.runs.other_scores.protocol import read_protocol
from radz.runs.other_scores.request import Request
from radz.runs.other_scores.results import Brought
from radz.runs.other_scores.sheet import Sheet, check_named, read_sheet
from radz.training.environment import software

log = logging.getLogger(__name__)


def score_given(request: Request) -> Path:
    """Write metrics.json, predictions/, figures/ and report.html into a new folder; returns it.

    Raises:
        InputError: tables that cannot be read or joined, no patients, nothing that can be measured; nothing is left.
    """
    check_free(request.out, "out")
    protocol = read_protocol(request.protocol, request.corpus)
    names = ColumnNames(protocol.ontology)
    unit = protocol.scoring.unit if protocol.name else None
    test = _read(request, names, unit, "scores", request.scores, "labels", request.labels)
    val = None
    if request.val is not None:
        val = _read(request, names, unit, "val", request.val, "val_labels", request.val_labels, test.labels.path)
    elif request.val_labels is not None:
        raise InputError("val_labels: is read only with val=FILE, the scores of validation")
    named = request.named if request.named.patient != NOBODY else replace(request.named, patient=None)
    check_named(named, [sheet for pairs in (test, val) if pairs for sheet in (pairs.scores, pairs.labels)])
    left_out = _left_out(test, val, request.unmatched)
    brought = Brought(request, protocol, test, val)
    tables = brought.tables()
    metrics = brought.metrics(tables, left_out)
    with new_folder(request.out, "out") as draft:
        _write(draft, request, brought, tables, metrics, left_out)
    log_summary(metrics)
    return request.out


def _read(
    request: Request, names: ColumnNames, unit: str | None, key: str, path: Path, labels_key: str, labels: Path | None,
    other: Path | None = None,
) -> Pairs:  # fmt: skip
    """Scores and their labels: those of `labels`, else those that stand beside them, else of `other`."""
    sheet = read_sheet(path, key, names, request.named, "score")
    source = labels or (path if sheet.hashed else other)
    if source is None:
        raise InputError(f"{labels_key}: missing; give {labels_key}=FILE, where each finding of a study is 1 or 0")
    truth = read_sheet(source, labels_key, names, request.named, "label")
    for read, what in ((sheet, "scores"), (truth, "labels")):
        if not read.columns:
            raise InputError(f"{read.path}: no column of {what}; call its columns after findings, such as edema")
    _tell(sheet)
    _tell(truth)
    return pair(sheet, truth, unit)


def _tell(sheet: Sheet) -> None:
    """What was read, and as what."""
    own = [column for column in sheet.columns if not column.header.endswith(column.finding)]
    renamed = dict.fromkeys(f"'{column.header}' is {column.finding}" for column in own)
    count = len({column.finding for column in sheet.columns})
    of = "image" if sheet.of_images else "study"
    log.info(
        "%s: %s, %s%s",
        sheet.path,
        counted(count, "finding"),
        counted(len(sheet), of),
        f"; {', '.join(renamed)}" if renamed else "",
    )
    if sheet.unread:
        log.info("%s: no findings, not read: %s", sheet.path, ", ".join(sheet.unread))


def _left_out(test: Pairs, val: Pairs | None, unmatched: str) -> list[tuple[str, int, str]]:
    """File, row and reason of all rows that are not scored; InputError for any under `unmatched=error`."""
    every = [pairs for pairs in (test, val) if pairs is not None]
    alone = {id(pairs): pairs.lonely_rows for pairs in every}
    lost: list[tuple[str, int, str]] = []
    for pairs in every:
        others = [alone[id(other)] for other in every if other.labels.path == pairs.labels.path]
        # One file may hold the labels of both.
        lonely = [row for row in alone[id(pairs)] if all(row in other for other in others)]
        if unmatched == "error":
            check_matched(pairs, lonely)
        lost += [(pairs.scores.path.name, pairs.scores.rows[at], "scores without labels") for at in pairs.lonely_scores]
        lost += [(pairs.labels.path.name, row, "labels without scores") for row in lonely]
    return list(dict.fromkeys(lost))


def _write(
    draft: Path, request: Request, brought: Brought, tables: Mapping[str, ScoreTable], metrics: dict[str, Any],
    left_out: Sequence[tuple[str, int, str]],
) -> None:  # fmt: skip
    ids: list[list[Any]] = [["row", "corpus", "split", "study_id", "patient", "hash"]]
    for split, pairs in (("test", brought.test), ("val", brought.val)):
        if pairs is None:
            continue
        table = tables[split]
        table.write_csv(prediction_file(draft, table.key))
        source, at = (
            (pairs.labels, pairs.at_labels) if pairs.labels.patient is not None else (pairs.scores, pairs.at_scores)
        )
        patients = table.patient if source.patient is None else [source.patient[number] for number in at]
        rows = [pairs.labels.rows[number] for number in pairs.at_labels]
        for row, study, patient in zip(rows, table.study_id, patients, strict=True):
            hashed = privacy.pseudonym(table.corpus, study, brought.salt)
            ids.append([row, table.corpus, split, study, patient, hashed])
    privacy.write_private(draft / "private" / "ids.csv", ids)
    write_rows(draft / "label_mapping.csv", brought.mapping())
    if left_out:
        write_rows(draft / "left_out.csv", [["file", "row", "reason"], *left_out])
    write_json(draft / "environment.json", software())
    write_json(draft / "metrics.json", metrics)
    write_report(draft, place=request.out)
