"""A CT series as a folder of DICOM slices: which files belong to it, their order in space, their Hounsfield units.

The geometry is that of the image plane module (PS3.3 C.7.6.2): ImageOrientationPatient holds the directions of a row
and of a column, PixelSpacing the distance between rows first. Neither file names nor InstanceNumber are looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from data_modules.dicom import MAX_BYTES, SUFFIXES, check_deflated, one_file, padding_mask, stored_values
from data_modules.dicom_form import PIXEL_ELEMENTS, pixel_form
from data_modules.dicom_header import numbers, shown
from data_modules.dicom_kind import is_ct_slice, is_directory
from data_modules.dicom_patient import PATIENT, check_one_patient, said
from data_modules.errors import InputError, OtherKind
from data_modules.evenness import check_shear, is_even

MAX_VOXELS = 1_000_000_000
"""Twice the largest chest CT; keeps a forged header from filling the memory."""
PADDING = -32768
"""Marks a voxel that holds no image, before it becomes air."""
MULTI_FRAME = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
HEADER_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "SeriesInstanceUID", "Rows", "Columns", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient", "NumberOfFrames", "SamplesPerPixel", "RescaleSlope",
    "RescaleIntercept", *PATIENT, "StudyInstanceUID", "FrameOfReferenceUID",
]  # fmt: skip
SAME_PLACE_MM = 0.01
ON_ITS_WAY = (".part", ".partial", ".tmp", ".crdownload")
"""what programs put behind the name of a file that has not arrived"""


@dataclass(frozen=True)
class _Slice:
    """The header of one slice; lengths in mm, directions in DICOM's patient axes (Left, Posterior, Superior)."""

    path: Path
    where: str
    series: str
    instance: str
    shape: tuple[int, int]
    """Rows, columns."""
    pixel: NDArray[np.float64]
    """[2]: distance between rows, between columns."""
    axes: NDArray[np.float64]
    """[2, 3]: direction in which the column index grows, in which the row index grows."""
    origin: NDArray[np.float64]
    """[3]: centre of the first pixel."""
    scaled: bool
    """Whether the header has a slope or an intercept."""
    header: Dataset
    """HEADER_TAGS"""


