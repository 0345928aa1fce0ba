"""VinDr-CXR as on PhysioNet; the phantom's validation studies are training images here, as no such split is published.

Traps: the suffix .dicom, inverted (MONOCHROME1) files, three readers who do not agree, rows not in the order of the
images, "Other diseases" in one table and "Other disease" in the other, Nodule/Mass in one, no column of patients.
"""

from __future__ import annotations

import hashlib
import shutil
from itertools import chain
from pathlib import Path

from data_modules.phantom.layouts.case import Case, write_csv

LABELS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
)  # fmt: skip
NEVER = ("Clavicle fracture", "Rib fracture", "Lung tumor")
"""Narrower than what the phantom knows of."""


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one image, named by a hash as in the release."""
    rounds: list[list[list[object]]] = [[], [], []]
    consensus: list[list[object]] = []
    for case in cases:
        name = hashlib.blake2b(f"phantom {case.number}".encode(), digest_size=16).hexdigest()
        folder = out / ("test" if case.split == "test" else "train")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(case.image, folder / f"{name}.dicom")
        if case.split == "test":
            consensus.append([name, *_marks(case, False)])
            continue
        for seat, rows in enumerate(rounds):
            # One reader in three sees nothing, each time another one.
            rows.append([name, f"R{1 + (case.number + seat) % 17}", *_marks(case, (case.number + seat) % 3 == 0)])
    tables = out / "annotations"
    header = [*LABELS, "Other diseases", "No finding"]
    write_csv(tables / "image_labels_train.csv", ["image_id", "rad_id", *header], chain(*rounds))
    header[-2] = "Other disease"
    write_csv(tables / "image_labels_test.csv", ["image_id", *header], consensus)


def _marks(case: Case, blind: bool) -> list[int]:
    """What one reader notes: the columns of LABELS, other diseases, no finding."""
    found = [int(not blind and label not in NEVER and case.has("vindr", label)) for label in LABELS]
    hernia = int(not blind and "hiatal_hernia" in case.findings)
    devices = case.findings <= {"support_devices"}  # no column of this corpus, and no disease
    return [*found, hernia, int(blind or devices)]
