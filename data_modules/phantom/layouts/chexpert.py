"""CheXpert's small release with the labels of its test set and the reports of CheXpert Plus.

Traps: `Path` begins with a folder that is not on disk, a blank AP/PA with laterals, blanks that are no zeros,
uncertain labels, "No Finding" only 1 or blank, another order of columns in the test labels, an unknown sex.
"""

from __future__ import annotations

from pathlib import Path

from data_modules.phantom.layouts.case import Case, write_csv

PREFIX = "CheXpert-v1.0-small"
LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
TEST_LABELS = (*LABELS[:3], "Lung Lesion", "Lung Opacity", *LABELS[5:])
FOLDERS = {"train": "train", "val": "valid", "test": "test"}


def write(cases: list[Case], out: Path) -> None:
    """Write every study with its frontal image; each fifth training study also has a lateral one."""
    studies: dict[int, int] = {}
    rows: dict[str, list[list[object]]] = {"train": [], "val": []}
    truth: list[list[object]] = []
    reports: list[list[object]] = []
    for case in cases:
        studies[case.patient] = studies.get(case.patient, 0) + 1
        place = f"{FOLDERS[case.split]}/patient{case.patient:05d}/study{studies[case.patient]}"
        case.picture(out / place / "view1_frontal.jpg")
        reports.append([f"{place}/view1_frontal.jpg", f"NARRATIVE:\n{case.report}"])
        if case.split == "test":
            truth.append([f"CheXpert-v1.0/{place}", *(int(case.has("chexpert", label)) for label in TEST_LABELS)])
            continue
        person = ["Unknown" if case.number == 3 else {"F": "Female", "M": "Male"}[case.sex], case.age]
        labels = [_coded(case, label) for label in LABELS]
        rows[case.split].append([f"{PREFIX}/{place}/view1_frontal.jpg", *person, "Frontal", case.view, *labels])
        if case.split == "train" and case.number % 5 == 0:
            case.picture(out / place / "view2_lateral.jpg")
            rows["train"].append([f"{PREFIX}/{place}/view2_lateral.jpg", *person, "Lateral", "", *labels])
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
    write_csv(out / "train.csv", header, rows["train"])
    write_csv(out / "valid.csv", header, rows["val"])
    write_csv(out / "groundtruth.csv", ["Study", *TEST_LABELS], truth)
    write_csv(out / "df_chexpert_plus_240401.csv", ["path_to_image", "report"], reports)


def _coded(case: Case, label: str) -> str:
    """Validation labels are 0 or 1; training labels may be blank, and one positive in ten is uncertain."""
    present = case.has("chexpert", label)
    if case.split == "val":
        return f"{float(present)}"
    if label == "No Finding":
        return "1.0" if present else ""
    if present:
        return "-1.0" if case.number % 10 == 7 else "1.0"
    return "0.0" if (case.number + len(label)) % 3 else ""
