"""SIIM-ACR Pneumothorax, stage 1.

Traps: a blank before the second column's name and before its cells, -1 with and without that blank, several masks of
one image in rows far apart, an image without a row, a row without an image, three levels of UIDs, no patient, no split.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from data_modules.phantom.layouts.case import Case, write_csv, write_marks_size

UID = "1.2.276.0.7230010.3.1"
"""Root of the UIDs of the release; study, series and image go on with 2, 3 and 4."""


def write(cases: list[Case], out: Path) -> None:
    """Write every study; its split is lost, as the release has none."""
    first: list[list[str]] = []
    more: list[list[str]] = []
    for case in cases:
        study, series, image = (f"{UID}.{level}.8323329.{n}" for level, n in _numbers(case))
        place = out / "dicom-images-train" / study / series / f"{image}.dcm"
        place.parent.mkdir(parents=True)
        shutil.copyfile(case.image, place)
        if case.number == 4:
            continue
        if case.has("siim", "mask present"):
            first.append([image, f" {_mask(case, 0.2)}"])
            if case.number % 2:
                more.append([image, f" {_mask(case, 0.7)}"])
        else:
            first.append([image, "-1" if case.number % 3 else " -1"])
    more.append([f"{UID}.4.8323329.0", " -1"])
    write_csv(out / "train-rle.csv", ["ImageId", " EncodedPixels"], first + more)
    write_marks_size(cases, out)


def _numbers(case: Case) -> list[tuple[int, int]]:
    """Level and number of the study, series and image; images of one patient share their study folder."""
    return [(2, case.patient), (3, case.number + 1), (4, case.number + 1)]


def _mask(case: Case, across: float) -> str:
    """A box of a tenth of the width and height, a fifth from the top: pairs of gap and run, column by column."""
    height, width = case.gray.shape
    run = height // 10
    start = int(across * width) * height + height // 5
    return " ".join([f"{start} {run}"] + [f"{height - run} {run}"] * (width // 10 - 1))
