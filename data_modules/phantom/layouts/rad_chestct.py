"""RAD-ChestCT as on Zenodo, in the order of axes of its npz files; the volumes are not resampled to 0.8 mm.

Traps: a column for each abnormality and place, of which one of several places is marked; an abnormality outside the
chest; decimal numbers in one of the tables; values clipped at 1000 HU either way; a table of scans in another order,
with a scan that has no labels; several scans of a patient.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_modules.phantom.layouts.case import Case, write_csv
from data_modules.phantom.layouts.ct_rate import hounsfield

LABELS = (
    "air_trapping", "airspace_disease", "atelectasis", "bronchial_wall_thickening", "bronchiectasis", "calcification",
    "cardiomegaly", "catheter_or_port", "chest_tube", "clip", "consolidation", "cyst", "emphysema", "fibrosis",
    "fracture", "gi_tube", "groundglass", "hernia", "infiltrate", "lesion", "lymphadenopathy", "mass", "nodule",
    "nodulegr1cm", "opacity", "pacemaker_or_defib", "pericardial_effusion", "pleural_effusion", "pleural_thickening",
    "pneumonia", "pneumothorax", "pulmonary_edema", "scarring", "septal_thickening", "stent", "tracheal_tube",
    "tuberculosis",
)  # fmt: skip
"""Of 84; those that the ontology knows, and others."""
PLACES = ("right_upper", "left_lower", "heart", "other_location")
"""Of 52."""
SPLITS = {"train": ("trn", "imgtrain"), "val": ("val", "imgvalid"), "test": ("tst", "imgtest")}


def write(cases: list[Case], out: Path) -> None:
    """Write every study, under a name that tells its split."""
    header = ["NoteAcc_DEID", *(f"{label}*{place}" for label in LABELS for place in PLACES)]
    tables: dict[str, list[list[object]]] = {split: [] for split in SPLITS}
    scans: list[list[object]] = [["mrn99999", "trn99999", "imgtrain_extra", "imgtrain"]]
    for case in cases:
        prefix, subset = SPLITS[case.split]
        scan = f"{prefix}{case.number * 7 % 100_000:05d}"
        hu, _ = hounsfield(case)
        # From head to feet, from front to back, from right to left.
        turned = np.clip(hu, -1000, 1000)[::-1, ::-1, ::-1].transpose(2, 1, 0)
        np.savez_compressed(out / f"{scan}.npz", ct=turned)
        scans.append([f"mrn{case.patient:05d}", scan, f"{subset}_extra", subset])
        marks = [
            _mark(case, label, place == PLACES[(case.number + len(label)) % len(PLACES)])
            for label in LABELS
            for place in PLACES
        ]
        tables[case.split].append([scan, *marks])
    for split, (_, subset) in SPLITS.items():
        write_csv(out / f"{subset}_Abnormality_and_Location_Labels.csv", header, tables[split])
    write_csv(
        out / "Summary_3630.csv", ["MRN_DEID", "NoteAcc_DEID", "Set_Assigned", "Subset_Assigned"],
        sorted(scans, key=lambda row: str(row[0])[::-1]),
    )  # fmt: skip


def _mark(case: Case, label: str, here: bool) -> str:
    there = here and case.has("rad_chestct", label)
    return f"{there:.1f}" if case.split == "val" else str(int(there))
