"""NIH ChestX-ray14 in the folders of its tars.

Traps: two columns of the header hold commas in brackets and the last is empty, sex under its other name, images spread
over twelve folders that no table names, lists without a header, no validation list, findings outside the label set.
"""

from __future__ import annotations

from pathlib import Path

from data_modules.phantom.layouts.case import Case, write_csv

LABELS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one image; patients of the validation split go to train_val_list.txt."""
    visits: dict[int, int] = {}
    rows: list[list[object]] = []
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    for case in cases:
        visit = visits[case.patient] = visits.get(case.patient, -1) + 1
        name = f"{case.patient:08d}_{visit:03d}.png"
        case.picture(out / f"images_{case.number % 12 + 1:03d}" / "images" / name)
        words = [label for label in LABELS if case.has("nih", label)] or ["No Finding"]
        height, width = case.gray.shape
        person = [case.patient, case.age, case.sex, case.view]
        rows.append([name, "|".join(words), visit, *person, width, height, 0.143, 0.143, ""])
        lists["test_list.txt" if case.split == "test" else "train_val_list.txt"].append(name)
    write_csv(out / "Data_Entry_2017_v2020.csv", HEADER.split(","), rows)
    for file, names in lists.items():
        (out / file).write_text("\n".join(names) + "\n", encoding="utf-8")
