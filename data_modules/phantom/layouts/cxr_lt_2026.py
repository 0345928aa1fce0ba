"""CXR-LT 2026 over 8-bit images in the folders of PadChest and of NIH.

Traps: names of findings in three styles, test images in NIH's folders, test lists without patients, with other columns
for each task, an image in both.
"""

from __future__ import annotations

from pathlib import Path

from data_modules.phantom.layouts.case import Case, write_csv

KNOWN = (
    "Normal", "aortic elongation", "cardiomegaly", "pleural effusion", "Nodule", "atelectasis", "pleural thickening",
    "aortic atheromatosis", "Support Devices", "alveolar pattern", "fracture", "Hernia", "Emphysema", "azygos lobe",
    "Hydropneumothorax", "Kyphosis", "Mass", "Pneumothorax", "Subcutaneous Emphysema", "pneumoperitoneo",
    "vascular hilar enlargement", "vertebral degenerative changes", "hyperinflated lung", "interstitial pattern",
    "central venous catheter", "hypoexpansion", "bronchiectasis", "hemidiaphragm elevation", "sternotomy",
    "calcified densities",
)  # fmt: skip
UNSEEN = ("Scoliosis", "Osteopenia", "Bulla", "Infarction", "Adenopathy", "goiter")
STANDS_FOR = {
    "aortic elongation": "aortic_enlargement", "alveolar pattern": "consolidation", "interstitial pattern": "edema",
    "hyperinflated lung": "emphysema", "Bulla": "emphysema", "Scoliosis": "pleural_thickening",
}  # fmt: skip
"""The phantom has none of these; its own finding stands for each, so that there is something to score."""


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one image; those of the validation split are training images, as none is published."""
    rows: dict[str, list[list[object]]] = {"training": [], "TEST_ALL_TASK1": [], "TEST_ALL_TASK2": []}
    for case in cases:
        if case.split == "test":
            name = f"{case.patient:08d}_{case.number:03d}.png"
            case.picture(out / f"images_{case.number % 12 + 1:03d}" / "images" / name)
            rows["TEST_ALL_TASK1"].append([name, *_cells(case, KNOWN)])
            rows["TEST_ALL_TASK2"].append([name, *_cells(case, UNSEEN)])
            continue
        name = f"{2_168_408 + case.number}_{case.patient}.png"
        case.picture(out / str(case.number % 3) / name)
        rows["training"].append([name, 20_100_101 + case.number, 900_000 + case.patient, *_cells(case, KNOWN)])
    write_csv(out / "CXRLT_2026_training.csv", ["ImageID", "StudyDate_DICOM", "PatientID", *KNOWN], rows["training"])
    for name, labels in (("TEST_ALL_TASK1", KNOWN), ("TEST_ALL_TASK2", UNSEEN)):
        write_csv(out / f"CXRLT_2026_{name}.csv", ["ImageID", *labels], rows[name])


def _cells(case: Case, labels: tuple[str, ...]) -> list[int]:
    return [
        int(STANDS_FOR[label] in case.findings if label in STANDS_FOR else case.has("cxr_lt_2026", label))
        for label in labels
    ]
