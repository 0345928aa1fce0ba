"""The one columnar table of studies, the view of one row, and the account of what was left out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from data_modules.corpus_config import OWN_PATIENTS
from data_modules.errors import InputError
from data_modules.findings import STATE_NAMES, UNMENTIONED
from data_modules.numbering import check_numbering
from data_modules.privacy import pseudonym

Text = NDArray[np.object_]
"""Object array of str."""
AGREE = "where no table splits them, corpora with one split_seed, split_fractions and patients=NAME agree"


@dataclass(frozen=True)
class Note:
    """One entry of the coverage: a row of a corpus table that was skipped, or kept and counted."""

    corpus: str
    row: int
    reason: str
    skipped: bool


@dataclass
class Coverage:
    """What was left out of the data, or kept in spite of a fault. Rows count from 1, the header being row 1."""

    notes: list[Note] = field(default_factory=list)
    filtered: dict[str, int] = field(default_factory=dict)
    """"corpus: keep.column" -> rows that the filter removed."""

    def skip(self, reason: str, row: int, corpus: str = "") -> None:
        """Record a row that was left out."""
        self.notes.append(Note(corpus, int(row), reason, True))

    def count(self, reason: str, row: int, corpus: str = "") -> None:
        """Record a row that was kept in spite of `reason`."""
        self.notes.append(Note(corpus, int(row), reason, False))

    def skipped(self, corpus: str | None = None) -> int:
        """Return how many rows were left out, of one corpus or of all."""
        return sum(note.skipped for note in self.notes if corpus is None or note.corpus == corpus)

    def merged(self, other: Coverage) -> Coverage:
        """Return the account of both."""
        return Coverage(self.notes + other.notes, {**self.filtered, **other.filtered})

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON: counts by reason, rows removed by filters, and every row with its reason."""
        return {
            "skipped": dict(Counter(note.reason for note in self.notes if note.skipped)),
            "counted": dict(Counter(note.reason for note in self.notes if not note.skipped)),
            "filtered": dict(self.filtered),
            "rows": [[note.corpus, note.row, note.reason] for note in self.notes],
        }


@dataclass(frozen=True)
class Study:
    """One row of the table, made on demand."""

    row: int
    corpus: str
    study_id: str
    patient: str
    split: str
    modality: str
    image_paths: tuple[str, ...]
    image_ids: tuple[str, ...]
    report: str
    states: dict[str, int]
    attributes: dict[str, str]


