"""The reader of a user's own CSV: one row per image, columns and labels as the experiment says."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules import reports
from data_modules.corpora.csv_file import column, load, split_words
from data_modules.corpora.labels import OUTSIDE, states_of
from data_modules.corpus_config import SPLITS, CorpusConfig, SplitFractions
from data_modules.errors import InputError, MissingCorpus, nearest
from data_modules.findings import Ontology
from data_modules.privacy import pseudonym
from data_modules.study import Coverage, StudyTable, Text, offsets
from data_modules.table_store import watched

log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]


def read(config: CorpusConfig, ontology: Ontology, salt: bytes, key: str = "data.corpora.0") -> StudyTable:
    """Return the studies of one corpus. `key` is where the corpus stands in the experiment, for error texts.

    InputError names file, row and key; identifiers appear only as salted hashes (`salt`).
    """
    config.check(key)
    ontology = ontology.extended(config.findings, f"{key}.findings", config.reader)
    if not config.root:
        raise MissingCorpus(f"{key}.root is not set: give {key}.root=FOLDER, where {config.csv or 'the table'} lies")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise MissingCorpus(f"{key}.root={config.root}: there is no such folder; give {key}.root=FOLDER")
    if not config.csv:
        raise InputError(f"{key}.csv is not set: name the table, relative to {key}.root")
    name = config.name or root.resolve().name
    return read_frame(config, load(root / config.csv, f"{key}.csv"), root / config.csv, name, ontology, salt, key)


def read_frame(
    config: CorpusConfig, frame: pd.DataFrame, path: Path, name: str, ontology: Ontology, salt: bytes, key: str
) -> StudyTable:
    """Return the studies of a table at hand, one row per image: what every official layout comes down to.

    Args:
        config: its `root` is set; `columns`, `labels` and `keep` speak of the columns of `frame`.
        frame: stripped strings; the index holds the row numbers of `path`, which error texts name. A column `source`
            names the file of each row where they come from several.
        ontology: with the corpus' own findings, if it has any.
    """
    assert config.root is not None
    return _Source(config, key, salt, name, Path(config.root).expanduser(), path, frame).studies(ontology)


@dataclass
class _Source:
    """One table being read: `alive` [R] marks the rows that still stand."""

    config: CorpusConfig
    key: str
    salt: bytes
    name: str
    root: Path
    path: Path
    frame: pd.DataFrame
    coverage: Coverage = field(default_factory=Coverage)

    def __post_init__(self) -> None:
        if self.frame.empty:
            raise InputError(f"{self.path}: has a header but no rows")
        self.rows = self.frame.index.to_numpy()
        self.images = self.column(self.config.columns.image, "columns.image")
        self.alive: Mask = np.ones(len(self.frame), dtype=bool)

    def column(self, name: str, key: str) -> Text:
        return column(self.frame, name, self.path, f"{self.key}.{key}")

    def optional(self, which: str) -> Text:
        name = getattr(self.config.columns, which)
        return np.full(len(self.frame), "", dtype=object) if name is None else self.column(name, f"columns.{which}")

    def quoted(self, cell: str, column: str) -> str:
        """A cell as error texts may show it: short, on one line, never of a column that tells who the patient is."""
        columns = self.config.columns
        if column in (columns.image, columns.patient, columns.study, columns.report):
            return "a value that is not shown"
        return repr(cell[:30])

    def where(self, i: int | np.integer[Any]) -> str:
        file = self.frame["source"].iloc[i] if "source" in self.frame else self.path
        return f"{file} row {self.rows[i]} (image {pseudonym(self.name, self.images[i], self.salt)})"

    def fault(self, mask: Mask, policy: str, reason: str, detail: str = "") -> None:
        """Apply a policy of `bad` to the standing rows of `mask`."""
        found = np.flatnonzero(mask & self.alive)
        word = getattr(self.config.bad, policy)
        if len(found) and word == "error":
            raise InputError(
                f"{self.where(found[0])}: {reason}{detail} ({len(found)} such row(s)); "
                f"correct the table or set {self.key}.bad.{policy}=skip"
            )
        record = self.coverage.count if word == "keep" else self.coverage.skip
        for i in found:
            record(reason, self.rows[i], self.name)
        if word == "skip":
            self.alive[found] = False

    def studies(self, ontology: Ontology) -> StudyTable:
        """Read all columns, leave out what the filter and the policies say, and group rows into studies."""
        findings, states = self.labels(ontology)  # columns are checked before any row is judged
        columns = {which: self.optional(which) for which in ("view", "sex", "age")}
        rescale = self.rescale()
        ids = self.images if self.config.columns.study is None else self.optional("study")
        patients = self.patients(ids)
        texts = self.reports()
        splits = self.splits(patients)
        self.keep()
        self.fault(splits == "", "on_split_orphan", "no split is given for this row")
        paths = self.image_paths()
        for k, finding in enumerate(findings):
            rule = self.config.labels[finding]
            bad = states[:, k] == OUTSIDE
            value = self.column(rule.column, "labels")[bad & self.alive]
            shown = f": {self.quoted(value[0], rule.column)} in column '{rule.column}'" if len(value) else ""
            reason = f"value outside the coding of {self.key}.labels.{finding}"
            self.fault(bad, "on_bad_label", reason, shown)
        if self.config.columns.report is not None:
            self.fault(texts == "", "on_empty_report", "empty report")
        for which, values in (("study", ids), ("patient", patients)):
            for i in np.flatnonzero((values == "") & self.alive)[:1]:
                raise InputError(f"{self.where(i)}: the {which} column is empty; fill it in or remove the row")
        if not self.alive.any():
            raise InputError(f"{self.path}: no row is left; {self.coverage.to_dict()['skipped']} were skipped")
        canonical = tuple(ontology[finding].name for finding in findings)
        return self.grouped(ids, patients, splits, texts, canonical, states, paths, columns, rescale)

    def rescale(self) -> NDArray[np.float64]:
        """Return [R, 2], slope and intercept of every row's volume; NaN where the file's own hold."""
        found = np.full((len(self.frame), 2), np.nan)
        given = [name for name in ("slope", "intercept") if getattr(self.config.columns, name) is not None]
        if len(given) == 1:
            raise InputError(f"{self.key}.columns.{given[0]}: needs its partner; slope and intercept go together")
        for k, which in enumerate(given):
            cells = self.optional(which)
            for i, cell in enumerate(cells):
                try:
                    found[i, k] = float(cell) if cell else np.nan
                    sound = not cell or np.isfinite(found[i, k])
                except ValueError:
                    sound = False
                if not sound:
                    raise InputError(f"{self.where(i)}: column '{getattr(self.config.columns, which)}' is no number")
        for i in np.flatnonzero(np.isnan(found).sum(axis=1) == 1)[:1]:
            raise InputError(f"{self.where(i)}: gives one of slope and intercept; give both or neither")
        return found

    def reports(self) -> Text:
        """Return the wanted sections of every row's report; a report that several rows share is read once."""
        codes, distinct = pd.factorize(self.optional("report"))
        read = [reports.select(cell, self.config.report_sections) for cell in distinct]
        return np.array(read, dtype=object)[codes]

    def labels(self, ontology: Ontology) -> tuple[list[str], NDArray[np.int8]]:
        """Names as typed, and int8 [R, K] states (or OUTSIDE); InputError for an unknown finding or one named twice."""
        names = list(self.config.labels)
        for section, typed in (("labels", names), ("policy.per_finding", list(self.config.policy.per_finding))):
            for name in typed:
                if name not in ontology:
                    hint = nearest(name, ontology.names)
                    raise InputError(
                        f"{self.key}.{section}.{name}: unknown finding{hint}; new ones go under {self.key}.findings"
                    )
        for finding, times in Counter(ontology[name].name for name in names).items():
            if times > 1:
                raise InputError(f"{self.key}.labels: {times} entries are the same finding, {finding}; keep one")
        states = np.empty((len(self.frame), len(names)), dtype=np.int8)
        for k, name in enumerate(names):
            rule = self.config.labels[name]
            states[:, k] = states_of(rule, self.column(rule.column, f"labels.{name}.column"))
        return names, states

    def patients(self, ids: Text) -> Text:
        if self.config.columns.patient is not None:
            return self.optional("patient")
        if self.config.split_csv is None and self.config.columns.split is None:
            raise InputError(
                f"{self.key}.columns.patient is not set: name the patient column, so that no patient falls into two "
                f"splits, or give {self.key}.split_csv or {self.key}.columns.split"
            )
        log.warning("%s: no patient column, every study counts as a patient of its own", self.name)
        return ids

    def splits(self, patients: Text) -> Text:
        """Return the split of every row, '' where split_csv has none; judged on all rows, before the filter."""
        if self.config.columns.split is not None:
            return split_words(self.frame, self.config.columns.split, self.path, f"{self.key}.columns.split")
        file = self.config.split_csv
        if file is None:
            chosen = split_patients(patients, self.config.split_fractions, self.config.split_seed)
            return np.array([chosen[patient] for patient in patients], dtype=object)
        path = self.root / file.file
        table = load(path, f"{self.key}.split_csv.file")
        keys = column(table, file.key, path, f"{self.key}.split_csv.key")
        words = split_words(table, file.split, path, f"{self.key}.split_csv.split")
        own = self.column(file.key, "split_csv.key")
        known, chosen = set(own), {}
        for row, value, word in zip(table.index, keys, words, strict=True):
            what = f"{path} row {row} ({file.key} {pseudonym(self.name, value, self.salt)})"
            if chosen.setdefault(value, word) != word:
                raise InputError(f"{what}: is {word} here and {chosen[value]} in an earlier row; keep one")
            if value not in known:
                if self.config.bad.on_split_orphan == "error":
                    raise InputError(
                        f"{what}: {self.path.name} has no such row; correct one of the two or set "
                        f"{self.key}.bad.on_split_orphan=skip"
                    )
                self.coverage.skip(f"row of {path.name} without its study", row, self.name)
        return np.array([chosen.get(value, "") for value in own], dtype=object)

    def keep(self) -> None:
        """Apply the row filter; InputError when nothing is left tells what each part removed."""
        told = []
        for name, wanted in self.config.keep.items():
            cells = self.column(name, f"keep.{name}")
            before = int(self.alive.sum())
            self.alive &= np.isin(cells.astype(str), [str(value).strip() for value in wanted])
            removed = before - int(self.alive.sum())
            self.coverage.filtered[f"{self.name}: keep.{name}"] = removed
            values = sorted(set(cells))  # many distinct values may be identifiers: not shown
            shown = dict.fromkeys(self.quoted(value, name) for value in values)
            holds = ", ".join(shown) if len(values) <= 20 else "many values"
            told.append(f"{name} removed {removed} of {before} rows (it holds {holds})")
        if not self.alive.any():
            raise InputError(f"{self.path}: {self.key}.keep leaves no row: {'; '.join(told)}")

    def image_paths(self) -> list[str]:
        """Return the path of every row; a path that leaves root stops the run, a missing file follows its policy."""
        base = os.path.join(self.root, self.config.image_folder).rstrip(os.sep) or os.sep
        root = os.path.realpath(self.root)
        known = {base: os.path.realpath(base)}

        def real(folder: str) -> str:
            """Its realpath, at the price of one look per folder: realpath itself looks at every part, every time."""
            if folder not in known:
                parent, name = os.path.split(folder)
                place = os.path.join(real(parent), name) if name not in ("", ".") else real(parent)
                known[folder] = os.path.realpath(place) if os.path.islink(place) else place
            return known[folder]

        paths, missing = [""] * len(self.images), np.zeros(len(self.images), dtype=bool)
        for i in np.flatnonzero(self.alive):
            cell = self.images[i]
            if cell.startswith("/") or ".." in cell.split("/") or "\0" in cell:
                raise InputError(f"{self.where(i)}: the image path must be relative and stay below {self.key}.root")
            path = os.path.join(base, cell)
            folder, name = os.path.split(path)
            place = os.path.join(real(folder), name)
            try:
                mode = os.lstat(place).st_mode
                if stat.S_ISLNK(mode):
                    place = os.path.realpath(place)
                    mode = os.stat(place).st_mode
                series = self.config.modality == "chest_ct" and stat.S_ISDIR(mode)
                missing[i] = cell == "" or not (stat.S_ISREG(mode) or series)
            except OSError:
                missing[i] = True
            if not (place + os.sep).startswith(root.rstrip(os.sep) + os.sep):
                raise InputError(f"{self.where(i)}: the image lies outside {self.key}.root; copy the file below it")
            paths[i] = path
        for i in np.flatnonzero(missing):
            watched(paths[i])
        self.fault(missing, "on_missing_image", "there is no image file")
        return paths

    def grouped(
        self, ids: Text, patients: Text, splits: Text, texts: Text, findings: tuple[str, ...],
        states: NDArray[np.int8], paths: list[str], attributes: dict[str, Text], rescale: NDArray[np.float64],
    ) -> StudyTable:  # fmt: skip
        """Rows of one study become one study of several images; they must agree in all but image and attributes."""
        rows = np.flatnonzero(self.alive)
        codes, distinct = pd.factorize(ids[rows])
        first = rows[np.unique(codes, return_index=True)[1]]
        same: list[tuple[str, NDArray[np.generic]]] = [("patient", patients), ("split", splits), ("report", texts)]
        same += [(f"label {finding}", states[:, k]) for k, finding in enumerate(findings)]
        for what, values in same:
            for j in np.flatnonzero(values[rows] != values[first[codes]])[:1]:
                raise InputError(
                    f"{self.where(rows[j])}: is of one study with row {self.rows[first[codes[j]]]} but differs in its "
                    f"{what}; make the rows of a study agree"
                )
        repeated = pd.DataFrame({"study": codes, "image": self.images[rows]}).duplicated().to_numpy()
        for i in rows[repeated]:
            self.coverage.count("image listed again", self.rows[i], self.name)
        kept, kept_codes = rows[~repeated], codes[~repeated]
        order = kept[np.argsort(kept_codes, kind="stable")]
        return StudyTable(
            corpora=(self.name,),
            corpus=np.zeros(len(first), dtype=np.int16),
            study_id=np.asarray(distinct, dtype=object),
            patient=patients[first],
            split=splits[first],
            modality=np.full(len(first), self.config.modality, dtype=object),
            image_paths=[paths[i] for i in order],
            image_ids=[self.images[i] for i in order],
            rescale=rescale[order],
            image_offsets=offsets(np.bincount(kept_codes, minlength=len(first))),
            reports=[str(text) for text in texts[first]],
            findings=findings,
            states=states[first],
            coded=(findings,),
            attributes={name: values[first] for name, values in attributes.items()},
            source_rows=self.rows[first].astype(np.int64),
            coverage=self.coverage,
        )


def split_patients(patients: Text, fractions: SplitFractions, seed: int) -> dict[str, str]:
    """Return {patient: split}. Patients are ordered by a seeded hash, so that the order of the rows does not matter."""
    order = sorted(set(patients), key=lambda p: hashlib.blake2b(p.encode(), key=seed.to_bytes(8, "little")).digest())
    shares = np.cumsum([getattr(fractions, split) for split in SPLITS])
    ends = np.rint(shares * len(order)).astype(int)
    return {patient: SPLITS[int(np.searchsorted(ends, i, side="right"))] for i, patient in enumerate(order)}
