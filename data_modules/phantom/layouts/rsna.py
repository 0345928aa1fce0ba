"""RSNA Pneumonia, stage 2, with the DICOM files of the phantom (12 bits; RSNA's have 8).

Traps: a row per box in both tables, blank boxes, the two tables in different order, images that are neither normal nor
opaque, several images of one patient under names that do not tell so, test images without labels.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from data_modules.phantom.layouts.case import Case, write_csv, write_marks_size


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one image; the split is left to the reader. Each second opaque image has two boxes.

    They lie at a place of their own, not where the opacity is.
    """
    boxes: list[list[object]] = []
    classes: list[list[object]] = []
    for folder in ("stage_2_train_images", "stage_2_test_images"):
        (out / folder).mkdir(parents=True)
    for case in cases:
        name = _name(case.number)
        shutil.copyfile(case.image, out / "stage_2_train_images" / f"{name}.dcm")
        rows = 2 if case.has("rsna", "Lung Opacity") and case.number % 2 else 1
        classes += [[name, _kind(case)]] * rows
        for box in range(rows):
            place: list[float | str] = [""] * 4
            if case.has("rsna", "Lung Opacity"):
                height, width = case.gray.shape
                place = [(0.1 + 0.4 * box) * width, 0.3 * height, 0.2 * width, 0.25 * height]
            boxes.append([name, *place, int(case.has("rsna", "Lung Opacity"))])
    shutil.copyfile(cases[0].image, out / "stage_2_test_images" / f"{_name(len(cases))}.dcm")
    write_csv(out / "stage_2_train_labels.csv", ["patientId", "x", "y", "width", "height", "Target"], boxes)
    write_csv(out / "stage_2_detailed_class_info.csv", ["patientId", "class"], classes[::-1])
    write_marks_size(cases, out)


def _name(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"phantom {number}"))


def _kind(case: Case) -> str:
    if case.has("rsna", "Lung Opacity"):
        return "Lung Opacity"
    return "Normal" if case.has("rsna", "Normal") else "No Lung Opacity / Not Normal"