def read_series(
    folder: Path, where: str, rescale: tuple[float, float] | None = None
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return the HU of the one CT series in a folder, int16 [columns, rows, slices], and its affine [4, 4] in RAS mm.

    Files of other kinds, objects that are no CT slice (reports, segmentations, radiographs) and localizers are left
    out, copies of a slice read once; subfolders are not entered. `rescale`: slope and intercept in place of the slices'
    own. Padding comes back as `PADDING`.
    A gantry tilt is told in the log and read as it is, positions that an export has rounded are read (`evenness`).
    InputError: no or several series, multi-frame files, damaged files (a slice is not dropped silently), slices of two
    patients or studies, or that differ in size, direction or scale, share a place, leave a gap or are shifted against
    each other.
    """
    slices, others = _headers(folder, where)
    if not slices:
        held = "the folder holds no CT slices"
        raise OtherKind(f"{where}: {held} ({others} other files); name the folder of a series", held)
    count = len({one.series for one in slices})
    if count > 1:
        raise InputError(f"{where}: the folder holds {count} CT series; name the folder of one of them")
    slices, distance = _in_order(slices, where)
    first = slices[0]
    if len(slices) * first.shape[0] * first.shape[1] > MAX_VOXELS:
        raise InputError(f"{where}: the series has more than {MAX_VOXELS} voxels; not read")
    hu = np.empty((len(slices), *first.shape), dtype=np.int16)
    for index, one in enumerate(slices):
        hu[index] = _plane(one, rescale)
    affine = np.eye(4)
    affine[:3, 0] = first.axes[0] * first.pixel[1]
    affine[:3, 1] = first.axes[1] * first.pixel[0]
    affine[:3, 2] = _normal(first) * distance
    affine[:3, 3] = first.origin
    return hu.T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def slice_files(folder: Path, where: str) -> list[Path]:
    """Return the files of the slices that `read_series` reads, along their normal; InputError as there."""
    return [one.path for one in _in_order(_headers(folder, where)[0], where)[0]]


def _headers(folder: Path, where: str) -> tuple[list[_Slice], int]:
    """The CT slices of a folder and the number of other files."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not paths and any(path.is_dir() for path in folder.iterdir()):
        raise InputError(f"{where}: the folder holds folders only; name the folder of a series")
    names = {path: f"{where}: file {index} of {len(paths)} by name" for index, path in enumerate(paths, 1)}
    found = {path: _header(path, name) for path, name in names.items() if _is_dicom(path)}
    slices = [one for one in found.values() if one is not None]
    patterns, suffixes = {_pattern(one.path) for one in slices}, {_suffix(one.path) for one in slices} - {None}
    for path in paths:
        if path not in found and (_pattern(path) in patterns or (_suffix(path) in suffixes and _is_empty(path))):
            raise InputError(f"{names[path]} is no DICOM file, but may have been a slice; fetch it again or remove it")
    return slices, len(paths) - len(slices)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM" or path.suffix.lower() in SUFFIXES


def _pattern(path: Path) -> str:
    """The name of a file without its numbers, of which hashes and UUIDs are one."""
    name = re.sub(r"(?<![a-z])(?=[a-f-]*\d)[0-9a-f]{6,}(-[0-9a-f]{4,})*", "0", path.name.lower())
    return re.sub(r"\d+", "0", name)


def _suffix(path: Path) -> str | None:
    """The suffix of a file without digits, as UIDs end in them; None for a word alone, such as DONE or README."""
    path = path.with_suffix("") if path.suffix.lower() in ON_ITS_WAY else path
    return path.suffix.lower().strip(".0123456789") or ("" if re.search(r"\d", path.name) else None)


def _is_empty(path: Path) -> bool:
    """Whether nothing has arrived of a file: it has no bytes, or zeros for them."""
    with path.open("rb") as stream:
        return not stream.read(1 << 12).strip(b"\0")


def _header(path: Path, where: str) -> _Slice | None:
    """None for what is no CT slice."""
    with one_file(where):
        dataset = _load(path, where, header_only=True)
        if dataset.get("SOPClassUID") in MULTI_FRAME:
            raise InputError(f"{where} is a multi-frame CT; convert it to one file a slice, or to NIfTI")
        if is_directory(dataset):
            return None
        if not dataset.get("SOPClassUID") and not is_ct_slice(dataset):
            raise InputError(f"{where} is no DICOM file, or its header is damaged")
        if dataset.get("SOPClassUID") not in (CTImageStorage, None, "") or "LOCALIZER" in _words(dataset, "ImageType"):
            return None
        if (numbers(dataset, "NumberOfFrames", where) or [1]) != [1] or (
            numbers(dataset, "SamplesPerPixel", where) or [1]
        ) != [1]:
            raise InputError(f"{where} holds several frames or colours where a CT slice has one")
        return _Slice(
            path, where, str(dataset.get("SeriesInstanceUID") or ""), str(dataset.get("SOPInstanceUID") or path),
            (int(dataset.Rows), int(dataset.Columns)), np.array(numbers(dataset, "PixelSpacing", where, 2)),
            _directions(dataset, where), np.array(numbers(dataset, "ImagePositionPatient", where, 3)),
            "RescaleSlope" in dataset or "RescaleIntercept" in dataset, dataset,
        )  # fmt: skip


def _words(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an element of text, however many."""
    value = dataset.get(keyword) or ()
    return [str(part).strip().upper() for part in (value.split("\\") if isinstance(value, str) else value)]


def _load(path: Path, where: str, header_only: bool) -> Dataset:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{where} has {size >> 20} MiB; CT slices up to {MAX_BYTES >> 20} are read")
    data = path.read_bytes()
    check_deflated(data, where)
    tags: list[Any] | None = HEADER_TAGS if header_only else None
    return dcmread(BytesIO(data), force=True, stop_before_pixels=header_only, specific_tags=tags)


def _directions(dataset: Dataset, where: str) -> NDArray[np.float64]:
    found = numbers(dataset, "ImageOrientationPatient", where, 6)
    axes = np.array(found).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=0.01):
        raise InputError(
            f"{where}: ImageOrientationPatient holds {shown(found)}, no two perpendicular directions of length 1"
        )
    return axes


def _normal(one: _Slice) -> NDArray[np.float64]:
    return np.cross(one.axes[0], one.axes[1])


def _in_order(slices: list[_Slice], where: str) -> tuple[list[_Slice], float]:
    """The slices along their normal, copies dropped, and their distance in mm."""
    # By place too: some exports give all slices one UID.
    slices = list({(one.instance, *np.round(one.origin, 3)): one for one in slices}.values())
    first = slices[0]
    headers = [one.header for one in slices]
    check_one_patient(headers, where)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        count = len(said(headers, keyword) - {""})
        filled = sum(said([header], keyword) != {""} for header in headers)
        # One that is drawn anew for each file, as some anonymisers do, says nothing of what belongs together.
        if count > 1 and not (first.series and count == filled > 2):
            raise InputError(f"{where}: the slices differ in {keyword}; leave those of one scan in the folder")
    for one in slices:
        if one.shape != first.shape or not np.allclose(one.pixel, first.pixel, rtol=1e-3, atol=0):
            raise InputError(f"{where}: the slices differ in their number of pixels or in PixelSpacing")
        if not np.allclose(one.axes, first.axes, atol=1e-3):
            raise InputError(f"{where}: the slices differ in ImageOrientationPatient")
        if one.scaled != first.scaled:
            raise InputError(f"{where}: some slices have RescaleSlope or RescaleIntercept, others not; complete them")
    if len(slices) < 2:
        raise InputError(f"{where}: the folder holds one CT slice; a volume has at least two")
    places = np.array([one.origin @ _normal(first) for one in slices])
    order = np.argsort(places)
    places = places[order]
    gaps = np.diff(places)
    same = np.flatnonzero(gaps < SAME_PLACE_MM)
    if same.size:
        raise InputError(f"{where}: {same.size} slices lie where another lies, the first at {places[same[0]]:.1f} mm")
    origins = np.array([slices[index].origin for index in order])
    if not is_even(origins, _normal(first)):
        usual = float(np.median(gaps))
        worst = int(np.argmax(np.abs(gaps - usual)))
        raise InputError(
            f"{where}: slices are missing or unevenly spaced: {gaps[worst]:.2f} mm between two of them at "
            f"{places[worst]:.1f} mm, {usual:.2f} mm between most"
        )
    check_shear(origins, first.axes, max(first.pixel), where)
    return [slices[index] for index in order], float(gaps.mean())


def _plane(one: _Slice, rescale: tuple[float, float] | None) -> NDArray[np.int16]:
    """HU of a slice, int16 [rows, columns]."""
    with one_file(one.where):
        dataset = _load(one.path, one.where, header_only=False)
        if not any(element in dataset for element in PIXEL_ELEMENTS):
            raise InputError(f"{one.where} has no pixel data")
        stored = stored_values(dataset, pixel_form(dataset, one.where), one.where)
        if stored.shape != one.shape:
            raise InputError(f"{one.where} holds {list(stored.shape)} pixels, its header says {list(one.shape)}")
        padding = padding_mask(stored, dataset, one.where)
        if rescale is None:
            slope, intercept = (
                numbers(dataset, keyword, one.where, 1)[0] if keyword in dataset else neutral
                for keyword, neutral in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
            )
            if slope == 0:
                raise InputError(f"{one.where}: RescaleSlope holds 0; correct the header")
            rescale = slope, intercept
    hu = scaled(stored, *rescale, one.where)
    if padding is not None:
        hu[padding] = PADDING
    return hu


def scaled(stored: NDArray[Any], slope: float, intercept: float, where: str) -> NDArray[np.int16]:
    """Return stored * slope + intercept, rounded and held in the range of int16, in the shape of `stored`.

    InputError for a result that is not finite.
    """
    values = stored.astype(np.float64) * slope + intercept
    if not np.isfinite(values).all():
        raise InputError(f"{where}: holds voxels that are no finite numbers")
    return np.rint(np.clip(values, -32768, 32767)).astype(np.int16)
