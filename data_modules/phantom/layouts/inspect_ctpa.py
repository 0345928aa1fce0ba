"""INSPECT: dated tables and NIfTI. The phantom has no embolism: consolidation stands in for it.

Traps: TRUE and FALSE in one column, numbers and a blank in the others; image names with and without their suffix;
repeated rows of the table of splits; tables in different orders; a CT that is not there; impressions of several lines.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_modules.phantom.layouts.case import Case

DATE = "20250611"
SPLITS = {"train": "train", "val": "valid", "test": "test"}
LABELS = ("impression_id", "pe_positive_nlp", "pe_acute", "pe_subsegmentalonly", "1_month_mortality", "Atelectasis")


def write(cases: list[Case], out: Path) -> None:
    """Write every study."""
    mapping, splits, labels, impressions = [], [], [], []
    (out / "CTPA").mkdir(parents=True)
    for case in cases:
        study, person = str(10_000 + case.number), str(135_900_000 + case.patient)
        image = "PE" + hashlib.blake2b(f"phantom {case.number}".encode(), digest_size=4).hexdigest()
        if case.number != 2:
            shutil.copyfile(case.image, out / "CTPA" / f"{image}.nii.gz")
        suffix = ".nii.gz" if case.number % 2 else ""
        mapping.append([person, f"{image}{suffix}", study, f"2016-03-{1 + case.number % 28:02d}T10:00:00"])
        splits += [[person, study, SPLITS[case.split]]] * (2 if case.number in (0, 5) else 1)
        labels.append([study, *_labels(case)])
        impressions.append([study, _impression(case)])
    header = ["person_id", "image_id", "impression_id", "procedure_DATETIME"]
    _tsv(out / f"study_mapping_{DATE}.tsv", header, mapping)
    _tsv(out / f"splits_{DATE}.tsv", ["person_id", "impression_id", "split"], sorted(splits))
    _tsv(out / f"labels_{DATE}.tsv", LABELS, labels[::-1])
    _tsv(out / f"impressions_{DATE}.tsv", ["impression_id", "impressions"], impressions)


def _labels(case: Case) -> list[str]:
    there = case.has("inspect", "pe_positive_nlp") or "consolidation" in case.findings
    acute = "" if case.number % 10 == 9 else str(int(there and case.number % 3 > 0))
    small = f"{float(there and case.number % 3 == 1):.1f}"
    return ["TRUE" if there else "FALSE", acute, small, "Censored", "False"]


def _impression(case: Case) -> str:
    _, _, text = case.report.partition("Impression:")
    return f"1. {text.strip()}\n2. No other acute finding in a {case.age}-year-old."


def _tsv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
