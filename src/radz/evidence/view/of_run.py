"""The worklist of a finished run: the scores that it keeps of a split, and the files of its corpora."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_modules import privacy
from data_modules.datamodule import StudyDataModule
from data_modules.decode import Recipe
from data_modules.errors import InputError
from data_modules.files import check_there
from data_modules.labelling.labeller import Labeller
from radz.config.files import load_experiment
from radz.evidence.view.worklist import File, Listed, Worklist
from radz.methods.export_folder import is_export
from radz.metrics.headline import chosen
from radz.metrics.results_file import read_results
from radz.metrics.score_table import ScoreTable, prediction_file
from radz.runs.task import data_module

log = logging.getLogger(__name__)


def trained_folder(folder: Path) -> Path:
    """The folder of the training behind a run folder, or behind one of its evaluations (RUN/eval/NAME)."""
    return folder.parent.parent if folder.parent.name == "eval" else folder


def worklist_of_run(folder: Path, split: str, overrides: Sequence[str]) -> tuple[Worklist, dict[str, Labeller]]:
    """The studies of a split that the run has scored, and a labeller for each corpus.

    Studies are named by their salted hashes. A study of the split without scores, whose image could not be read when
    the run was scored or that came later, is listed as such.

    Args:
        overrides: of `data` and `cache_dir`, where they lie elsewhere now.

    Raises:
        InputError: no finished run, its corpora are not at hand, or no predictions of that split.
    """
    check_there(folder)
    if is_export(folder):
        raise InputError(f"input: {folder} is an export, which holds no studies; give input=FOLDER")
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: not a run folder (no config.yaml); give the folder that radz train printed")
    results = read_results(folder)["results"]
    experiment = load_experiment(str(folder / "config.yaml"), list(overrides))
    headline = chosen(experiment.scoring.headline, folder)
    # The files are read as they are looked at: no pixel cache is filled, and one that cannot be read ends nothing.
    data = data_module(experiment, sample=0)
    data.prepare_data()
    tables = [_table(folder, corpus, split, data) for corpus in data.table.corpora]
    found = [table for table in tables if table is not None]
    if not found:
        raise InputError(f"split: the run has no predictions of {split} in {folder / 'predictions'}; see docs/runs.md")
    thresholds, seen = _noted(results, headline)
    listed = _Lists(data, headline)
    for table in found:
        listed.add(table, split)
    worklist = Worklist(
        experiment.name, f"{split} split of {' and '.join(table.corpus for table in found)}", headline,
        found[0].findings, listed.studies, Recipe.of(experiment.data), np.array(listed.scores, dtype=np.float32),
        np.array(listed.labels, dtype=np.float32), thresholds, seen, list(range(len(listed.studies))),
    )  # fmt: skip
    labellers = {
        name: Labeller(corpus.modality, data.ontology, corpus.terms, f"{name}.terms")
        for name, corpus in zip(data.table.corpora, data.config.corpora, strict=True)
    }
    return worklist, labellers


def _table(folder: Path, corpus: str, split: str, data: StudyDataModule) -> ScoreTable | None:
    file = prediction_file(folder, f"{corpus}/{split}")
    if file.is_file():
        return ScoreTable.read_csv(file, corpus, split)
    if len(data.table.rows(split, corpus)):
        log.warning("view: %s has studies in %s and no predictions; they are left out", corpus, split)
    return None


def _noted(results: dict[str, Any], headline: str) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Thresholds by corpus that the results were made with, and what training knew of each finding."""
    thresholds: dict[str, dict[str, float]] = {}
    seen: dict[str, str] = {}
    for key, entry in results.items():
        by_validation = entry.get("thresholds", {}).get("validation", {})
        thresholds[key.rpartition("/")[0]] = dict(by_validation.get(headline, {}))
        if headline not in entry["scorers"]:
            log.warning("view: metrics.json has no results of scorer %s on %s; it is shown without", headline, key)
        findings = entry["scorers"].get(headline, {}).get("findings", {})
        seen |= {name: of["seen"] for name, of in findings.items() if "seen" in of}
    return thresholds, seen


class _Lists:
    """The studies of all tables, one after the other."""

    def __init__(self, data: StudyDataModule, headline: str) -> None:
        self.data, self.headline, self.salt = data, headline, privacy.salt(data.cache_dir)
        self.studies: list[Listed] = []
        self.scores: list[Any] = []
        self.labels: list[Any] = []

    def add(self, table: ScoreTable, split: str) -> None:
        """Those of a score table, and behind them those of its corpus that it lacks."""
        if self.headline not in table.scores:
            raise InputError(f"{table.key}: its predictions have no scorer {self.headline}; score the run again")
        rows = {self._key(row): row for row in self.data.table.rows(split, table.corpus).tolist()}
        for place, key in enumerate(zip(table.study_id, table.image_id, strict=True)):
            self._append(table, rows.pop(key, None), key, table.scores[self.headline][place], table.labels[place])
        none = np.full(len(table.findings), np.nan)
        for key, row in rows.items():
            self._append(table, row, key, none, none)
            self.studies[-1].error = "has no scores: it could not be read when the run was scored, or came later"

    def _key(self, row: int) -> tuple[str, str]:
        """Study and image as the prediction file names them."""
        table = self.data.table
        corpus = table.corpora[table.corpus[row]]
        image = table.image_ids[table.image_offsets[row]] if self.data.unit == "image" else ""
        return str(table.study_id[row]), privacy.pseudonym(corpus, image, self.salt) if image else ""

    def _append(self, of: ScoreTable, row: int | None, key: tuple[str, str], scores: Any, labels: Any) -> None:
        self.scores.append(scores)
        self.labels.append(labels)
        name = key[1] or privacy.pseudonym(of.corpus, key[0], self.salt)
        if row is None:
            error = "is not in the corpus any more, or in another split"
            modality = self.data.modalities[self.data.table.corpora.index(of.corpus)]
            self.studies.append(Listed(name, of.corpus, modality, (), error=error))
            return
        table = self.data.table
        start, end = table.image_offsets[row], table.image_offsets[row + 1]
        where = table.named([row], self.salt)[0]
        files = tuple(
            File(Path(table.image_paths[i]), where, None if np.isnan(slope) else (float(slope), float(intercept)))
            for i, (slope, intercept) in zip(range(start, end), table.rescale[start:end], strict=True)
        )
        self.studies.append(Listed(name, of.corpus, str(table.modality[row]), files, table.told[row]))
