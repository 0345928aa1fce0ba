"""PadChest as BIMCV gives it: one table, numbered image folders, 16-bit PNG, Spanish reports; PadChest-GR's phrases.

Traps: an unnamed first column, labels as Python lists with leading blanks and repeated, blank labels and reports,
`exclude` and `suboptimal study`, laterals, folder 54 after 50, 12 bits in 16, a year of birth as a decimal number or
none, a test patient who also has a row of the network's. One device in three is also a rare term of its own. Among the
phrases, which are of test studies, are sentences on normal images without a box.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantom.layouts.case import Case, write_csv

HEADER = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "ReportID", "Report", "MethodLabel", "Labels",
    "Localizations", "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip
WORDS = {
    "cardiomegaly": ("cardiomegaly", "cardiomegali"),
    "pleural_effusion": ("pleural effusion", "derram pleural"),
    "pneumothorax": ("pneumothorax", "neumotorax"),
    "consolidation": ("consolidation", "consolid"),
    "edema": ("pulmonary edema", "edem pulmon"),
    "nodule": ("nodule", "nodul pulmon"),
    "atelectasis": ("laminar atelectasis", "atelectasi lamin"),
    "emphysema": ("emphysema", "enfisem"),
    "support_devices": ("central venous catheter", "cateter venos central"),
    "aortic_enlargement": ("aortic elongation", "elong aortic"),
    "pleural_thickening": ("apical pleural thickening", "engros pleural apical"),
    "mass": ("mass", "mas pulmon"),
    "tuberculosis": ("tuberculosis", "tuberculosi"),
    "hiatal_hernia": ("hiatal hernia", "herni hiat"),
}  # fmt: skip
"""Finding -> label, and the stemmed words of the report."""
FOLDERS = (0, 1, 50, 54)
PHRASES = "grounded_reports_20240819.json"


def write(cases: list[Case], out: Path) -> None:
    """Write every study with its frontal image; each seventh also has a lateral one."""
    rows: list[list[object]] = []
    phrases: list[dict[str, object]] = []
    mixed = next((case.patient for case in cases if case.split == "test"), 0)
    for case in cases:
        method = "Physician" if case.split == "test" else "RNN_model"
        rows.append(_row(case, case.number, case.view, method, out))
        if case.split == "test":
            phrases.append({"StudyID": rows[-1][3], "ImageID": rows[-1][0], "findings": _findings(case)})
        if case.number % 7 == 0:
            rows.append(_row(case, case.number, "L", method, out))
        if case.patient == mixed:
            mixed = 0
            rows.append(_row(case, 90_000, case.view, "RNN_model", out))
    table = [[i, *row] for i, row in enumerate(rows)]
    write_csv(out / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", HEADER, table)
    (out / PHRASES).write_text(json.dumps(phrases, ensure_ascii=False), encoding="utf-8")


def _findings(case: Case) -> list[dict[str, object]]:
    """The phrases of an image, each with its boxes as shares of width and height; of a normal one a phrase without."""
    height, width = case.gray.shape
    found: list[dict[str, object]] = [
        {
            "sentence_en": text, "sentence_es": WORDS[finding][1], "abnormal": True, "labels": [WORDS[finding][0]],
            "locations": [], "extra_boxes": [],
            "boxes": [[x / width, y / height, right / width, bottom / height]
                      for x, y, right, bottom in case.marks[finding]],
        }
        for finding, text in case.phrases().items()
    ]  # fmt: skip
    normal = {"sentence_en": "No abnormality is seen.", "sentence_es": "sin hallazg patolog", "abnormal": False}
    return found or [{**normal, "labels": ["Normal"], "locations": [], "boxes": [], "extra_boxes": []}]


def _row(case: Case, study: int, view: str, method: str, out: Path) -> list[object]:
    """One image of the study numbered `study`, which is drawn, and its row without the first cell."""
    name, folder = (
        f"21684011136696401{study:06d}_{'04-014-084' if view == 'L' else '00-163-080'}.png",
        FOLDERS[study % 4],
    )
    place = out / str(folder) / name
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(case.gray.astype(np.uint16) * 16).save(place)
    labels = [WORDS[finding][0] for finding in sorted(case.findings)] or ["normal"]
    if case.number % 4 == 1:
        labels = [labels[0], *(f" {label}" for label in labels)]
    if "support_devices" in case.findings and case.number % 3 == 0:
        labels.append("dual chamber device")
    labels += {5: ["suboptimal study"], 11: ["exclude"]}.get(case.number, [])
    text = " . ".join(WORDS[finding][1] for finding in sorted(case.findings)) or "sin hallazg patolog"
    birth = "" if case.number == 3 else f"{2012 - case.age}.0"
    return [
        name, folder, "20120614", f"2168401113669640{study:06d}", f"8{case.patient:05d}", birth, case.sex,
        {"PA": "POSTEROANTERIOR", "L": "LATERAL"}.get(view, ""), view, "Manual review of DICOM fields", "No",
        4_765_777 + study, "" if case.number == 9 else f"{text} .", method, "" if case.number == 2 else repr(labels),
        "[]", "[]", "[]", "[]",
    ]  # fmt: skip
