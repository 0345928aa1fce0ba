"""The config of one corpus: where it is, how its table reads, what its labels mean.

The string under a field is its help text. The checks take the full key of their place and are called by `DataConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from data_modules.errors import InputError, nearest

TERM_READERS = ("padchest", "openi", "vindr_cxr", "cxr_lt", "cxr_lt_2026")
"""Readers of corpora whose labels are lists of terms."""
SPLITS = ("train", "val", "test")
STATE_WORDS = ("absent", "present", "uncertain", "unmentioned")
FROM_REPORT = "from_report"
"""Stands in place of a finding's name for all findings that the reports speak of."""
LABELLERS = ("rules",)
OWN_PATIENTS = "own"
MISSING = (
    "nan", "na", "n/a", "<na>", "#n/a", "nat", "null", "#null!", "none", "nil", "-", "--", ".", "?", "missing",
    "unknown", "not available", "#ref!", "#value!", "#name?", "#div/0!", "#num!",
)  # fmt: skip
"""Words that programs and people write where they have nothing to write."""


def one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    """InputError unless `value` is one of the `allowed` words of a key."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise InputError(f"{key}: '{value}' is not one of {', '.join(allowed)}{nearest(value, allowed)}")


def in_range(key: str, value: float, low: float, high: float = math.inf) -> None:
    """InputError unless low <= value <= high."""
    if not low <= value <= high:
        raise InputError(f"{key}={value}: must be at least {low}" + (f" and at most {high}" if high < math.inf else ""))


KINDS = ("equals", "contains", "token", "numeric", "from_report")
"""Of which a label rule has one."""


@dataclass
class LabelRule:
    """How one finding is read: from one column by exactly one of equals, contains, token and numeric, or from the
    report by from_report."""

    column: str = ""
    """Column of the table."""
    from_report: str | None = None
    """rules: the state that the sentences of columns.report give (docs/labels.md); `labels: {from_report: rules}` reads
    all findings that the reports speak of."""
    equals: str | None = None
    """Present where the whole cell is this text (in any case), absent elsewhere."""
    contains: str | None = None
    """Present where the cell contains this text as words (in any case), absent elsewhere; where the sentence negates or
    doubts it, or tells of another time, the cell is outside the coding. For lists of terms, not for reports."""
    token: str | None = None
    """Present where one of the cell's parts (cut at `separator`) is this text (in any case), absent elsewhere."""
    separator: str = "|"
    """Cuts a cell into tokens."""
    numeric: dict[Any, str] | None = None
    """State of each number, of `blank`, and of `nan` where it is to differ; any other value is outside the coding."""
    blank: str = "unmentioned"
    """State of an empty cell under equals, contains and token."""

    def check(self, key: str) -> None:
        """InputError for a rule that cannot be applied."""
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise InputError(f"{key}: give exactly one of {', '.join(KINDS)}, not {kinds or 'none'}")
        if self.from_report is not None:
            one_of(f"{key}.from_report", self.from_report, LABELLERS)
            if self.column:
                raise InputError(f"{key}.column: from_report reads columns.report; leave the column out")
            return
        if not self.column:
            raise InputError(f"{key}.column is not set: name the column of the table that holds this label")
        if not getattr(self, kinds[0]) or (self.token is not None and not self.separator):
            raise InputError(f"{key}.{kinds[0]}: is empty")
        one_of(f"{key}.blank", self.blank, STATE_WORDS)
        for value, state in (self.numeric or {}).items():
            one_of(f"{key}.numeric.{value}", state, STATE_WORDS)
            try:
                float("nan" if value == "blank" else value)
            except (TypeError, ValueError):
                raise InputError(f"{key}.numeric: '{value}' is neither a number nor 'blank'") from None


@dataclass
class Columns:
    """Which column of the table holds what; unset ones are not read."""

    image: str = "image"
    """Image file, relative to root/image_folder."""
    patient: str | None = None
    """Patient; needed unless a split is given (then unset means that each study is a patient of its own)."""
    study: str | None = None
    """Study; rows of one study become one study of several images. Unset: one study per image."""
    split: str | None = None
    """train, val (or valid, validate, validation) or test, where the table itself says so."""
    report: str | None = None
    """Report text."""
    view: str | None = None
    """View position, kept as an attribute."""
    sex: str | None = None
    """Sex, kept as an attribute."""
    age: str | None = None
    """Age, kept as an attribute."""
    slope: str | None = None
    """Rescale slope of a CT volume whose file does not carry it; with `intercept` it replaces the file's own."""
    intercept: str | None = None
    """Rescale intercept of a CT volume, HU."""


