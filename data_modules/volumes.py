"""CT volumes from files to Hounsfield units: NIfTI, npz and DICOM series in.

A volume is held in nibabel's RAS+ order: the index of the first axis grows towards the patient's Right, of the second
towards Anterior (the front), of the third towards Superior (the head).
"""

from __future__ import annotations

import gzip
import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import Nifti1Header, Nifti2Header
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, io_orientation
from numpy.lib import format as npy
from numpy.typing import NDArray

from data_modules.dicom import one_file
from data_modules.dicom_series import MAX_VOXELS, read_series, scaled
from data_modules.errors import InputError

log = logging.getLogger(__name__)
# nibabel has a handler of its own, which writes to the screen what is then reported here or has been put right.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)

SUFFIXES = (".nii", ".nii.gz", ".npz")
SPACING_MM = (0.05, 50.0)
MAX_SIDE = 4096
"""Longest side of an axial image with square pixels."""
MAX_HEADER = 1 << 26
"""Bytes before the voxels of a NIfTI file; extensions may stand there."""
DEFLATE_MOST = 1032
"""A byte of deflate's output takes at least 1/1032 byte (RFC 1951: 258 bytes in 2 bits)."""
NPZ_SPACING_MM = 0.8

AIR_HU = -1024
PADDING_BELOW = -1500
"""No matter is thinner than air at -1000; scanners mark voxels outside their circle by -2000, -3024, -8192."""
LOOKS = {"air": (-1100, -700), "soft tissue": (-200, 200), "dense bone": (700, 1400)}
"""HU ranges for the check of the scale; air with well-aerated lung."""
LEAST_AIR, LEAST_SOFT, MOST_DENSE = 0.01, 0.03, 0.10

_Stored = tuple[NDArray[np.int16], NDArray[np.float64]]
"""HU with padding, int16 [i, j, k], and the affine [4, 4] to RAS mm."""


@dataclass(frozen=True)
class Volume:
    """A CT in Hounsfield units."""

    hu: NDArray[np.int16]
    """[X, Y, Z]; indices grow towards the patient's Right, Anterior, Superior. It may be a view, not contiguous."""
    spacing: tuple[float, float, float]
    """Distance of neighbouring voxels along X, Y, Z in mm."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of an axial image with square pixels; unequal sides of 1 % are taken for equal."""
        (columns, rows), (x, y) = self.hu.shape[:2], self.spacing[:2]
        least = min(x, y)
        if max(x, y) <= 1.01 * least:
            return columns, rows
        return max(1, round(columns * x / least)), max(1, round(rows * y / least))


def is_volume(path: Path | str) -> bool:
    """Return whether `read_volume` is for this path (.nii, .nii.gz, .npz, a folder); anything else is a picture."""
    return str(path).lower().endswith(SUFFIXES) or os.path.isdir(path)


def read_volume(path: Path, name: str | None = None, rescale: tuple[float, float] | None = None) -> Volume:
    """Return the CT of a NIfTI file, an npz file or the folder of a DICOM series.

    `rescale`: slope and intercept for the stored values, in place of those of the file (CT-RATE's first release has
    placeholders in its headers and the truth in a csv). Values below -1500 HU are padding and become air, -1024.
    Oblique volumes are turned to the closest axes, not resampled.

    NIfTI: one whose header gives no orientation (sform_code and qform_code 0) is taken to lie as DICOM slices do, axes
    towards Left, Posterior and Superior, with a warning in the log. So do the volumes of CT-RATE, whose first release
    has blank headers; nibabel itself would put the front behind.

    npz: RAD-ChestCT's layout, array `ct` (or the only array) [slices, rows, columns]: slices from head to feet, rows
    from front to back, columns from the patient's right to left; 0.8 mm apart, or as an array `spacing` says (3
    numbers, mm, same axes). So `preprocess_volumes.py` of github.com/rachellea/ct-volume-preprocessing makes it: slices
    sorted by falling position, ImageOrientationPatient required to be 1 0 0 0 1 0, axes turned to this order last.

    InputError, in one line that names `name` (default: the path): damaged or truncated, not 3-D, too large, spacing out
    of 0.05 to 50 mm, values that are not finite or not HU; for a series see `read_series`.
    """
    where = name or str(path)
    if rescale is not None and not (np.isfinite(rescale).all() and rescale[0] != 0):
        raise InputError(f"{where}: slope {rescale[0]} and intercept {rescale[1]} do not scale; give finite numbers")
    lower = str(path).lower()
    with one_file(where), np.errstate(all="ignore"):  # what overflows is found in the results
        if path.is_dir():
            hu, affine = read_series(path, where, rescale)
        elif lower.endswith((".nii", ".nii.gz")):
            hu, affine = _read_nifti(path, where, rescale)
        elif lower.endswith(".npz"):
            hu, affine = _read_npz(path, where, rescale)
        else:
            raise InputError(f"{where}: is neither .nii, .nii.gz, .npz nor the folder of a DICOM series")
        _check_hu(hu, where)
        hu[hu < PADDING_BELOW] = AIR_HU
        return _to_ras(hu, affine, where)


