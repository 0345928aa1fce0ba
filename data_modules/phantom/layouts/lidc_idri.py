"""LIDC-IDRI: DICOM series with the XML of their readers; the phantom's splits are lost, as the release has none.

Traps: two ways of nesting; files in the reverse of their order in space; annotations beside their series or in a
folder of their own, one resubmitted beside its original; a radiograph of the same patient, with an annotation file of
another kind; a series without annotation; one to four readers who outline a nodule, smaller nodules marked by a point,
findings that are no nodules; ratings of malignancy from 1 to 5, some of them not given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from data_modules.phantom.layouts.case import Case
from data_modules.phantom.layouts.ct_rate import hounsfield

ROOT = "1.3.6.1.4.1.14519.5.2.1.6279.6001"
RATINGS = (("5", "4", "4", "5"), ("1", "2", "1", "1"), ("3", "3", "", "3"), ("2", "4", "5", ""))
"""Of the four readers, by the number of the study."""
POINTS = ((10, 10), (11, 10), (11, 11), (10, 11))


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one series; each fifth patient also has a radiograph."""
    for case in cases:
        patient = f"LIDC-IDRI-{case.patient:04d}"
        study, series = (f"{ROOT}.{level}.{case.number + 1}" for level in (1, 2))
        if case.number % 2:
            parts = ["01-01-2000-NA-NA-30178", f"3000566.000000-NA-{case.number:05d}"]
        else:
            parts = [study, series]
        folder = out / "LIDC-IDRI" / patient / Path(*parts)
        _series(case, folder, patient, series)
        apart = out / "tcia-lidc-xml" / "185"
        place = (apart if case.number % 3 == 0 else folder) / f"{case.number:03d}.xml"
        if case.number == 3:  # as the nodules were before the correction
            _save(place.with_name(f"{case.number:03d}-resubmitted-correction.xml"), _annotation(case, series))
            _save(place, _read_message(series, ["", "", "", ""]))
        elif case.number != 6:
            _save(place, _annotation(case, series))
        if case.patient % 5 == 1:
            other = f"{ROOT}.3.{case.number + 1}"
            _radiograph(folder.parent / "radiograph", patient, other)
            _save(folder.parent / "radiograph" / "000.xml", _radiograph_message(series, other))


def _series(case: Case, folder: Path, patient: str, series: str) -> None:
    """One file a slice, the last of them lowest."""
    folder.mkdir(parents=True)
    hu, affine = hounsfield(case)
    x, y, z = affine[0, 0], affine[1, 1], affine[2, 2]
    right, front = (affine[:3, :3] @ [hu.shape[0] - 1, hu.shape[1] - 1, 0] + affine[:3, 3])[:2]
    for index in range(hu.shape[2]):
        number = hu.shape[2] - index
        stored = np.ascontiguousarray(hu[::-1, ::-1, index].T + 1024).clip(0).astype(np.uint16)
        image = _image(CTImageStorage, "CT", patient, series, number, stored)
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [_number(-right), _number(-front), _number(affine[2, 3] + index * z)]
        image.PixelSpacing, image.SliceThickness = [_number(y), _number(x)], _number(z)
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = "1", "-1024", "HU"
        image.save_as(folder / f"1-{number:03d}.dcm", enforce_file_format=True)


def _radiograph(folder: Path, patient: str, series: str) -> None:
    folder.mkdir(parents=True)
    shade = np.full((8, 8), 100, dtype=np.uint16)
    image = _image(DigitalXRayImageStorageForPresentation, "DX", patient, series, 1, shade)
    image.save_as(folder / "1-1.dcm", enforce_file_format=True)


def _image(kind: str, modality: str, patient: str, series: str, number: int, stored: np.ndarray) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = UID(kind)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = UID(f"{series}.{number}")
    image.Modality, image.PatientID, image.SeriesInstanceUID = modality, patient, series
    image.InstanceNumber = str(number)
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PixelData = stored.astype("<u2").tobytes()
    image["PixelData"].VR = "OW"
    return image


def _number(value: Any) -> str:
    """A decimal string of at most 16 characters."""
    return f"{float(value):.8g}"


def _annotation(case: Case, series: str) -> str:
    """Four sessions; where there is a nodule, 4, 3, 2 or 1 readers outline it."""
    marking = 4 - case.number % 4 if case.has("lidc_idri", "nodule >= 3 mm") else 0
    ratings = RATINGS[case.number // 4 % len(RATINGS)]
    small = _nodule("small", [(30, 30)], "")
    other = "<nonNodule><nonNoduleID>x</nonNoduleID><locus><xCoord>5</xCoord><yCoord>5</yCoord></locus></nonNodule>"
    sessions = [small + other] * 4
    for reader in range(marking):
        sessions[reader] += _nodule(f"IL{reader}", list(POINTS), ratings[reader])
    return _read_message(series, sessions)


def _nodule(name: str, points: list[tuple[int, int]], rating: str) -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    judged = f"<malignancy>{rating}</malignancy>" if rating else ""
    traits = f"<characteristics><subtlety>4</subtlety>{judged}</characteristics>" if len(points) > 1 else ""
    return (
        f"<unblindedReadNodule><noduleID>{name}</noduleID>{traits}<roi><imageZposition>-125.0</imageZposition>"
        f"<inclusion>TRUE</inclusion>{edges}</roi></unblindedReadNodule>"
    )


def _read_message(series: str, sessions: list[str]) -> str:
    found = "".join(
        f"<readingSession><annotationVersion>3.12</annotationVersion>{one}</readingSession>" for one in sessions
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage uid="1.3" xmlns="http://www.nih.gov"><ResponseHeader>'
        f"<SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>{found}</LidcReadMessage>\n"
    )


def _radiograph_message(series: str, other: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<IdriReadMessage xmlns="http://www.nih.gov/idri"><ResponseHeader>'
        f"<CTSeriesInstanceUid>{series}</CTSeriesInstanceUid><CXRSeriesInstanceUid>{other}</CXRSeriesInstanceUid>"
        "</ResponseHeader><CXRreadingSession/></IdriReadMessage>\n"
    )


def _save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
