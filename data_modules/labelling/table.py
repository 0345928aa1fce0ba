"""`radz data label`: a table with reports in; the same with a column per finding out, and the proofs beside it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.copied_text import garbled
from data_modules.corpora.csv_file import column, load
from data_modules.counting import counted
from data_modules.errors import InputError, nearest
from data_modules.files import check_file
from data_modules.findings import ontology
from data_modules.labelling.labeller import Labeller
from data_modules.labelling.many import Labels, counts, label_many
from data_modules.labelling.rules import readable
from data_modules.privacy import write_private_rows
from data_modules.reports import MOST, UNTOLD, clean, told
from data_modules.study import Text

CODES = {"present": "1", "absent": "0", "uncertain": "-1"}
"""CheXpert's coding; a finding that is not mentioned is blank"""
PROOF = ("row", "finding", "state", "section", "sentence", "words", "rule")
MODALITIES = ("chest_xray", "chest_ct")


@dataclass(frozen=True)
class ReportTable:
    """A table with reports that is to get a column per finding, and a second file beside it."""

    frame: pd.DataFrame
    reports: Text
    names: list[str]
    """the findings"""
    out: Path
    beside: Path
    """for their owner alone, as `out` is"""

    def write(self, cells: NDArray[np.str_], head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """`out` with the cells [N, findings], and `beside` with its head and rows."""
        labelled = pd.concat([self.frame, pd.DataFrame(cells, index=self.frame.index, columns=self.names)], axis=1)
        write_private_rows(self.out, [list(labelled.columns), *labelled.to_numpy().tolist()])
        write_private_rows(self.beside, itertools.chain([head], rows))


def read_reports(
    source: Path, text: str, out: Path, beside: str, modality: str, findings: Sequence[str] = ()
) -> ReportTable:
    """The table of reports, and what is to be written: `out`, and OUT_`beside`.csv.

    Args:
        text: the column of the reports.
        findings: which columns are written; by default all findings of the ontology.

    Raises:
        InputError: no such file, column, modality or finding, or a column of `out` that the table has already.
    """
    if modality not in MODALITIES:
        raise InputError(f"modality: '{modality}' is not one of {', '.join(MODALITIES)}{nearest(modality, MODALITIES)}")
    names, second = _chosen(findings), out.with_name(f"{out.stem}_{beside}.csv")
    if source.resolve() in (out.resolve(), second.resolve()):
        raise InputError(f"out: {out} would replace the table that is read; give another file")
    check_file(second)
    frame = load(source, "csv")
    reports = column(frame, text, source, "text")
    if taken := [name for name in names if name in frame.columns]:
        raise InputError(f"{source}: has a column '{taken[0]}' already; rename it, or choose with findings=")
    return ReportTable(frame, reports, names, out, second)


def label_table(table: ReportTable, modality: str = "chest_xray", processes: int | None = None) -> list[str]:
    """Label by rules, and write the table, with the sentence and the words behind every cell beside it.

    Args:
        processes: as of `label_many`.

    Returns:
        What was found, as lines.
    """
    names, labels = table.names, label_many(table.reports, modality, processes=processes)
    cells = np.array([[CODES.get(one[name].state, "") if name in one else "" for name in names] for one in labels])
    rows = (
        [row, name, *_proof(one[name])]
        for row, one in zip(table.frame.index, labels, strict=True) for name in names if name in one
    )  # fmt: skip
    table.write(cells, PROOF, rows)
    return _told(table, labels, modality)


def _chosen(findings: Sequence[str]) -> list[str]:
    known = readable(ontology())
    for name in findings:
        if name not in known:
            raise InputError(f"findings: '{name}' is no finding{nearest(name, known.names)}")
    return list(dict.fromkeys(known[name].name for name in findings)) or list(known.names)


def _proof(proof: Any) -> list[str]:
    return [proof.state, proof.section, proof.sentence, proof.words, proof.rule]


def _told(table: ReportTable, labels: Sequence[Labels], modality: str) -> list[str]:
    """Counts per finding, and what could not be read."""
    names, reports = table.names, table.reports
    seen = counts(labels, names)
    spoken = seen[seen["unmentioned"] < len(labels)]
    lines = [
        f"{counted(len(labels), 'report')}, {len(spoken)} of {counted(len(names), 'finding')} are spoken of",
        spoken.to_string(),
    ]
    labeller = Labeller(modality)
    kinds = Counter(_kind(report, labeller) for report, one in zip(reports, labels, strict=True) if not one)
    lines += [f"{number} report(s) {what}; no label is read from them" for what, number in kinds.items()]
    if long := sum(len(report) > MOST for report in reports):
        lines.append(f"{long} report(s) are longer than {MOST} signs; what comes behind is not read")
    if wrong := sum(map(garbled, reports)):
        lines.append(f"{wrong} report(s) with UTF-8 that was read as another encoding; mended where that is sure")
    proofs = f"proofs: {table.beside} (holds sentences of reports; readable by you alone)"
    return [*lines, f"labels: {table.out}", proofs]


def _kind(report: str, labeller: Labeller) -> str:
    if not clean(report):
        return "are empty"
    if not told(report):
        return UNTOLD
    return "name no finding" if labeller.language(report) else "are in no language that has rules"
