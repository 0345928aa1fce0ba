"""CheXpert 5x200 as GLoRIA lists it, below the small release of CheXpert.

Traps: the listed images are rows of train.csv too, and their patients have others there; laterals; all fourteen
columns though five count, with labels outside the five beside one of them; paths that begin with a folder that is not
on disk.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_modules.phantom.layouts import chexpert
from data_modules.phantom.layouts.case import Case, write_csv

FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


def write(cases: list[Case], out: Path) -> None:
    """Write CheXpert with the test studies as training ones; those with one of the five alone are listed.

    Each fourth of these has a lateral view in the list too.
    """
    chexpert.write([replace(case, split="train") if case.split == "test" else case for case in cases], out)
    (out / "groundtruth.csv").unlink()  # no test studies are left
    studies: dict[int, int] = {}
    rows = []
    for case in cases:
        studies[case.patient] = studies.get(case.patient, 0) + 1
        found = [label for label in FIVE if case.has("chexpert", label)]
        if case.split != "test" or len(found) != 1:
            continue
        others = [label for label in chexpert.LABELS[1:] if label not in FIVE and case.has("chexpert", label)]
        labels = [float(label in (*found, *others)) for label in chexpert.LABELS]
        place = f"train/patient{case.patient:05d}/study{studies[case.patient]}"
        for number, view in enumerate(["frontal", "lateral"][: 2 - (case.number % 4 > 0)], start=1):
            name = f"{place}/view{number}_{view}.jpg"
            case.picture(out / name)
            rows.append([f"CheXpert-v1.0/{name}", *labels, case.report])
    write_csv(out / "chexpert_5x200.csv", ["Path", *chexpert.LABELS, "Report Impression"], rows)