def _read_nifti(path: Path, where: str, rescale: tuple[float, float] | None) -> _Stored:
    size = path.stat().st_size
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as stream:
        start = stream.read(540)
        header = _nifti_header(start, where)
        shape, dtype = _nifti_grid(header, where), header.get_data_dtype()
        offset = int(header.get_data_offset())
        length = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if not header.sizeof_hdr <= offset <= MAX_HEADER:
            raise InputError(f"{where}: the header of the NIfTI file is damaged (voxels at byte {offset})")
        # Before the memory is taken: whether the file can hold what its header says.
        if offset + length > size * (DEFLATE_MOST if packed else 1):
            raise InputError(f"{where}: is truncated; its header names {length} bytes of voxels")
        stream.seek(0)
        data = stream.read(offset + length)
        while packed and stream.read(1 << 20):  # gzip compares its checksum at the end
            pass
    if len(data) < offset + length:
        raise InputError(f"{where}: is truncated; {length} bytes of voxels were to come")
    affine = header.get_best_affine()
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        log.warning(
            "%s: the header gives no orientation; taken to run to Left, Posterior, Superior as DICOM does", where
        )
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) * np.append(header.get_zooms()[:3], 1.0)
    slope, intercept = rescale or header.get_slope_inter()
    stored = np.frombuffer(data, dtype, offset=offset).reshape(shape[:3], order="F")
    return _to_hu(stored, 1.0 if slope is None else slope, intercept or 0.0, where), affine


def _nifti_header(start: bytes, where: str) -> Nifti1Header:
    """Only the fixed part, so that no extension (which may hold a DICOM header) is parsed."""
    sizes = [int.from_bytes(start[:4], order) for order in ("little", "big")]
    for kind in (Nifti1Header, Nifti2Header):
        if kind.sizeof_hdr in sizes:
            return kind(start[: kind.template_dtype.itemsize])
    raise InputError(f"{where}: is no NIfTI file, or its header is damaged")


def _nifti_grid(header: Nifti1Header, where: str) -> tuple[int, ...]:
    shape = tuple(int(side) for side in header.get_data_shape())
    _check_grid(shape[:3] if shape[3:] == (1,) else shape, header.get_data_dtype(), where)
    return shape


def _read_npz(path: Path, where: str, rescale: tuple[float, float] | None) -> _Stored:
    with zipfile.ZipFile(path) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist() if member.endswith(".npy")]
        arrays = ["ct"] if "ct" in names else [key for key in names if key != "spacing"]
        if len(arrays) != 1:
            raise InputError(f"{where}: holds {len(arrays)} arrays; it must hold one, or one of the name 'ct'")
        _check_grid(*_npy_header(archive, arrays[0], where), where)
        with archive.open(f"{arrays[0]}.npy") as stream:
            stored = npy.read_array(stream, allow_pickle=False)
        spacing = np.full(3, NPZ_SPACING_MM)
        if "spacing" in names:
            shape, dtype = _npy_header(archive, "spacing", where)
            if shape != (3,) or dtype.kind not in "iuf":
                raise InputError(f"{where}: the array 'spacing' must be 3 numbers, mm along the axes of the volume")
            with archive.open("spacing.npy") as stream:
                spacing = npy.read_array(stream, allow_pickle=False).astype(np.float64)
    return _to_hu(stored.T, *(rescale or (1.0, 0.0)), where), np.diag([*-spacing[::-1], 1.0])


