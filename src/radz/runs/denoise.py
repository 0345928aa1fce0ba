"""`radz data denoise`: the cells of a run's labels that its features, or the reports beside them, speak against."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_modules import privacy
from data_modules.batch import StudyBatch
from data_modules.counting import counted
from data_modules.datamodule import StudyDataModule
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
from radz.runs.exemplars import Asker, Exemplars
from radz.training.trainer import lone_trainer

BACKBONE = "the backbone, shown one study with it and one without, says"


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
    asked: float
    """log-odds of present by the backbone, 0 as of an average study; NaN where it was not asked"""
    reason: str


def denoise(run: Path, out: Path, accelerator: str | None = None, ask: int = 0) -> list[str]:
    """Rank the doubtful cells of a run's training and validation labels into `out`; the labels stay as they are.

    Args:
        ask: so many of the most suspicious cells are put to the run's backbone, see `exemplars`.

    Returns:
        What was found, as lines.

    Raises:
        InputError: a run without a text side, without a sure label in training and validation, or, with `ask`, of a
            backbone whose context does not hold three images.
    """
    whole: dict[str, Any] = {"depth": "full"} if ask else {}
    experiment, model = load_trained(run, accelerator=accelerator, **whole)
    data = task.data_module(experiment)
    data.prepare_data()
    where = experiment.trainer.accelerator
    asker = Asker(model.encoder.backbone, data, experiment.vqa, ask, where) if ask else None
    rows = np.sort(np.concatenate([data.table.rows(split) for split in ("train", "val")]))
    features = StudyFeatures(model.encoder, "both").eval()
    modalities = [corpus.modality for corpus in experiment.data.corpora]

    def compute(batch: StudyBatch) -> Tensor:
        return features(batch.pixels, batch.image_counts, modalities_of(batch, modalities))

    rows, found = run_rows(lone_trainer(where), Collector(features, compute), data, rows)
    suspects = ranked(data, rows, found["features"], asker)
    if not suspects:
        raise InputError(f"{run}: no label of training and validation is present or absent; there is none to doubt")
    out.parent.mkdir(exist_ok=True)
    with replacing(out) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Suspect)] + [ACCEPTED])
        writer.writerows([*_shown(suspect), ""] for suspect in suspects)
    off = sum(suspect.reason != "" for suspect in suspects)
    answers = [suspect for suspect in suspects if not np.isnan(suspect.asked)]
    against = sum(BACKBONE in suspect.reason for suspect in answers)
    return [
        f"{counted(len(suspects), 'cell')} of {counted(len(rows), 'study')} looked at, {off} with a reason to doubt "
        "them",
        *([f"the backbone was asked about {len(answers)} and contradicts {against}"] if ask else []),
        f"written: {out}; fill in {ACCEPTED} (1, 0, -1) where a person agrees, then data.labels_reviewed={out}",
    ]


def ranked(
    data: StudyDataModule, rows: NDArray[np.int64], features: NDArray[np.float32], asker: Asker | None = None
) -> list[Suspect]:
    """The sure cells of table rows [N] with features [N, P], most suspicious first, of which the asker asks some."""
    table, salt = data.table, privacy.salt(data.cache_dir)
    states = table.states[rows]
    labels = np.where(states == PRESENT, 1.0, np.where(states == ABSENT, 0.0, np.nan))
    probabilities = out_of_fold(features, labels, [table.people[row] for row in rows])
    doubts, off = suspicion(probabilities, labels)
    told = _reports(data, rows)
    trust = np.where(off, np.nan, np.where(labels == 1, probabilities, 1 - probabilities))
    found = {}
    for i, k in np.argwhere(~np.isnan(labels)):
        row, finding = rows[i], table.findings[k]
        name = table.corpora[table.corpus[row]]
        label, report = STATE_NAMES[states[i, k]], told[i].get(finding, "")
        other = "absent" if label == "present" else "present"
        reasons = [f"the features are rather those of {other}"] if off[i, k] else []
        if report == other:
            reasons.append(f"the report says {other}")
            trust[i, k] = np.nan
        found[int(i), int(k)] = Suspect(
            name, int(table.source_rows[row]), privacy.pseudonym(name, str(table.study_id[row]), salt),
            str(table.split[row]), finding, label, other if reasons else label, float(probabilities[i, k]),
            float(doubts[i, k]), report, np.nan, "; ".join(reasons),
        )  # fmt: skip
    if asker is not None:
        places = sorted(found, key=lambda place: _order(found[place]))
        for place, odds in asker.log_odds(places, Exemplars(table, rows, labels, trust)).items():
            found[place] = _answered(found[place], odds)
    return sorted(found.values(), key=_order)


def _answered(suspect: Suspect, odds: float) -> Suspect:
    """With what the backbone says, as a reason where it contradicts the label."""
    says = "present" if odds > 0 else "absent"
    if odds == 0 or says == suspect.label:
        return replace(suspect, asked=odds)
    reasons = [*([suspect.reason] if suspect.reason else []), f"{BACKBONE} {says}"]
    return replace(suspect, asked=odds, suggested=says, reason="; ".join(reasons))


def _order(suspect: Suspect) -> tuple[bool, bool, int, float]:
    """The report against the label comes first, then the backbone, then more reasons, then suspicion."""
    contradicted = suspect.report in ("present", "absent") and suspect.report != suspect.label
    doubt = -np.inf if np.isnan(suspect.suspicion) else suspect.suspicion
    return (not contradicted, BACKBONE not in suspect.reason, -suspect.reason.count(";"), -doubt)


def _reports(data: StudyDataModule, rows: NDArray[np.int64]) -> list[dict[str, str]]:
    """{finding: state} of each report; nothing for corpora whose labels come from it."""
    found: list[dict[str, str]] = [{} for _ in rows]
    for number, corpus in enumerate(data.config.corpora):
        here = np.flatnonzero(data.table.corpus[rows] == number)
        if corpus.reads_reports or not len(here):
            continue
        texts = np.array([data.table.told[row] for row in rows[here]], dtype=object)
        for i, one in zip(here, label_many(texts, corpus.modality, corpus.findings), strict=True):
            found[i] = {finding: proof.state for finding, proof in one.items()}
    return found


def _shown(suspect: Suspect) -> list[object]:
    values = [round(value, 4) if isinstance(value, float) else value for value in astuple(suspect)]
    return ["" if isinstance(value, float) and np.isnan(value) else value for value in values]
