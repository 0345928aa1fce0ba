"""MIMIC-CXR-JPG 2.1.0 with the reports as their zip, and MS-CXR's phrases of its test studies beside it.

Traps: split "validate", labels per study (a few studies without any), blanks that are no zeros, uncertain labels,
"No Finding" only 1 or blank, radiologist labels of a part of the test studies with "Airspace Opacity" in another order,
laterals, images without a view, tables in another order than the split, a study without a report, reports without
an impression or without any known heading, a report that repeats its impression, de-identification marks; a phrase
with two boxes in two rows that do not follow each other, one split for all phrases.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from data_modules.phantom.layouts.case import Case, write_csv

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
RADIOLOGIST_LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Airspace Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
PHRASES = "MS_CXR_Local_Alignment_v1.1.0.csv"
PHRASE_HEADER = (
    "dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "split",
)  # fmt: skip
CATEGORIES = {
    "atelectasis": "Atelectasis", "cardiomegaly": "Cardiomegaly", "consolidation": "Consolidation", "edema": "Edema",
    "pleural_effusion": "Pleural Effusion", "pneumothorax": "Pneumothorax",
}  # fmt: skip
"""Finding -> category of MS-CXR, of those that the phantom has."""
SPLITS = {"train": "train", "val": "validate", "test": "test"}
VIEWS = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral", "": ""}


def write(cases: list[Case], out: Path) -> None:
    """Write every study with its frontal image, each sixth with a lateral one, each twentieth with one of no view."""
    splits, metadata, chexpert, radiologist, phrases = [], [], [], [], []
    with zipfile.ZipFile(out / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for case in cases:
            subject = 10_000_000 + case.patient * 1_234_567 % 10_000_000
            study = 50_000_000 + (case.number + 1) * 7_654_321 % 10_000_000
            place = f"files/p{subject // 1_000_000}/p{subject}/s{study}"
            extra = ["LATERAL"] if case.number % 6 == 2 else [""] if case.number % 20 == 5 else []
            for view in (case.view, *extra):
                image = _identifier(f"{study} {view}")
                case.picture(out / place / f"{image}.jpg")
                splits.append([image, study, subject, SPLITS[case.split]])
                metadata.append([image, subject, study, *_description(case, view)])
                if view == case.view and case.split == "test":
                    phrases += _phrases(case, image, f"{place}/{image}.jpg")
            if case.number % 17 != 4:
                # An entry of its own, since the archive would else hold the time of writing.
                entry = zipfile.ZipInfo(f"{place}.txt")
                archive.writestr(entry, _report(case), zipfile.ZIP_DEFLATED)
            if case.number % 25 != 24:
                chexpert.append([subject, study, *(_coded(case, label) for label in LABELS)])
            if case.split == "test" and case.number % 3:
                radiologist.append([study, *(_coded(case, label) for label in RADIOLOGIST_LABELS)])
    write_csv(out / "mimic-cxr-2.0.0-split.csv.gz", ["dicom_id", "study_id", "subject_id", "split"], splits)
    write_csv(out / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA, sorted(metadata))
    write_csv(out / "mimic-cxr-2.0.0-chexpert.csv.gz", ["subject_id", "study_id", *LABELS], sorted(chexpert))
    write_csv(out / "mimic-cxr-2.1.0-test-set-labeled.csv", ["study_id", *RADIOLOGIST_LABELS], radiologist)
    write_csv(out / PHRASES, PHRASE_HEADER, sorted(phrases, key=lambda row: str(row[4])))


def _identifier(text: str) -> str:
    """Five groups of eight hexadecimal digits."""
    digits = hashlib.sha256(text.encode()).hexdigest()
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


def _description(case: Case, view: str) -> list[object]:
    """The metadata after the three identifiers."""
    rows, columns = case.gray.shape
    step, pose = ("CHEST (PORTABLE AP)", "Recumbent") if case.view == "AP" else ("CHEST (PA AND LAT)", "Erect")
    return [step, view, rows, columns, 21_800_101 + case.number, "101530.125", step, VIEWS[view], pose if view else ""]


def _phrases(case: Case, image: str, path: str) -> list[list[object]]:
    """A row for each box of each phrase of a frontal image."""
    height, width = case.gray.shape
    return [
        [image, CATEGORIES[finding], text, path, x, y, right - x, bottom - y, width, height, "train"]
        for finding, text in case.phrases().items() if finding in CATEGORIES
        for x, y, right, bottom in case.marks[finding]
    ]  # fmt: skip


def _coded(case: Case, label: str) -> str:
    """A label may be blank, and one positive in ten is uncertain."""
    if case.has("chexpert", label):
        return "-1.0" if case.number % 10 == 7 and label != "No Finding" else "1.0"
    return "0.0" if label != "No Finding" and (case.number + len(label)) % 3 else ""


def _report(case: Case) -> str:
    """The report as the hospital prints it; "Findings:" and "Impression:" of the phantom become its headings."""
    opening, _, rest = case.report.partition("Findings:")
    findings, _, impression = rest.partition("Impression:")
    if case.number % 20 == 11:
        body = f"{findings.strip()} {impression.strip()}"
    elif case.number % 8 == 3:
        body = f"FINDINGS:  {findings.strip()} {impression.strip()}"
    else:
        body = f"FINDINGS: \n \n {findings.strip()}\n \n IMPRESSION: \n \n {impression.strip()}"
    if case.number % 30 == 12:
        body = body.replace("IMPRESSION:", "IMPRESSION:  As above.\n \n IMPRESSION:")
    head = (
        f"EXAMINATION:  {opening.strip() or 'CHEST'}\n \n INDICATION:  ___{case.sex} with ___.\n \n COMPARISON:  None."
    )
    return f"{'FINAL REPORT':>45}\n {head}\n \n {body}\n"