@dataclass
class StudyTable:
    """N studies with I images in all; the images of study i are image_offsets[i] to image_offsets[i + 1]."""

    corpora: tuple[str, ...]
    corpus: NDArray[np.int16]
    """[N], index into `corpora`."""
    study_id: Text
    patient: Text
    split: Text
    """[N], train, val or test."""
    modality: Text
    image_paths: list[str]
    """I paths that can be opened."""
    image_ids: list[str]
    """I names as the corpus writes them."""
    rescale: NDArray[np.float64]
    """[I, 2], slope and intercept that replace those of a CT volume's file; NaN where the file's own hold."""
    image_offsets: NDArray[np.int64]
    """[N + 1]."""
    reports: list[str]
    findings: tuple[str, ...]
    states: NDArray[np.int8]
    """[N, K], the four states of `findings`."""
    coded: tuple[tuple[str, ...], ...]
    """Per corpus, the findings that it labels at all."""
    attributes: dict[str, Text]
    """view, sex, age: [N] each, of the study's first row, empty where unknown. For results take `views`."""
    source_rows: NDArray[np.int64]
    """[N], first row of the study in its corpus table, the header being row 1."""
    coverage: Coverage = field(default_factory=Coverage)
    numbering: tuple[str, ...] = ()
    """Per corpus, whose patient numbers it has: a name that corpora may share, `own`, or '' where nobody has said."""
    told: list[str] = field(default_factory=list)
    """[N], what labels are read from, as `reports.kept` has it; by default `reports`, the training texts."""
    image_views: list[str] = field(default_factory=list)
    """[I], empty where unknown; by default that of the study."""

    def __post_init__(self) -> None:
        self.numbering = self.numbering or (OWN_PATIENTS,) * len(self.corpora)
        self.told = self.told or self.reports
        if not self.image_views:
            view = self.attributes.get("view", np.full(len(self), "", dtype=object))
            self.image_views = view[self.image_study].tolist()

    def __len__(self) -> int:
        return len(self.reports)

    @property
    def numberings(self) -> tuple[str, ...]:
        """Per corpus, the name of its patient numbers; corpora share their patients where it is the same."""
        given = zip(self.corpora, self.numbering, strict=True)
        return tuple(corpus if name in ("", OWN_PATIENTS) else name for corpus, name in given)

    @property
    def people(self) -> NDArray[np.int64]:
        """Return int64 [N], a number for each patient, the same in all corpora that share their patients."""
        groups = pd.factorize(np.array(self.numberings, dtype=object))[0][self.corpus]
        codes, distinct = pd.factorize(self.patient)
        people: NDArray[np.int64] = pd.factorize(groups.astype(np.int64) * len(distinct) + codes)[0].astype(np.int64)
        return people

    def who(self, row: int, salt: bytes) -> str:
        """Return the salted hash of a study's patient, the same in all corpora that share their patients."""
        return pseudonym(self.numberings[self.corpus[row]], str(self.patient[row]), salt)

    @property
    def image_study(self) -> NDArray[np.int64]:
        """Return int64 [I], the row of each image's study."""
        return np.repeat(np.arange(len(self)), np.diff(self.image_offsets))

    def views(self, rows: ArrayLike) -> list[str]:
        """Return the view of each of these studies; where its images have several, all of them in one order."""
        chosen = np.asarray(rows, dtype=np.int64)
        spans = zip(self.image_offsets[chosen], self.image_offsets[chosen + 1], strict=True)
        found = (sorted({view or "unknown" for view in self.image_views[start:end]}) for start, end in spans)
        return ["" if names == ["unknown"] else " + ".join(names) for names in found]

    def totals(self) -> pd.DataFrame:
        """Return studies per finding (rows) and label state (columns)."""
        counts = [(self.states == state).sum(axis=0) for state in range(len(STATE_NAMES))]
        return pd.DataFrame(np.stack(counts, axis=1), index=list(self.findings), columns=list(STATE_NAMES))

    def rows(self, split: str, corpus: str | None = None) -> NDArray[np.int64]:
        """Return the rows of a split in table order, of one corpus or of all."""
        chosen = self.split == split
        if corpus is not None:
            chosen &= self.corpus == self.corpora.index(corpus)
        return np.flatnonzero(chosen)

    def study(self, row: int) -> Study:
        """Return one row as an object."""
        images = slice(self.image_offsets[row], self.image_offsets[row + 1])
        return Study(
            row, self.corpora[self.corpus[row]], self.study_id[row], self.patient[row], self.split[row],
            self.modality[row], tuple(self.image_paths[images]), tuple(self.image_ids[images]), self.reports[row],
            dict(zip(self.findings, self.states[row].tolist(), strict=True)),
            {name: values[row] for name, values in self.attributes.items()},
        )  # fmt: skip

    def image_indices(self, rows: ArrayLike) -> NDArray[np.int64]:
        """Return the positions of all images of `rows`, in that order."""
        spans = (np.arange(self.image_offsets[r], self.image_offsets[r + 1]) for r in np.asarray(rows, dtype=np.int64))
        return np.concatenate([np.empty(0, dtype=np.int64), *spans])

    def take(self, rows: ArrayLike) -> StudyTable:
        """Return the table of these rows, in this order; the coverage stays as it is."""
        rows = np.asarray(rows, dtype=np.int64)
        images = self.image_indices(rows)
        counts = np.diff(self.image_offsets)[rows]
        return replace(
            self,
            corpus=self.corpus[rows], study_id=self.study_id[rows], patient=self.patient[rows], split=self.split[rows],
            modality=self.modality[rows], image_paths=[self.image_paths[i] for i in images],
            image_ids=[self.image_ids[i] for i in images], image_views=[self.image_views[i] for i in images],
            rescale=self.rescale[images], image_offsets=offsets(counts),
            reports=[self.reports[r] for r in rows], told=[self.told[r] for r in rows], states=self.states[rows],
            attributes={name: values[rows] for name, values in self.attributes.items()},
            source_rows=self.source_rows[rows],
        )  # fmt: skip

    def without_images(self, dropped: Iterable[int]) -> tuple[StudyTable, NDArray[np.int64]]:
        """Leave out images by position, and studies that then have none; also return the positions that stay."""
        keep = np.ones(len(self.image_ids), dtype=bool)
        keep[list(dropped)] = False
        counts = np.bincount(self.image_study[keep], minlength=len(self))
        kept = np.flatnonzero(keep)
        thinned = replace(
            self, image_paths=[self.image_paths[i] for i in kept], image_ids=[self.image_ids[i] for i in kept],
            image_views=[self.image_views[i] for i in kept], rescale=self.rescale[kept], image_offsets=offsets(counts),
        )  # fmt: skip
        return thinned.take(np.flatnonzero(counts)), kept

    def named(self, rows: Sequence[int], salt: bytes) -> list[str]:
        """Studies as logs may name them: corpus, row of its table, salted hash."""
        corpora = [self.corpora[self.corpus[row]] for row in rows]
        return [
            f"{corpus} row {self.source_rows[row]} ({pseudonym(corpus, str(self.study_id[row]), salt)})"
            for corpus, row in zip(corpora, rows, strict=True)
        ]

    def check_splits(self, salt: bytes) -> None:
        """InputError when a patient is in two splits, of one corpus or of several that share their patients, or may be.

        It names how many, and one by its hash. May be: an id stands in other splits of two corpora, and nobody has said
        whether it is one person (`numbering`).
        """
        keys = pd.DataFrame({"person": self.people, "split": self.split, "corpus": self.corpus})
        keys = keys.drop_duplicates()
        leaking = keys[keys.groupby("person")["split"].transform("nunique") > 1]
        if len(leaking):
            one = leaking[leaking["person"] == leaking["person"].iloc[0]].drop_duplicates("split")
            names = [self.corpora[c] for c in sorted(set(leaking["corpus"]))]
            several = one["corpus"].nunique() > 1
            where = ", ".join(
                f"{self.corpora[self.corpus[i]] + ' ' if several else ''}row {self.source_rows[i]} in {self.split[i]}"
                for i in one.index
            )
            raise InputError(
                f"corpus {' and '.join(names)}: {leaking['person'].nunique()} patient(s) in more than one split, such "
                f"as patient {self.who(one.index[0], salt)} ({where}); move all studies of a patient to one split"
                + (f"; {AGREE}" if several else "")
            )
        check_numbering(self, salt)

    def digest(self) -> str:
        """Return 32 hexadecimal digits over the content: ids, splits, reports, labels; not where the files lie.

        Of views, that of a study's first row alone, as it was before tables knew the others: runs from then go on.
        """
        hasher = hashlib.blake2b(digest_size=16)
        columns = [
            list(self.corpora), list(self.findings), [list(names) for names in self.coded], list(self.study_id),
            list(self.patient), list(self.split), list(self.modality), self.image_ids, self.reports,
            {name: list(self.attributes[name]) for name in sorted(self.attributes)},
        ]  # fmt: skip
        if len(set(self.numberings)) < len(self.corpora):
            columns.append(list(self.numberings))
        for column in columns:
            hasher.update(json.dumps(column).encode())
        arrays: list[tuple[NDArray[Any], str]] = [
            (self.corpus, "<i2"), (self.image_offsets, "<i8"), (self.rescale, "<f8"), (self.states, "i1")
        ]  # fmt: skip
        for array, kind in arrays:
            hasher.update(np.ascontiguousarray(array, dtype=kind).tobytes())
        return hasher.hexdigest()

    @staticmethod
    def concat(tables: Sequence[StudyTable]) -> StudyTable:
        """Join corpora; findings are united in order of first appearance, unmentioned where a corpus lacks one."""
        names = [name for table in tables for name in table.corpora]
        for name, times in Counter(names).items():
            if times > 1:
                raise InputError(f"data.corpora: {times} corpora are called '{name}'; give each a name of its own")
        findings = tuple(dict.fromkeys(name for table in tables for name in table.findings))
        states = np.full((sum(map(len, tables)), len(findings)), UNMENTIONED, dtype=np.int8)
        start, corpus = 0, []
        for number, table in enumerate(tables):
            columns = [findings.index(name) for name in table.findings]
            states[start : start + len(table), columns] = table.states
            corpus.append(table.corpus + sum(len(t.corpora) for t in tables[:number]))
            start += len(table)
        attributes = {
            name: np.concatenate([t.attributes.get(name, np.full(len(t), "", dtype=object)) for t in tables])
            for name in dict.fromkeys(name for table in tables for name in table.attributes)
        }
        return StudyTable(
            corpora=tuple(names),
            corpus=np.concatenate(corpus).astype(np.int16),
            study_id=np.concatenate([t.study_id for t in tables]),
            patient=np.concatenate([t.patient for t in tables]),
            split=np.concatenate([t.split for t in tables]),
            modality=np.concatenate([t.modality for t in tables]),
            image_paths=[path for t in tables for path in t.image_paths],
            image_ids=[name for t in tables for name in t.image_ids],
            image_views=[view for t in tables for view in t.image_views],
            rescale=np.concatenate([t.rescale for t in tables]),
            image_offsets=offsets(np.concatenate([np.diff(t.image_offsets) for t in tables])),
            reports=[text for t in tables for text in t.reports],
            told=[text for t in tables for text in t.told],
            findings=findings,
            states=states,
            coded=tuple(names for t in tables for names in t.coded),
            attributes=attributes,
            source_rows=np.concatenate([t.source_rows for t in tables]),
            numbering=tuple(name for t in tables for name in t.numbering),
            coverage=reduce(Coverage.merged, (t.coverage for t in tables)),
        )


def offsets(counts: ArrayLike) -> NDArray[np.int64]:
    """Return int64 [N + 1], where the images of each study begin and end, from the images per study [N]."""
    return np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))]).astype(np.int64)
