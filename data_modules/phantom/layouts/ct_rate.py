"""CT-RATE: the training volumes as of the fixed release, those of the validation split as of the first one.

Traps: several reconstructions of a scan with the same labels, not in their order; one that shows no chest; rows of a
damaged volume that is not there; a training volume of the first release beside the fixed one; in the first release
blank headers (no orientation, 1 mm), stored values that only the metadata table scales, at times with padding at
-8192 HU; a slope and intercept in that table for the fixed volumes too; spacing as a list in a cell, ages as 055Y, "Not
given.", quotes and brackets in reports, the label table called valid where the others say validation.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from data_modules.phantom.layouts.case import Case, write_csv

LABELS = (
    "Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion",
    "Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis", "Lung nodule",
    "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern",
    "Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening",
)  # fmt: skip
REPORT = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
METADATA = (
    "VolumeName", "Manufacturer", "PatientSex", "PatientAge", "RescaleIntercept", "RescaleSlope", "NumberofSlices",
    "XYSpacing", "ZSpacing", "StudyDate",
)  # fmt: skip
WORDS = {"train": "train", "valid": "validation"}
DAMAGED = "train_1267_a_4.nii.gz"


def hounsfield(case: Case) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """The CT of a study in HU [X, Y, Z], indices growing to right, front and head, and its affine [4, 4]."""
    image = nibabel.as_closest_canonical(nibabel.load(case.image))
    return np.rint(np.asarray(image.dataobj)).astype(np.int16), np.asarray(image.affine, dtype=np.float64)


def write(cases: list[Case], out: Path) -> None:
    """Write every study; two of three have a second reconstruction."""
    home, scans = out / "dataset", Counter[int]()
    tables: dict[str, dict[str, list[list[object]]]] = {split: defaultdict(list) for split in WORDS}
    for case in cases:
        split = "valid" if case.split == "test" else "train"
        scan = f"{split}_{case.patient}_{chr(ord('a') + scans[case.patient])}"
        scans[case.patient] += 1
        names = [f"{scan}_{number}.nii.gz" for number in ((2, 1) if case.number % 3 else (1,))]
        for name in names:
            place = f"{split}_{case.patient}/{scan}/{name}"
            intercept = -8192 if case.number % 2 else -1024
            if split == "train":
                (home / "train_fixed" / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(case.image, home / "train_fixed" / place)
            if split == "valid" or case.number == 0:
                _first(case, intercept, home / split / place)
            for table, cells in _rows(case, intercept).items():
                tables[split][table].append([name, *cells])
            if case.number == 4 and name.endswith("_1.nii.gz"):
                tables[split]["no chest"].append([f"dataset/{split}/{place}"])
    for table, rows in tables["train"].items():
        if table != "no chest":
            rows.append([DAMAGED, *rows[0][1:]])
    for split, word in WORDS.items():
        found = tables[split]
        labels = home / "multi_abnormality_labels" / f"{split}_predicted_labels.csv"
        write_csv(labels, ["VolumeName", *LABELS], found["labels"])
        write_csv(home / "radiology_text_reports" / f"{word}_reports.csv", REPORT, found["reports"])
        write_csv(home / "metadata" / f"{word}_metadata.csv", METADATA, found["metadata"])
        lines = "".join(f"{line}\n" for (line,) in found["no chest"])
        (home / "metadata" / f"no_chest_{split}.txt").write_text(lines, encoding="utf-8")


def _first(case: Case, intercept: int, place: Path) -> None:
    """Stored values in the order of DICOM, to the left, the back and the head, under a header that tells nothing."""
    hu, _ = hounsfield(case)
    stored = hu.astype(np.float32) - intercept
    if intercept == -8192:
        x, y = np.ogrid[-1 : 1 : stored.shape[0] * 1j, -1 : 1 : stored.shape[1] * 1j]
        stored[x**2 + y**2 > 1.7] = 0  # the corners, outside the scanner's circle
    place.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(stored[::-1, ::-1], None), place)


def _rows(case: Case, intercept: int) -> dict[str, list[object]]:
    """The rows of a volume without its name."""
    _, _, rest = case.report.partition("Findings:")
    findings, _, impression = (part.strip() for part in rest.partition("Impression:"))
    if case.number % 9 == 5:
        findings = "Not given."
    if case.number % 4 == 1:
        impression = f'" {impression} (see [findings]). "'
    if case.number == 7:
        findings, impression = "Not given.", '"Not given."'
    hu, affine = hounsfield(case)
    x, y, z = np.abs(np.diag(affine)[:3]).tolist()
    return {
        "labels": [int(case.has("ct_rate", label)) for label in LABELS],
        "reports": ["Not given.", "Non-contrast CT.", findings, impression],
        "metadata": ["PNMS", case.sex, f"{case.age:03d}Y", intercept, 1, hu.shape[2], f"[{x}, {y}]", z, 20_200_101],
    }
