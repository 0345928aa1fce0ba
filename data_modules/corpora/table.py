"""The reader of a user's own CSV: one row per image, columns and labels as the experiment says."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from os.path import normpath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.cells import blank, number, spelling, spellings
from data_modules.corpora.csv_file import column, load, split_words
from data_modules.corpora.ids import check_ids
from data_modules.corpora.labels import OUTSIDE, remarks, same, states_of
from data_modules.corpora.places import Places
from data_modules.corpora.report_labels import of_reports, read_reports
from data_modules.corpora.splits import split_patients
from data_modules.corpus_config import OWN_PATIENTS, CorpusConfig, SplitFile
from data_modules.counting import counted
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
        raise MissingCorpus(f"{key}.root={root}: there is no such folder; give {key}.root=FOLDER")
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
        """A column by its use, '' where it has none; words for nothing are emptied."""
        name = getattr(self.config.columns, which)
        if name is None:
            return np.full(len(self.frame), "", dtype=object)
        return blank(self.column(name, f"columns.{which}"), self.config.missing)[0]

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
        texts, told = read_reports(self.optional("report"), self.config.report_sections, self.name)
        splits = self.splits(patients)
        self.keep()
        self.identifiers(study=ids, patient=patients)
        self.fault(splits == "", "on_split_orphan", "no split is given for this row")
        paths = self.image_paths()
        for k, finding in enumerate(findings):
            rule = self.config.labels.get(finding)
            if rule is None or rule.from_report is not None:
                continue
            bad = states[:, k] == OUTSIDE
            value = self.column(rule.column, "labels")[bad & self.alive]
            shown = f": {self.quoted(value[0], rule.column)} in column '{rule.column}'" if len(value) else ""
            reason = f"value outside the coding of {self.key}.labels.{finding}"
            self.fault(bad, "on_bad_label", reason, shown)
        if self.config.columns.report is not None:
            self.fault(texts == "", "on_empty_report", "empty report")
        if not self.alive.any():
            raise InputError(f"{self.path}: no row is left; {self.coverage.to_dict()['skipped']} were skipped")
        canonical = tuple(ontology[finding].name for finding in findings)
        return self.grouped(ids, patients, splits, texts, told, canonical, states, paths, columns, rescale)

    def identifiers(self, **of: Text) -> None:
        """InputError for ids of standing rows that are empty or that `check_ids` refuses."""
        here = np.flatnonzero(self.alive)
        strict = self.config.reader == "table" and self.config.bad.on_alike_ids == "error"
        for which, values in of.items():
            empty = here[values[here] == ""]
            for i in empty[:1]:
                raise InputError(
                    f"{self.where(i)}: the {which} column is empty or holds a word for nothing, such as nan "
                    f"({len(empty)} such row(s)); fill it in or remove the row"
                )
            if (name := getattr(self.config.columns, which)) is not None:
                policy = f"{self.key}.bad.on_alike_ids" if strict else None
                check_ids(which, name, values[here], self.rows[here], lambda at: self.where(here[at]), policy)

    def rescale(self) -> NDArray[np.float64]:
        """Return [R, 2], slope and intercept of every row's volume; NaN where the file's own hold."""
        found = np.full((len(self.frame), 2), np.nan)
        given = [name for name in ("slope", "intercept") if getattr(self.config.columns, name) is not None]
        if len(given) == 1:
            raise InputError(f"{self.key}.columns.{given[0]}: needs its partner; slope and intercept go together")
        for k, which in enumerate(given):
            codes, distinct = pd.factorize(self.optional(which))
            values = [number(cell) for cell in distinct]
            bad = np.array([v is None and cell != "" for v, cell in zip(values, distinct, strict=True)], dtype=bool)
            for i in np.flatnonzero(bad[codes])[:1]:
                raise InputError(f"{self.where(i)}: column '{getattr(self.config.columns, which)}' is no number")
            found[:, k] = np.array([np.nan if v is None else v for v in values], dtype=float)[codes]
        for i in np.flatnonzero(np.isnan(found).sum(axis=1) == 1)[:1]:
            raise InputError(f"{self.where(i)}: gives one of slope and intercept; give both or neither")
        return found

    def labels(self, ontology: Ontology) -> tuple[list[str], NDArray[np.int8]]:
        """Names as typed, and int8 [R, K] states (or OUTSIDE); InputError for an unknown finding or one named twice."""
        names = [name for name, rule in self.config.labels.items() if rule.from_report is None]
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
            rule, key = self.config.labels[name], f"{self.key}.labels.{name}"
            read, quoted = self.column(rule.column, f"labels.{name}.column"), partial(self.quoted, column=rule.column)
            text = rule.equals or rule.contains or rule.token
            own = [text] if text is not None else [str(value) for value in rule.numeric or ()]
            cells, emptied = blank(read, [w for w in self.config.missing if not any(same(w, one) for one in own)])
            states[:, k] = states_of(rule, cells)
            if emptied.any() and self.config.reader == "table":
                told = ", ".join(dict.fromkeys(map(quoted, read[emptied])))
                log.warning("%s: %d cell(s), %s, count as empty (%s.missing)", key, emptied.sum(), told, self.key)
            for line in remarks(rule, cells, key, quoted) if self.config.reader == "table" else ():
                log.warning("%s", line)
        if self.config.reads_reports:
            texts = self.optional("report")
            of_texts, more = of_reports(self.config, texts, ontology, names, self.name, self.key)
            names, states = [*names, *of_texts], np.hstack([states, more])
        return names, states

    def patients(self, ids: Text) -> Text:
        if self.config.columns.patient is not None:
            return self.optional("patient")
        if self.config.shares_patients:
            raise InputError(f"{self.key}.patients: needs {self.key}.columns.patient, the column of the shared numbers")
        if self.config.split_csv is None and self.config.columns.split is None:
            raise InputError(
                f"{self.key}.columns.patient is not set: name the patient column, so that no patient falls into two "
                f"splits, or give {self.key}.split_csv or {self.key}.columns.split"
            )
        log.warning("%s: no patient column, every study counts as a patient of its own", self.name)
        return ids

    def numbering(self) -> str:
        """Whose patient numbers these are, as `StudyTable.numbering` has it."""
        if self.config.columns.patient is None:
            return OWN_PATIENTS
        return self.config.patients or ("" if self.config.reader == "table" else self.config.reader)

    def splits(self, patients: Text) -> Text:
        """Return the split of every row, '' where split_csv has none; judged on all rows, before the filter."""
        if self.config.columns.split is not None:
            return split_words(self.frame, self.config.columns.split, self.path, f"{self.key}.columns.split")
        file = self.config.split_csv
        if file is None:
            return split_patients(patients, self.config)
        path = self.root / file.file
        table = load(path, f"{self.key}.split_csv.file")
        keys = column(table, file.key, path, f"{self.key}.split_csv.key")
        words = split_words(table, file.split, path, f"{self.key}.split_csv.split")
        own = self.split_key(file, set(keys))
        known, chosen = set(own), dict[str, str]()
        for row, value, word in zip(table.index, keys, words, strict=True):
            what = f"{path} row {row} ({file.key} {pseudonym(self.name, value, self.salt)})"
            if chosen.setdefault(value, word) != word:
                raise InputError(f"{what}: is {word} here and {chosen[value]} in an earlier row; keep one")
            if value not in known:
                if self.config.bad.on_split_orphan == "error":
                    alike = spelling(value.replace("\\", "/").rpartition("/")[2]) in set(spellings(own))
                    there = ", but one that is written otherwise" if alike else ""
                    raise InputError(
                        f"{what}: {self.path.name} has no such row{there}; correct one of the two or "
                        f" set {self.key}.bad.on_split_orphan=skip"
                    )
                self.coverage.skip(f"row of {path.name} without its study", row, self.name)
        return np.array([chosen.get(value, "") for value in own], dtype=object)

    def split_key(self, file: SplitFile, keys: set[str]) -> Text:
        """The column of the table that holds the keys of the split file."""
        if file.table_key is not None:
            return self.column(file.table_key, "split_csv.table_key")
        if file.key in self.frame.columns:
            return self.column(file.key, "split_csv.key")
        columns = self.config.columns
        names = [name for name in (columns.image, columns.study, columns.patient) if name is not None]
        held = {name: len(keys.intersection(self.frame[name])) for name in names}
        name = max(held, key=held.__getitem__)
        if not held[name]:
            raise InputError(
                f"{self.path}: has no column '{file.key}' and none of {', '.join(names)} holds what stands there in "
                f"{file.file}; name the column that does as {self.key}.split_csv.table_key"
            )
        log.info("%s: column '%s' of %s is matched with '%s'", self.name, file.key, file.file, name)
        return self.column(name, "split_csv.table_key")

    def keep(self) -> None:
        """Apply the row filter; InputError when nothing is left tells what each part removed."""
        told = []
        for name, wanted in self.config.keep.items():
            cells = self.column(name, f"keep.{name}")
            before = int(self.alive.sum())
            codes, distinct = pd.factorize(cells)
            stays = [any(same(cell, str(one)) for one in wanted) for cell in distinct]
            self.alive &= np.array(stays, dtype=bool)[codes]
            removed = before - int(self.alive.sum())
            self.coverage.filtered[f"{self.name}: keep.{name}"] = removed
            values = sorted(set(cells))  # many distinct values may be identifiers: not shown
            shown = dict.fromkeys(self.quoted(value, name) for value in values)
            holds = ", ".join(shown) if len(values) <= 20 else "many values"
            told.append(f"{name} removed {removed} of {counted(before, 'row')} (it holds {holds})")
        if not self.alive.any():
            raise InputError(f"{self.path}: {self.key}.keep leaves no row: {'; '.join(told)}")

    def image_paths(self) -> list[str]:
        """Return the path of every row; one that leaves what may be read stops the run, a missing one its policy."""
        settings = self.config
        places = Places(str(self.root), settings.image_folder, settings.links, settings.modality == "chest_ct")
        paths, missing = [""] * len(self.images), np.zeros(len(self.images), dtype=bool)
        for i in np.flatnonzero(self.alive):
            cell = self.images[i]
            if ".." in cell.replace("\\", "/").split("/") or "\0" in cell:
                raise InputError(f"{self.where(i)}: the image path must be relative and stay below {self.key}.root")
            try:
                paths[i], there, allowed = places.find(cell)
            except PermissionError as error:
                raise InputError(
                    f"{self.where(i)}: a folder of the image, {places.base} or one below it, may not be entered "
                    f"({error.strerror}); see to its rights"
                ) from None
            if not allowed:
                raise InputError(
                    f"{self.where(i)}: the image lies outside {self.key}.root and image_folder; copy it below them, or "
                    f"where a link leads to it, add the folder that holds it to {self.key}.links"
                )
            missing[i] = not there
        gone = np.flatnonzero(missing)
        for i in gone:
            watched(paths[i])
            if (other := places.alike(paths[i])) != "":
                paths[i], missing[i] = other, False
                self.coverage.count("image name written in other case or Unicode form", self.rows[i], self.name)
        still = np.flatnonzero(missing)
        hint = places.hint(self.images[still[0]], paths[still[0]]) if len(still) else ""
        self.fault(missing, "on_missing_image", "there is no image file", hint)
        return paths

    def one_study_each(self, rows: NDArray[np.int64], codes: NDArray[np.int64], splits: Text, paths: list[str]) -> None:
        """InputError for a file that two studies in different splits have; a count where they are in one."""
        frame = pd.DataFrame({"row": rows, "study": codes, "split": splits[rows]})
        frame["file"] = [normpath(paths[i]) for i in rows]
        first = frame.groupby("file")[["row", "study", "split"]].transform("first")
        again = frame["study"] != first["study"]
        for at in frame.index[again & (frame["split"] != first["split"])][:1]:
            raise InputError(
                f"{self.where(rows[at])}: is the image of row {self.rows[first['row'][at]]} too, under another study "
                "and in another split; keep one"
            )
        for i in rows[again]:
            self.coverage.count("image of two studies", self.rows[i], self.name)

    def grouped(
        self, ids: Text, patients: Text, splits: Text, texts: Text, told: Text, findings: tuple[str, ...],
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
        self.one_study_each(rows, codes, splits, paths)
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
            image_views=attributes["view"][order].tolist(),
            rescale=rescale[order],
            image_offsets=offsets(np.bincount(kept_codes, minlength=len(first))),
            reports=[str(text) for text in texts[first]],
            told=[str(text) for text in told[first]],
            findings=findings,
            states=states[first],
            coded=(findings,),
            numbering=(self.numbering(),),
            attributes={name: values[first] for name, values in attributes.items()},
            source_rows=self.rows[first].astype(np.int64),
            coverage=self.coverage,
        )