def _npy_header(archive: zipfile.ZipFile, key: str, where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with archive.open(f"{key}.npy") as stream:
        version = npy.read_magic(stream)
        if version not in readers:
            raise InputError(f"{where}: holds an array of a kind that is no volume (npy {version[0]}.{version[1]})")
        shape, _, dtype = readers[version](stream)
    return shape, dtype


def _check_grid(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{where}: has the shape {list(shape)}; a CT has three axes")
    if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise InputError(f"{where}: the header names {list(shape)} voxels; up to {MAX_VOXELS} are read")
    if dtype.kind not in "iuf":
        raise InputError(f"{where}: holds values of the kind {dtype.name}; a CT has one number a voxel")


def _to_hu(stored: NDArray[Any], slope: float, intercept: float, where: str) -> NDArray[np.int16]:
    """[i, j, k] -> int16 of the same shape, a slice at a time to spare memory."""
    hu = np.empty(stored.shape, dtype=np.int16, order="F")
    for index in range(stored.shape[2]):
        plane = stored[:, :, index]
        same = plane.dtype == np.int16 and (slope, intercept) == (1.0, 0.0)
        hu[:, :, index] = plane if same else scaled(plane, slope, intercept, where)
    return hu


def _check_hu(hu: NDArray[np.int16], where: str) -> None:
    """Refuse what cannot be HU, by the shares of voxels that look like air, soft tissue and dense bone.

    A CT of a chest holds air and soft tissue, also when tightly cropped or clipped to +-1000, and little dense bone.
    Values not rescaled have soft tissue near 1024, where only bone may be, and nothing but padding near -1024; rescaled
    twice they have it near -1000 and next to nothing near 0; pictures of 0..1 or 0..255 have no air.
    """
    step = max(1, round((hu.size / 4e6) ** (1 / 3)))
    seen = hu[::step, ::step, ::step]
    seen = seen[seen >= PADDING_BELOW]
    shares = [np.mean((seen >= low) & (seen <= high)) if seen.size else 0.0 for low, high in LOOKS.values()]
    air, soft, dense = map(float, shares)
    if air < LEAST_AIR or soft < LEAST_SOFT or dense > MOST_DENSE:
        raise InputError(
            f"{where}: is not in Hounsfield units: {air:.1%} of the voxels look like air, {soft:.1%} like soft tissue, "
            f"{dense:.1%} like dense bone; give the columns of slope and intercept, or apply them only once"
        )


def _to_ras(hu: NDArray[np.int16], affine: NDArray[np.float64], where: str) -> Volume:
    """Turn [i, j, k] to the RAS axes that are closest."""
    lengths = voxel_sizes(affine)
    # Comparisons with nan are false.
    if not all(SPACING_MM[0] <= length <= SPACING_MM[1] for length in lengths):
        text = " x ".join(f"{length:.3g}" for length in lengths)
        raise InputError(f"{where}: a voxel would have {text} mm; {SPACING_MM[0]} to {SPACING_MM[1]} mm are read")
    turn = io_orientation(affine)
    if np.isnan(turn).any():
        raise InputError(f"{where}: the affine of the header is singular: two axes of the volume run the same way")
    x, y, z = lengths[np.argsort(turn[:, 0])]
    volume = Volume(apply_orientation(hu, turn), (float(x), float(y), float(z)))
    if max(volume.image_size) > MAX_SIDE:
        size = " x ".join(map(str, volume.image_size))
        raise InputError(f"{where}: an axial slice would have {size} square pixels; up to {MAX_SIDE} a side are made")
    return volume