@dataclass
class SplitFile:
    """A second table that says to which split each image, study or patient belongs."""

    file: str = ""
    """File, relative to root."""
    key: str = ""
    """Column that names the image, study or patient."""
    split: str = "split"
    """Column with train, val (or valid, validate, validation, dev) and test."""
    table_key: str | None = None
    """The column of the corpus' table that holds the same; default: of the name of `key`, else the one of
    columns.image, study and patient whose values it holds."""


@dataclass
class SplitFractions:
    """Shares of the patients per split, where no split_csv is given."""

    train: float = 0.7
    """Share of the patients that are trained on."""
    val: float = 0.1
    """Share that chooses the checkpoint."""
    test: float = 0.2
    """Share that is scored once, at the end."""


@dataclass
class SplitCounts:
    """Studies per split of the phantom."""

    train: int = 1200
    """Studies to train on."""
    val: int = 200
    """Studies of validation."""
    test: int = 400
    """Studies of the test."""


@dataclass
class Unmentioned:
    """What an unmentioned finding counts as: absent or unknown."""

    loss: str = "absent"
    """In training."""
    metrics: str = "unknown"
    """In scoring."""


@dataclass
class LabelPolicy:
    """From the four states to 1, 0 and unknown."""

    uncertain: str = "ignore"
    """ignore, absent, present or per_finding."""
    per_finding: dict[str, str] = field(default_factory=dict)
    """With uncertain=per_finding: ignore, absent or present for each finding; ignore where none is given."""
    unmentioned: Unmentioned = field(default_factory=Unmentioned)

    def check(self, key: str) -> None:
        """InputError for an unknown word or a table that nothing would read."""
        one_of(f"{key}.uncertain", self.uncertain, ("ignore", "absent", "present", "per_finding"))
        for name, word in self.per_finding.items():
            one_of(f"{key}.per_finding.{name}", word, ("ignore", "absent", "present"))
        if self.per_finding and self.uncertain != "per_finding":
            raise InputError(f"{key}.per_finding: is read only with {key}.uncertain=per_finding")
        for use in ("loss", "metrics"):
            one_of(f"{key}.unmentioned.{use}", getattr(self.unmentioned, use), ("absent", "unknown"))


@dataclass
class BadRows:
    """What a fault in the data does: error stops the run, skip leaves the row out and lists it under coverage."""

    on_missing_image: str = "error"
    """An image that the table names and the folder lacks."""
    on_unreadable_image: str = "error"
    """An image that cannot be decoded, is blank, or is of another modality."""
    on_bad_label: str = "error"
    """A value outside the coding of a label."""
    on_split_orphan: str = "error"
    """A row of split_csv without its image, or a kept row that split_csv does not name."""
    on_alike_ids: str = "error"
    """Patients or studies whose ids are one in several spellings (7, 07, 7.0); keep: they are several. A published
    corpus keeps them."""
    on_empty_report: str = "keep"
    """keep: counted, and the study trains the category loss only."""

    def check(self, key: str) -> None:
        """InputError for an unknown word."""
        for name in vars(self):
            allowed = {
                "on_empty_report": ("keep", "skip", "error"), "on_alike_ids": ("error", "keep")
            }.get(name, ("error", "skip"))  # fmt: skip
            one_of(f"{key}.{name}", getattr(self, name), allowed)


@dataclass
class PhantomConfig:
    """The procedural chest (reader: phantom)."""

    studies: SplitCounts = field(default_factory=SplitCounts)
    image_px: int = 256
    """Rows and columns of the radiograph."""
    voxels: int = 96
    """Voxels along each side of the CT (modality: chest_ct)."""
    seed: int = 0
    """Another seed is another set of patients."""
    rare: dict[str, float] = field(default_factory=dict)
    """{finding: share of the training and validation studies with it that keep it}, for a long tail; test stays."""


