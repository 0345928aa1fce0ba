"""What the header of a column says: whose row it is, what it tells of the study, or which finding it holds."""

from __future__ import annotations

from collections.abc import Iterable

from data_modules.finding_names import FindingNames, plain
from radz.metrics.score_table import DERIVED

ROLES = {
    "study": ("study id", "study", "studyid", "studyinstanceuid", "accession", "accession number", "exam id",
              "volumename", "id"),
    "image": ("image id", "image", "imageid", "image index", "image path", "image name", "path", "file", "filename",
              "file name", "dicom id", "sopinstanceuid"),
    "patient": ("patient", "patient id", "patientid", "subject id", "subject"),
    "finding": ("finding", "finding name", "pathology", "disease", "condition", "class"),
    "score": ("score", "probability", "prob", "logit", "prediction", "pred", "output", "value"),
    "label": ("label", "state", "truth", "ground truth", "target", "value"),
    "scorer": ("scorer", "model", "method"),
    "findings": ("finding labels", "findings", "labels", "diseases", "pathologies"),
}  # fmt: skip
"""Use of a column -> how people call it, as `plain` writes it."""
ATTRIBUTES = {
    "view": ("view", "viewposition", "view position", "ap/pa"),
    "sex": ("sex", "gender", "patientsex", "patient sex", "patient gender"),
    "age": ("age", "patientage", "patient age"),
}
BESIDE = (
    "",
    "unnamed: 0",
    "index",
    "split",
    "error",
    "in scope",
    "reason",
    "report",
    "frontal/lateral",
    "corpus",
    "scorer",
    "model",
    "method",
)
"""Headers that hold neither scores nor labels; the first two are the row numbers that pandas writes."""
LABEL = "label"
"""stands before the finding of a label in prediction files"""


def first_of(headers: Iterable[str], words: Iterable[str]) -> str | None:
    """The header that is the earliest of these words; None where there is none."""
    found = {plain(header): header for header in headers}
    return next((found[word] for word in words if word in found), None)


class ColumnNames(FindingNames):
    """Names of findings as headers of tables write them."""

    def split(self, header: str) -> tuple[str, str, str] | None:
        """Scorer ('' where the header names none), finding, and by what it is known; `scorer/finding` names both."""
        if (found := self.find(header)) is not None:
            return "", *found
        scorer, separator, name = header.partition("/")
        found = self.find(name) if separator and scorer.strip() else None
        return None if found is None else (scorer.strip(), *found)

    def is_beside(self, header: str) -> bool:
        """Whether a column is known to hold neither scores nor labels: BESIDE, or what `radz predict` made of one."""
        finding, _, derived = header.rpartition("/")
        return first_of([header], BESIDE) is not None or (derived in DERIVED and self.find(finding) is not None)
