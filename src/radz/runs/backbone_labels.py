"""Labels out of reports by a backbone's language model: `radz data label labeller=backbone`.

Per report and finding the model is asked whether the report has it. The log-odds of yes against no, less those of the
same question without a report, are the score: what the model says of every report alike is no reading (contrastive
decoding: Li et al. 2023, arXiv 2210.15097). A few reports labelled by hand make probabilities of the scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data_modules.corpora.csv_file import column, load
from data_modules.counting import counted
from data_modules.errors import InputError
from data_modules.findings import NO_FINDING, ontology
from data_modules.labelling.table import CODES, ReportTable
from data_modules.parsing import parse_json
from data_modules.privacy import private_file
from data_modules.progress import Bar
from data_modules.study import Text
from radz.backbones import Backbone
from radz.config.backbone import BackboneConfig
from radz.config.dfat import DfatConfig
from radz.config.vqa import VqaConfig
from radz.methods.vqa import FROZEN
from radz.methods.vqa_questions import Question, question, text_log_probabilities
from radz.metrics.calibration import Platt, fit
from radz.models import factory
from radz.models.labels import MODALITY_TEXT, finding_texts
from radz.training.environment import usable_device

ASKED = "According to this report, does the patient have {finding}? Answer yes or no."
GIVEN = "Report of a {modality}:\n{report}\n\n"
SURE = 2 / 3
"""A finding is present from this probability on, absent from its counterpart down, and in doubt between."""
FEW = 5
"""Examples of either class from which on a finding gets a fit of its own."""
SCORES = ("row", "finding", "state", "score", "probability")


@dataclass(frozen=True)
class Reader:
    """Asks a backbone (full depth) about K findings of reports."""

    backbone: Backbone
    findings: dict[str, str]
    """{name: as words}"""
    modality: str

    def questions(self, report: str) -> list[Question]:
        given = GIVEN.format(modality=MODALITY_TEXT[self.modality], report=report) if report else ""
        answers = [VqaConfig.yes, VqaConfig.no]
        texts = [given + ASKED.format(finding=words) for words in self.findings.values()]
        return [question(self.backbone, text, 0, answers) for text in texts]

    def log_odds(self, report: str) -> NDArray[np.float64]:
        """Of yes against no [K]; NaN for a report that is longer than the backbone's context. '': without one."""
        asked = self.questions(report.strip())
        if max(len((*one.asked, *answer)) for one in asked for answer in one.answers) > self.backbone.context:
            return np.full(len(asked), np.nan)
        answered = text_log_probabilities(self.backbone, asked)
        return np.asarray((answered[:, 0] - answered[:, 1]).cpu(), dtype=np.float64)

    def scores(self, reports: Text, kept: Path) -> NDArray[np.float64]:
        """What a report adds to the log-odds, [N, K]; NaN for one that is empty or too long.

        Args:
            kept: file of the answers, to which new ones are added; of the same weights and questions.
        """
        known, alone = _answers(kept), self.log_odds("")
        codes, distinct = pd.factorize(reports)
        found = np.full((len(distinct), len(self.findings)), np.nan)
        kept.parent.mkdir(parents=True, exist_ok=True)
        private_file(kept)
        with kept.open("a", encoding="utf-8") as file, Bar(total=len(distinct), desc="asked", unit="report") as bar:
            for place, report in enumerate(distinct):
                digest = hashlib.blake2b(report.strip().encode(), digest_size=16).hexdigest()
                if digest not in known and report.strip():
                    known[digest] = self.log_odds(report).tolist()
                    file.write(json.dumps([digest, known[digest]]) + "\n")
                    file.flush()
                found[place] = known.get(digest, np.nan)
                bar.update(1)
        return (found - alone)[codes]


def _answers(kept: Path) -> dict[str, list[float]]:
    """{digest of a report: its log-odds} of a file; a last line that a stopped call left unfinished is cut off."""
    content = kept.read_text(encoding="utf-8") if kept.is_file() else ""
    whole = content[: content.rfind("\n") + 1]
    if whole != content:
        kept.write_text(whole, encoding="utf-8")
    return dict(parse_json(line) for line in whole.splitlines())


