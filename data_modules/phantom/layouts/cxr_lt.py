"""CXR-LT 2024 over the small images of MIMIC-CXR-JPG.

Traps: lists with other columns for each task, an image in the test lists of two tasks, findings that the training list
does not have, labels written 0.0 and 1.0 in one list, images without a view.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from data_modules.phantom.layouts.case import Case, write_csv

KNOWN = (
    "Adenopathy", "Atelectasis", "Azygos Lobe", "Calcification of the Aorta", "Cardiomegaly", "Clavicle Fracture",
    "Consolidation", "Edema", "Emphysema", "Enlarged Cardiomediastinum", "Fibrosis", "Fissure", "Fracture", "Granuloma",
    "Hernia", "Hydropneumothorax", "Infarction", "Infiltration", "Kyphosis", "Lobar Atelectasis", "Lung Lesion",
    "Lung Opacity", "Mass", "Nodule", "Normal", "Pleural Effusion", "Pleural Other", "Pleural Thickening",
    "Pneumomediastinum", "Pneumonia", "Pneumoperitoneum", "Pneumothorax", "Pulmonary Embolism",
    "Pulmonary Hypertension", "Rib Fracture", "Round(ed) Atelectasis", "Subcutaneous Emphysema", "Support Devices",
    "Tortuous Aorta", "Tuberculosis",
)  # fmt: skip
RARE = (
    "Adenopathy", "Azygos Lobe", "Clavicle Fracture", "Fissure", "Granuloma", "Hydropneumothorax", "Infarction",
    "Kyphosis", "Lobar Atelectasis", "Pulmonary Embolism", "Pulmonary Hypertension", "Rib Fracture",
    "Round(ed) Atelectasis", "Tuberculosis",
)  # fmt: skip
"""Not among the 26 of task 2."""
UNSEEN = ("Bulla", "Cardiomyopathy", "Hilum", "Osteopenia", "Scoliosis")
STANDS_FOR = {"Bulla": "emphysema", "Cardiomyopathy": "cardiomegaly", "Tortuous Aorta": "aortic_enlargement"}
"""The phantom has none of these; its own finding stands for each, so that there is something to score."""
HEADER = ("dicom_id", "subject_id", "study_id", "fpath", "ViewPosition", "ViewCodeSequence_CodeMeaning")


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one image; test and validation studies are in the lists of tasks 1 and 3, a third in 2's."""
    lists: dict[str, list[tuple[Case, list[object]]]] = {}
    for case in cases:
        subject, study = 10_000_000 + case.patient * 1_234_567 % 10_000_000, 50_000_000 + case.number * 7_919
        digits = hashlib.sha256(f"cxr-lt {case.number}".encode()).hexdigest()
        image = "-".join(digits[start : start + 8] for start in range(0, 40, 8))
        path = f"files/p{subject // 1_000_000}/p{subject}/s{study}/{image}.jpg"
        case.picture(out / path)
        row = [image, subject, study, path, case.view if case.number % 9 else "", "postero-anterior"]
        kinds = {"val": "development", "test": "test"}
        tasks = [task for task in (1, 2, 3) if task != 2 or case.number % 3 == 0]
        names = (
            [f"{kinds[case.split]}_labeled_task{task}" for task in tasks] if case.split in kinds else ["train_labeled"]
        )
        for name in names:
            lists.setdefault(name, []).append((case, row))
    for name, rows in lists.items():
        task = name[-1]
        labels = UNSEEN if task == "3" else [label for label in KNOWN if task != "2" or label not in RARE]
        cells = ([*row, *(_cell(case, label, task) for label in labels)] for case, row in rows)
        write_csv(out / "cxr-lt-2024" / f"{name}.csv", [*HEADER, *labels], cells)


def _cell(case: Case, label: str, task: str) -> object:
    found = STANDS_FOR[label] in case.findings if label in STANDS_FOR else case.has("cxr_lt", label)
    return float(found) if task == "2" else int(found)
