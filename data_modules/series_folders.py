"""Which files are slices of a CT, which are read together, by their folder; and which folders share one series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from data_modules.dicom import SUFFIXES
from data_modules.dicom_header import numbers, raw
from data_modules.dicom_kind import is_ct_slice, kind
from data_modules.errors import InputError
from data_modules.evenness import is_even, lacks_little, on_one_line

PICTURES = (".png", ".jpg", ".jpeg", ".nii", ".nii.gz", ".npz")
"""what is not looked into"""
OWNERS = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")
"""what slices of one series share, unless it is blank"""
FORM = {"Rows": 1, "Columns": 1, "PixelSpacing": 2, "ImageOrientationPatient": 6}
"""what else they share, and how many numbers it holds"""
TAGS = [
    "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "ImagePositionPatient", "SeriesInstanceUID", *OWNERS,
    *FORM,
]  # fmt: skip
Place = tuple[float, ...]


class Member(NamedTuple):
    """What the header of a slice says of its series."""

    series: str
    """empty where it says nothing"""
    owners: tuple[str, ...] = ()
    """values of OWNERS"""
    instance: str = ""
    place: Place = ()
    """mm"""
    form: tuple[float, ...] = ()
    """values of FORM"""


def member(path: Path) -> Member | None:
    """Return what a slice of a CT belongs to, None for any other file.

    A localizer, a capture of the screen and a slice without a place, which is told when it is read, name no series.
    """
    if path.name.lower().endswith(PICTURES):
        return None
    try:
        forced = path.suffix.lower() in SUFFIXES
        dataset = dcmread(path, force=forced, stop_before_pixels=True, specific_tags=list(TAGS))
        if not is_ct_slice(dataset):
            return None
    except Exception:  # pydicom promises no exception type; what is wrong with the file is told when it is read
        return None
    if kind(dataset)[1] not in (CTImageStorage, "") or "LOCALIZER" in str(raw(dataset, "ImageType")).upper():
        return Member("")
    try:
        place = tuple(round(number, 3) for number in numbers(dataset, "ImagePositionPatient", "", 3))
        form = tuple(number for keyword, count in FORM.items() for number in numbers(dataset, keyword, "", count))
    except InputError:
        return Member("")
    series, instance, *owners = (
        str(raw(dataset, keyword) or "").strip(" \0") for keyword in ("SeriesInstanceUID", "SOPInstanceUID", *OWNERS)
    )
    return Member(series, tuple(owners), instance, place, form)


def parts_and_copies(members: Mapping[Path, Member]) -> tuple[dict[Path, Path], list[Path]]:
    """Return each folder that lacks slices of its series with another that has them, and the folders with copies.

    Scans that an export has given one UID are not parts of each other: they have two slices at one place, do not lie on
    one line, or share none and do not lie evenly as one, but for a few slices lost where they meet.

    Args:
        members: file -> what `member` returned.
    """
    series: dict[str, list[tuple[Path, Member]]] = {}
    for path, one in members.items():
        if one.series:
            series.setdefault(one.series, []).append((path.parent, one))
    parts, copies = dict[Path, Path](), list[Path]()
    for found in series.values():
        for group in _of_one_owner(found):
            folders: dict[Path, dict[Place, str]] = {}
            for folder, one in group:
                folders.setdefault(folder, {})[one.place] = one.instance
            if len(folders) > 1:
                for folder, other in _related(folders, np.array([one.form for _, one in group])):
                    if other is not None:
                        parts.setdefault(folder, other)
                    elif folder not in copies:
                        copies.append(folder)
    return parts, [folder for folder in copies if folder not in parts]


def _of_one_owner(found: list[tuple[Path, Member]]) -> Iterator[list[tuple[Path, Member]]]:
    """Slices under one series' UID by OWNERS, in which a blank matches anything, and so does a UID of each slice."""
    count = len({(one.instance, one.place) for _, one in found})
    columns = list(zip(*(one.owners for _, one in found), strict=True))
    said = [keyword == "PatientID" or len(set(of)) < count for keyword, of in zip(OWNERS, columns, strict=True)]
    by: dict[tuple[str, ...], list[tuple[Path, Member]]] = {}
    for folder, one in found:
        key = tuple(owner if says else "" for owner, says in zip(one.owners, said, strict=True))
        by.setdefault(key, []).append((folder, one))
    blank = any("" in key for key in by)  # else each key is like itself alone
    for key in by:
        others = by if blank else [key]
        alike = [other for other in others if all(a == b or not a or not b for a, b in zip(key, other, strict=True))]
        if not any(other.count("") < key.count("") for other in alike):
            yield [one for other in alike for one in by[other]]


def _related(folders: dict[Path, dict[Place, str]], forms: NDArray[np.float64]) -> Iterator[tuple[Path, Path | None]]:
    """Each folder that lacks slices, with one that has them, and each that holds those of an earlier one, with None."""
    slices = sorted({pair for held in folders.values() for pair in held.items()})
    places = np.array([place for place, _ in slices])
    if len(np.unique(places, axis=0)) < len(slices) or not np.allclose(forms, forms[0], rtol=1e-3, atol=1e-3):
        return
    normal = np.cross(*forms[0, -6:].reshape(2, 3))
    if not on_one_line(places, normal):
        return
    ordered = places[np.argsort(places @ normal)]
    # Slices may be lost where two parts meet.
    even = len(slices) > 1 and (is_even(ordered, normal) or lacks_little(np.diff(ordered @ normal), len(folders) - 1))
    if not even and len(slices) == sum(map(len, folders.values())):
        return
    earlier = set[frozenset[Place]]()
    for folder, own in folders.items():
        more = (other for other, held in folders.items() if held.keys() - own and (even or held.keys() & own))
        if (other := next(more, None)) or frozenset(own) in earlier:
            yield folder, other
        earlier.add(frozenset(own))
