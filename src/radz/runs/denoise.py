"""`radz data denoise`: the cells of a run's labels that its features, or the reports beside them, speak against."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_modules import privacy
from data_modules.base import StudyDataModule
from data_modules.batch import StudyBatch
from data_modules.errors import InputError
from data_modules.files import replacing
from data_modules.findings import ABSENT, PRESENT, STATE_NAMES
from data_modules.labelling.many import label_many
from data_modules.labelling.reviewed import ACCEPTED
from radz.methods.base import modalities_of, run_rows
from radz.methods.study_features import Collector, StudyFeatures
from radz.methods.trained import load_trained
from radz.metrics.noisy_labels import out_of_fold, suspicion
from radz.runs import task
from radz.training.trainer import lone_trainer


@dataclass(frozen=True)
class Suspect:
    """One cell, most suspicious first; the names are those of the columns."""

    corpus: str
    row: int
    study: str
    """salted hash"""
    split: str
    finding: str
    label: str
    suggested: str
    probability: float
    """of present, by a regression on the run's features that did not see the patient"""
    suspicion: float
    report: str
    """what the report says by the rules of docs/labels.md, where it speaks of the finding"""
    reason: str


def denoise(run: Path, out: Path, accelerator: str | None = None) -> list[str]:
    """Rank the doubtful cells of a run's training and validation labels into `out`; the labels stay as they are.

    Returns:
        What was found, as lines.

    Raises:
        InputError: a run without a text side, or without a sure label in training and validation.
    """
    experiment, model = load_trained(run, accelerator=accelerator)
    data = task.data_module(experiment)
    data.prepare_data()
    rows = np.sort(np.concatenate([data.table.rows(split) for split in ("train", "val")]))
    features = StudyFeatures(model.encoder, "both").eval()
    modalities = [corpus.modality for corpus in experiment.data.corpora]

    def compute(batch: StudyBatch) -> Tensor:
        return features(batch.pixels, batch.image_counts, modalities_of(batch, modalities))

    trainer = lone_trainer(experiment.trainer.accelerator)
    rows, found = run_rows(trainer, Collector(features, compute), data, rows)
    suspects = ranked(data, rows, found["features"])
    if not suspects:
        raise InputError(f"{run}: no label of training and validation is present or absent; there is none to doubt")
    out.parent.mkdir(exist_ok=True)
    with replacing(out) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Suspect)] + [ACCEPTED])
        writer.writerows([*_shown(suspect), ""] for suspect in suspects)
    off = sum(suspect.reason != "" for suspect in suspects)
    return [
        f"{len(suspects)} cells of {len(rows)} studies looked at, {off} with a reason to doubt them",
        f"written: {out}; fill in {ACCEPTED} (1, 0, -1) where a person agrees, then data.labels_reviewed={out}",
    ]


def ranked(data: StudyDataModule, rows: NDArray[np.int64], features: NDArray[np.float32]) -> list[Suspect]:
    """The sure cells of table rows [N] with features [N, P]: those with a reason first, then by suspicion."""
    table, salt = data.table, privacy.salt(data.cache_dir)
    states = table.states[rows]
    labels = np.where(states == PRESENT, 1.0, np.where(states == ABSENT, 0.0, np.nan))
    probabilities = out_of_fold(features, labels, [table.people[row] for row in rows])
    doubts, off = suspicion(probabilities, labels)
    told = _reports(data, rows)
    found = []
    for i, k in np.argwhere(~np.isnan(labels)):
        row, finding = rows[i], table.findings[k]
        name = table.corpora[table.corpus[row]]
        label, report = STATE_NAMES[states[i, k]], told[i].get(finding, "")
        other = "absent" if label == "present" else "present"
        reasons = [f"the features are rather those of {other}"] if off[i, k] else []
        reasons += [f"the report says {other}"] if report == other else []
        found.append(
            Suspect(
                name, int(table.source_rows[row]), privacy.pseudonym(name, str(table.study_id[row]), salt),
                str(table.split[row]), finding, label, other if reasons else label, float(probabilities[i, k]),
                float(doubts[i, k]), report, "; ".join(reasons),
            )
        )  # fmt: skip
    return sorted(found, key=_order)


def _order(suspect: Suspect) -> tuple[bool, int, float]:
    contradicted = suspect.report in ("present", "absent") and suspect.report != suspect.label
    doubt = -np.inf if np.isnan(suspect.suspicion) else suspect.suspicion
    return (not contradicted, -suspect.reason.count(";"), -doubt)


def _reports(data: StudyDataModule, rows: NDArray[np.int64]) -> list[dict[str, str]]:
    """{finding: state} of each report; nothing for corpora whose labels come from it."""
    found: list[dict[str, str]] = [{} for _ in rows]
    for number, corpus in enumerate(data.config.corpora):
        here = np.flatnonzero(data.table.corpus[rows] == number)
        if corpus.reads_reports or not len(here):
            continue
        texts = np.array([data.table.reports[row] for row in rows[here]], dtype=object)
        for i, one in zip(here, label_many(texts, corpus.modality, corpus.findings), strict=True):
            found[i] = {finding: proof.state for finding, proof in one.items()}
    return found


def _shown(suspect: Suspect) -> list[object]:
    values = [round(value, 4) if isinstance(value, float) else value for value in astuple(suspect)]
    return ["" if isinstance(value, float) and np.isnan(value) else value for value in values]