def label_by_backbone(
    table: ReportTable, text: str, modality: str, backbone: BackboneConfig, examples: Path | None, cache_dir: Path,
    device: str | None = None,
) -> list[str]:  # fmt: skip
    """Label by a backbone, and write the table, with scores and probabilities of every cell beside it.

    No finding is asked about by the name of "no finding"; that column is left out.

    Args:
        text: the column of the reports, in `examples` too.
        device: such as cpu or cuda:1; None is the GPU where there is one.
        examples: a table of reports with columns of findings: 1, 0 (or blank: the report has it not), and -1, which is
            left out.

    Returns:
        What was found, as lines.

    Raises:
        InputError: a backbone or examples that cannot be read, or examples of one class only.
    """
    table = replace(table, names=[name for name in table.names if name != NO_FINDING])
    if not table.names:
        raise InputError(f"findings: {NO_FINDING} alone cannot be asked about; name findings, or use labeller=rules")
    shown = _examples(examples, text, table.names) if examples else None
    whole = replace(backbone, **FROZEN, depth="full")
    place = usable_device(device)
    where = "cpu" if torch.device(place).type == "cpu" else "gpu"
    encoder, digest = factory.encoder(whole, DfatConfig(), 0, str(cache_dir), where)
    reader = Reader(encoder.eval().to(place).backbone, finding_texts(ontology(), table.names), modality)
    how = json.dumps([digest, whole.quantize, whole.dtype, where, ASKED, GIVEN, modality, table.names])
    kept = cache_dir / "asked" / f"{hashlib.blake2b(how.encode(), digest_size=6).hexdigest()}.jsonl"
    fits = [Platt(1.0, 0.0)] * len(table.names)
    if shown is not None:
        fits = fitted(reader.scores(shown[0], kept), shown[1], table.names)
    scores = reader.scores(table.reports, kept)
    sure = np.stack([one(scores[:, k]) for k, one in enumerate(fits)], axis=1)
    states = np.select([np.isnan(sure), sure >= SURE, sure <= 1 - SURE], ["", "present", "absent"], "uncertain")
    cells = np.array([[CODES.get(state, "") for state in row] for row in states]).reshape(states.shape)
    rows = (
        [row, name, states[i, k], f"{scores[i, k]:.5f}", f"{sure[i, k]:.5f}"]
        for i, row in enumerate(table.frame.index) for k, name in enumerate(table.names) if states[i, k]
    )  # fmt: skip
    table.write(cells, SCORES, rows)
    return _told(table, states, fits if examples else None)


def fitted(scores: NDArray[np.float64], labels: NDArray[np.float64], names: Sequence[str]) -> list[Platt]:
    """A fit for each of K findings, of its own where FEW examples of either class are there, else of all together.

    Args:
        scores: [N, K]; labels: [N, K], 1, 0 or NaN.

    Raises:
        InputError: all examples together are of one class.
    """
    known = np.where(np.isnan(scores), np.nan, labels)
    try:
        together = fit(known.ravel(), np.nan_to_num(scores).ravel())
    except ValueError:
        raise InputError(
            "examples: no report has any of the findings, or every report all; label some that have one"
        ) from None
    found = []
    for k in range(len(names)):
        enough = min((known[:, k] == 1).sum(), (known[:, k] == 0).sum()) >= FEW
        found.append(fit(known[:, k], np.nan_to_num(scores[:, k])) if enough else together)
    return found


def _examples(path: Path, text: str, names: Sequence[str]) -> tuple[Text, NDArray[np.float64]]:
    """Reports [N] and labels [N, K] of a table; a finding without a column has none."""
    frame = load(path, "examples")
    reports = column(frame, text, path, "text")
    labels = np.full((len(frame), len(names)), np.nan)
    codes = {"1": 1.0, "0": 0.0, "": 0.0, "-1": np.nan}
    there = [name for name in names if name in frame.columns]
    if not there:
        raise InputError(f"examples: {path} has no column of a finding that is asked about, such as {names[0]}")
    for name in there:
        cells = [str(cell).strip().removesuffix(".0") for cell in frame[name].fillna("")]
        for row, cell in zip(frame.index, cells, strict=True):
            if cell not in codes:
                raise InputError(f"examples: {path}, row {row}, column {name}: must be 1, 0, -1 or blank")
        labels[:, names.index(name)] = [codes[cell] for cell in cells]
    return reports, labels


def _told(table: ReportTable, states: NDArray[np.str_], fits: Sequence[Platt] | None) -> list[str]:
    """Counts per finding, and what could not be read."""
    kinds = ("present", "uncertain", "absent")
    seen = pd.DataFrame({kind: (states == kind).sum(axis=0) for kind in kinds}, index=table.names)
    lines = [f"{counted(len(states), 'report')}, {counted(len(table.names), 'finding')} asked about", seen.to_string()]
    if blank := int((states == "").all(axis=1).sum()):
        lines.append(f"{blank} report(s) are empty, or longer than the backbone's context; no label is read from them")
    if fits is None:
        lines.append("without examples=FILE the probabilities are those of the model, which are seldom right")
    elif falling := [name for name, one in zip(table.names, fits, strict=True) if one.slope <= 0]:
        lines.append(f"by the examples a higher score speaks against {', '.join(falling)}: do not use those columns")
    return [*lines, f"labels: {table.out}", f"scores: {table.beside}"]
