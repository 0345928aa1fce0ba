"""Which files are slices of a CT, which are read together, by their folder; and which folders share one series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydicom import dcmread

from data_modules.dicom import SUFFIXES
from data_modules.dicom_header import numbers, raw
from data_modules.dicom_kind import is_ct_slice
from data_modules.errors import InputError

PICTURES = (".png", ".jpg", ".jpeg", ".nii", ".nii.gz", ".npz")
"""what is not looked into"""
SERIES = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
TAGS = ["SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "ImagePositionPatient", *SERIES]


class Member(NamedTuple):
    """What the header of a slice says of its series; empty texts where it says nothing."""

    series: tuple[str, ...]
    """values of SERIES"""
    place: str
    instance: str


def member(path: Path) -> Member | None:
    """Return what a slice of a CT belongs to, None for any other file; a localizer names no series."""
    if path.name.lower().endswith(PICTURES):
        return None
    try:
        forced = path.suffix.lower() in SUFFIXES
        dataset = dcmread(path, force=forced, stop_before_pixels=True, specific_tags=list(TAGS))
        if not is_ct_slice(dataset):
            return None
    except Exception:  # pydicom promises no exception type; what is wrong with the file is told when it is read
        return None
    patient, study, series, instance = (
        str(raw(dataset, keyword) or "").strip(" \0") for keyword in (*SERIES, "SOPInstanceUID")
    )
    if "LOCALIZER" in str(raw(dataset, "ImageType")).upper():
        series = ""
    try:
        place = str(numbers(dataset, "ImagePositionPatient", ""))
    except InputError:  # told when it is read
        place = ""
    return Member((patient, study, series), place, instance)


def parts_and_copies(members: Mapping[Path, Member]) -> tuple[dict[Path, Path], list[Path]]:
    """Return each folder that lacks slices of its series with another that has them, and the folders with copies.

    Scans that an export has given one UID, which have two slices at one place, are not parts of each other.

    Args:
        members: file -> what `member` returned.
    """
    found: dict[tuple[str, ...], dict[Path, dict[str, str]]] = {}
    for path, one in members.items():
        if one.series[-1]:
            found.setdefault(one.series, {}).setdefault(path.parent, {})[one.place] = one.instance
    parts, copies = dict[Path, Path](), list[Path]()
    for folders in found.values():
        slices = {pair for held in folders.values() for pair in held.items()}
        if len(slices) > len({place for place, _ in slices}):
            continue
        whole = [folder for folder, held in folders.items() if len(held) == len(slices)]
        copies += whole[1:]
        for folder, own in folders.items():
            if folder not in whole:
                parts[folder] = next(other for other, held in folders.items() if held.keys() - own.keys())
    return parts, copies