@dataclass
class CorpusConfig:
    """One corpus: where it is and how its table reads."""

    reader: str = "table"
    """table (the user's own CSV), phantom, or a published corpus in its official layout (docs/corpora.md)."""
    name: str | None = None
    """Name in results; default: the reader's, for a table the root folder's."""
    root: str | None = None
    """Folder of the corpus."""
    csv: str | None = None
    """Table with one row per image, relative to root."""
    split_csv: SplitFile | None = None
    """Official or own split; else patients are split by split_fractions and split_seed."""
    split_fractions: SplitFractions = field(default_factory=SplitFractions)
    split_seed: int = 0
    """Apart from the run's seed, so that runs of several seeds share their split."""
    columns: Columns = field(default_factory=Columns)
    patients: str | None = None
    """Whose patient numbers these are: a name that corpora have in common where a number is one person in all of them,
    or own. Must be said where an id of a table stands in another split of another corpus. A published corpus has its
    reader's."""
    missing: list[str] = field(default_factory=lambda: list(MISSING))
    """Words, in any case, that count as an empty cell in columns of ids, labels, attributes and reports."""
    image_folder: str = ""
    """Folder of the images below root. Like root it may be a link; a link below the two may not lead out of them."""
    links: list[str] = field(default_factory=list)
    """Further folders into which links of images may lead, such as the store of a data manager."""
    keep: dict[str, list[str]] = field(default_factory=dict)
    """Row filter: column -> values that stay."""
    labels: dict[str, LabelRule] = field(default_factory=dict)
    """Finding -> rule; {from_report: rules} for all findings that the reports speak of."""
    terms: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Further words of findings for labels from reports: {finding: {terms: [..], narrower: [..], normal: [..]}}."""
    findings: dict[str, dict[str, str]] = field(default_factory=dict)
    """findings outside the ontology: {name: {parent: .., text: .., label: ..}}; label (readers padchest, openi,
    vindr_cxr, cxr_lt and cxr_lt_2026): the corpus' own term, or column, that proves it"""
    policy: LabelPolicy = field(default_factory=LabelPolicy)
    """What uncertain and unmentioned labels count as."""
    bad: BadRows = field(default_factory=BadRows)
    """What faults in the data do."""
    modality: str = "chest_xray"
    """chest_xray or chest_ct."""
    report_sections: list[str] = field(default_factory=lambda: ["findings", "impression"])
    """Sections of a report to use, in this order; a report without headings is used whole."""
    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    """Read by the phantom reader only."""

    @property
    def reads_reports(self) -> bool:
        """Whether labels come from reports."""
        return any(rule.from_report is not None for rule in self.labels.values())

    @property
    def shares_patients(self) -> bool:
        """Whether other corpora have the same patients."""
        return self.patients not in (None, OWN_PATIENTS)

    def check(self, key: str) -> None:
        """InputError naming the full key of whatever cannot work. `key` is where this corpus stands."""
        one_of(f"{key}.modality", self.modality, ("chest_xray", "chest_ct"))
        for name, rule in self.labels.items():
            rule.check(f"{key}.labels.{name}")
        if self.terms and not self.reads_reports:
            raise InputError(f"{key}.terms: is read only with {key}.labels.from_report=rules")
        for name, fields in self.findings.items():
            if "label" in fields and self.reader not in TERM_READERS:
                raise InputError(
                    f"{key}.findings.{name}.label: reader {self.reader} has no terms; leave it out and use {key}.labels"
                )
        if self.patients is not None and not self.patients.strip():
            raise InputError(f"{key}.patients: is empty; give a name, or {OWN_PATIENTS}")
        self.policy.check(f"{key}.policy")
        self.bad.check(f"{key}.bad")
        shares = [self.split_fractions.train, self.split_fractions.val, self.split_fractions.test]
        if min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise InputError(f"{key}.split_fractions: {shares} must be at least 0 and sum to 1")
        if self.split_csv is not None and not (self.split_csv.file and self.split_csv.key):
            raise InputError(f"{key}.split_csv: needs both file and key")
        if self.split_csv is not None and self.columns.split is not None:
            raise InputError(f"{key}.split_csv: conflicts with {key}.columns.split; give one of the two")
        if not self.report_sections:
            raise InputError(f"{key}.report_sections: is empty; name sections such as [findings, impression]")
        for column, values in self.keep.items():
            if not values:
                raise InputError(f"{key}.keep.{column}: is empty, so that no row would stay")
        for split in SPLITS:
            in_range(f"{key}.phantom.studies.{split}", getattr(self.phantom.studies, split), 0)
        in_range(f"{key}.phantom.image_px", self.phantom.image_px, 64, 4096)
        in_range(f"{key}.phantom.voxels", self.phantom.voxels, 32, 512)
        in_range(f"{key}.phantom.seed", self.phantom.seed, 0)
        in_range(f"{key}.split_seed", self.split_seed, 0)
