"""What the readers of official layouts share: where a corpus is had, how its folder looks, how large it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd

from data_modules.corpora import table
from data_modules.corpora.csv_file import load
from data_modules.corpora.splits import split_patients
from data_modules.corpus_config import TERM_READERS, Columns, CorpusConfig, LabelRule
from data_modules.counting import counted
from data_modules.errors import InputError, MissingCorpus
from data_modules.findings import Ontology, ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched

log = logging.getLogger(__name__)
CHEXPERT_CODING = {1: "present", 0: "absent", -1: "uncertain", "blank": "unmentioned"}
"""Of CheXpert and MIMIC-CXR."""
BINARY_CODING = {1: "present", 0: "absent"}
OWN = ("csv", "split_csv", "columns", "labels", "findings", "image_folder")
"""Settings of the table reader that an official layout fixes itself."""


def words(space: str) -> dict[str, tuple[str, ...]]:
    """Return finding -> the labels of a label space that make it present, as `findings.yaml` has them."""
    return {finding: tuple(labels) for finding, labels in ontology().labels(space).items()}


def renamed(frame: pd.DataFrame, names: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Return `frame` with each finding's column under the first of its names, where it stands under another one."""
    others = {other: first for first, *rest in names.values() for other in rest if first not in frame}
    return frame.rename(columns=others)


@dataclass(frozen=True)
class Layout:
    """A published corpus."""

    reader: str
    """name of the reader and of its experiment"""
    title: str
    access: str
    """who gives it, under which terms, and where"""
    tree: str
    """what lies below root, one path a line"""
    published: Mapping[str, int]
    """images per split of the published release"""
    ct: bool = False

    def help(self) -> str:
        """One screen for those who do not have the corpus yet, or not here."""
        tree = "\n".join(f"  {line}" for line in self.tree.strip().splitlines())
        return (
            f"{self.title}\n  {self.access}\n\nExpected below root:\n{tree}\n\n"
            f"To try it without the corpus, on the phantom in the same layout:\n"
            f"  radz data phantom corpus={self.reader} out=phantom_{self.reader}\n"
            f"  radz train {self.reader} data.corpora.0.root=phantom_{self.reader} with=recipes/tiny\n"
        )

    def opened(self, config: CorpusConfig, key: str) -> tuple[CorpusConfig, Path]:
        """Return the settings, of a CT corpus with its modality and a warning where they have another, and the root.

        Errors as of `root`.
        """
        if self.ct and config.modality != "chest_ct":
            log.warning("%s.modality=%s: %s is CT; give %s.modality=chest_ct", key, config.modality, self.title, key)
            config = replace(config, modality="chest_ct")
        return config, self.root(config, key)

    def root(self, config: CorpusConfig, key: str) -> Path:
        """Return the root folder.

        Raises:
            MissingCorpus: with the help, where it is not set or not there.
            InputError: a setting that belongs to the table reader.
        """
        config.check(key)
        plain = CorpusConfig()
        for name in OWN:
            if name == "findings" and self.reader in TERM_READERS:
                continue
            if getattr(config, name) != getattr(plain, name):
                raise InputError(f"{key}.{name}: belongs to the table reader; {self.reader} knows its own files")
        if not config.root:
            raise MissingCorpus(f"{key}.root is not set: give {key}.root=FOLDER, where {self.title} lies", self.help())
        root = watched(Path(config.root).expanduser())
        if not root.is_dir():
            raise MissingCorpus(f"{key}.root={root}: there is no such folder", self.help())
        return root

    def find(self, root: Path, key: str, *names: str) -> Path:
        """Return the first of the files or folders `names` that is there; MissingCorpus names them all."""
        for name in names:
            if watched(root / name).exists():
                return root / name
        wanted = " or ".join(names)
        raise MissingCorpus(f"{key}.root={root}: holds no {wanted}; it must be the folder of {self.title}", self.help())

    def only(self, root: Path, key: str, *names: str) -> Path:
        """Return the one of the files `names` that is there, which differ in what they say; errors as of `find`."""
        found = [name for name in names if watched(root / name).exists()]
        if len(found) > 1:
            raise InputError(f"{key}.root={root}: holds {' and '.join(found)}; keep the one that is meant there alone")
        return self.find(root, key, *names)

    def load(self, root: Path, key: str, *names: str) -> tuple[pd.DataFrame, Path]:
        """Return the first table of `names` that is there (`csv_file.load`), and its path."""
        path = self.find(root, key, *names)
        return load(path, f"{key}.root"), path

    def studies(
        self, config: CorpusConfig, root: Path, frame: pd.DataFrame, path: Path, labels: Mapping[str, LabelRule],
        ontology: Ontology, salt: bytes, key: str, left_out: Mapping[str, int] | None = None,
    ) -> StudyTable:  # fmt: skip
        """Return the studies of `frame`, one row per image.

        Args:
            frame: columns `image` (relative to root), `patient`, `split`, and where known `study`, `report`, `view`,
                `sex`, `age`; those that `labels` read; any others may be named by the user's `keep`. Its index
                numbers the rows of `path`, for error texts, or those of the file named in a column `source`.
            labels: finding -> rule.
            left_out: reason -> what is not in `frame` for it, for the coverage.
        """
        self._count(frame)
        known = {field.name: field.name for field in fields(Columns) if field.name in frame.columns}
        own = replace(config, root=str(root), columns=Columns(**known), labels=dict(labels))
        found = table.read_frame(own, frame, path, config.name or self.reader, ontology, salt, key)
        found.coverage.filtered |= {f"{found.corpora[0]}: {why}": count for why, count in (left_out or {}).items()}
        return found

    def _count(self, frame: pd.DataFrame) -> None:
        """Warn where a split holds another number of images than the published release."""
        here = frame["split"].value_counts()
        for split, wanted in self.published.items():
            tell_size(f"{self.reader}/{split}", int(here.get(split, 0)), wanted)


def tell_size(what: str, found: int, published: int, noun: str = "image") -> None:
    """Warn where `what` holds another number of images, or of another `noun`, than the published release."""
    if found != published:
        log.warning("%s: %s here, %d in the published release", what, counted(found, noun), published)


def hold_out(frame: pd.DataFrame, config: CorpusConfig) -> pd.Series:
    """Return the split column with patients of `train` moved to `val`, where the corpus publishes no validation split.

    `split_fractions.val` of the training patients, in the order that `split_seed` gives.
    """
    training = frame["split"] == "train"
    share = config.split_fractions.val
    fractions = replace(config.split_fractions, train=1 - share, val=share, test=0.0)
    moved = training.to_numpy(copy=True)
    moved[moved] = split_patients(frame.loc[training, "patient"], config, fractions) == "val"
    return frame["split"].mask(moved, "val")
