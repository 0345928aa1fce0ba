"""Radiographs from files to uint8: DICOM, PNG and JPEG in, one gray image out; resizing and equalisation."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from pydicom import dcmread

from data_modules import dicom
from data_modules.dicom import one_file
from data_modules.dicom_gray import read_radiograph
from data_modules.dicom_header import SPACINGS, aspect
from data_modules.errors import InputError
from data_modules.gray import Gray, check_shows
from data_modules.pictures import SIGNATURES, other_format, read_picture
from data_modules.placing import placement, square_shape

__all__ = ["Gray", "equalize", "fit", "pixel_aspect", "read_gray"]
log = logging.getLogger(__name__)
MOST_UNEVEN = 10.0
GZIP = b"\x1f\x8b"


def read_gray(path: Path, name: str | None = None, frames: str = "error", modality: str | None = None) -> Gray:
    """Return uint8 [H, W] of a DICOM, PNG or JPEG file.

    8-bit PNG and JPEG keep their values, deeper ones are stretched from their least to their greatest. InputError names
    `name` (default: the path) and the cause, whatever a decoder raises: missing decoder, no pixel data, several frames,
    truncated, too large, a header that contradicts itself (by element), a blank picture.
    `frames`: which of several frames of a DICOM file is the image, first or middle; none under error.
    `modality`: chest_xray or chest_ct, to refuse what by its header is something else (`dicom_kind`).
    """
    where = name or str(path)
    with one_file(where):
        data = read_bytes(path, where)
        if is_dicom(data, path):
            gray = read_radiograph(data, where, frames, modality)
        elif data.startswith(SIGNATURES):
            gray = read_picture(data, where)
        else:
            if data.startswith(GZIP):
                raise InputError(f"{where}: is packed with gzip; unpack it")
            other = other_format(data)
            raise InputError(
                f"{where}: is {f'a {other} picture, ' if other else ''}neither DICOM nor PNG nor JPEG"
                f"{'; save it as PNG' if other else ''}"
            )
        check_shows(gray, where)
    return gray


def read_bytes(path: Path, where: str) -> bytes:
    """Return the content of a file; InputError where it is empty or larger than any radiograph."""
    size = path.stat().st_size
    if size > dicom.MAX_BYTES:
        raise InputError(f"{where}: the file has {size >> 20} MiB; radiographs up to {dicom.MAX_BYTES >> 20} are read")
    data = path.read_bytes()
    if not data:
        raise InputError(f"{where}: the file is empty")
    return data


def is_dicom(data: bytes, path: Path) -> bool:
    """Return whether a file is read as DICOM: by its preamble, or its name alone."""
    return data[128:132] == b"DICM" or path.suffix.lower() in dicom.SUFFIXES


def equalize(image: Gray) -> Gray:
    """Return uint8 [H, W] with an equalised histogram (Pillow's rule)."""
    return np.asarray(ImageOps.equalize(Image.fromarray(image)))


def pixel_aspect(path: Path, name: str | None = None) -> float:
    """Height over width of the pixels of a file that `read_gray` has read; 1 where its header does not say.

    One that no detector has is taken for 1, which is said where there is a `name`.
    """
    with path.open("rb") as file:
        if not is_dicom(file.read(132), path):
            return 1.0
    found = aspect(dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(SPACINGS)))
    if max(found, 1 / found) <= MOST_UNEVEN:
        return found
    if name is not None:
        log.warning("%s: its header has pixels %.3g times as high as wide; taken for square", name, found)
    return 1.0


def fit(image: Gray, size: int, resize: str, aspect: float = 1.0) -> Gray:
    """Return uint8 [size, size], antialiased bicubic, with square pixels (unless under squash).

    `resize`: pad (longer side fits, black border, centred), crop (shorter side fits, centre), squash (both fit).
    `placement` says where the image then lies, as an exported image processor places it.
    `aspect`: height of a pixel of `image` over its width.
    """
    new, (top, left) = placement(square_shape(image.shape, aspect), size, resize)
    if new != image.shape:
        image = np.asarray(Image.fromarray(image).resize((new[1], new[0]), Image.Resampling.BICUBIC))
    if resize == "crop":
        return np.ascontiguousarray(image[-top : size - top, -left : size - left])
    square = np.zeros((size, size), dtype=np.uint8)
    square[top : top + new[0], left : left + new[1]] = image
    return square
