"""Radiographs from files to uint8: DICOM, PNG and JPEG in, one gray image out; resizing and equalisation.

DICOM order (PS3.3 C.11, PS3.4 N.2): modality LUT, VOI LUT or first window, 8 bits, MONOCHROME1 inverted last. Without a
window the range of the values is stretched, padding left out; padding is black in the end.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi

from data_modules import dicom
from data_modules.dicom import MALFORMED, check_deflated, one_line, padding_mask, stored_values
from data_modules.errors import InputError

Gray = NDArray[np.uint8]
"""uint8 [H, W], 0 black."""

MAX_PIXELS = 80_000_000
"""Larger than any radiograph; keeps a forged header from filling the memory."""
LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601, as Pillow's conversion to gray."""


def read_gray(path: Path, name: str | None = None, frames: str = "error") -> Gray:
    """Return uint8 [H, W] of a DICOM, PNG or JPEG file.

    8-bit PNG and JPEG keep their values, deeper ones are stretched from their least to their greatest. InputError names
    `name` (default: the path) and the cause: missing decoder, no pixel data, several frames, truncated, too large.
    `frames`: which of several frames of a DICOM file is the image, first or middle; none under error.
    """
    where = name or str(path)
    try:
        size = path.stat().st_size
        if size > dicom.MAX_BYTES:
            raise InputError(
                f"{where}: the file has {size >> 20} MiB; radiographs up to {dicom.MAX_BYTES >> 20} are read"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: cannot be opened ({error.strerror})") from None
    if not data:
        raise InputError(f"{where}: the file is empty")
    if data[128:132] == b"DICM" or path.suffix.lower() in dicom.SUFFIXES:
        return _read_dicom(data, where, frames)
    if data.startswith((b"\x89PNG", b"\xff\xd8")):
        return _read_picture(data, where)
    raise InputError(f"{where}: is neither DICOM nor PNG nor JPEG")


def _read_picture(data: bytes, where: str) -> Gray:
    try:
        image: Image.Image = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
        _check_size(image.width * image.height, where)
        image.load()
        image = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:  # Pillow's text holds an address, not a cause
        raise InputError(f"{where}: the header of the picture is damaged") from None
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: the picture is damaged ({one_line(error)})") from None
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        return _to_uint8(_stretch(values, values))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    return np.asarray(image.convert("L"))


def _read_dicom(data: bytes, where: str, frames: str) -> Gray:
    try:
        check_deflated(data, where)
        dataset = dcmread(BytesIO(data), force=True)
        if data[128:132] != b"DICM" and not any(element in dataset for element in dicom.PIXEL_ELEMENTS):
            raise InputError(f"{where}: is no DICOM file, or its header is damaged")
        return _render(dataset, where, frames)
    except InputError:
        raise
    except MALFORMED as error:
        raise InputError(f"{where}: the DICOM file is damaged or unusual ({one_line(error)})") from None


def _render(dataset: Dataset, where: str, frames: str) -> Gray:
    if not any(element in dataset for element in dicom.PIXEL_ELEMENTS):
        raise InputError(f"{where}: the DICOM file has no pixel data")
    count = int(dataset.get("NumberOfFrames") or 1)
    if count < 1 or (count > 1 and frames == "error"):
        raise InputError(
            f"{where}: has {count} frames where a radiograph has one; set data.frames to first or middle, or export one"
        )
    _check_size(int(dataset.Rows) * int(dataset.Columns), where)
    stored = stored_values(dataset, where, count // 2 if frames == "middle" else 0)
    photometric = str(dataset.PhotometricInterpretation)
    if not photometric.startswith("MONOCHROME"):
        return _luminance(stored, dataset, photometric)
    if not np.isfinite(stored).all():
        raise InputError(f"{where}: the pixel data hold values that are not finite")
    padding = padding_mask(stored, dataset)
    inside = stored if padding is None else stored[~padding]
    low, high = inside.min(), inside.max()
    if stored.dtype.kind in "iu" and int(stored.max()) - int(stored.min()) < stored.size and stored.itemsize < 4:
        # Every step works value by value: do it once per level, not once per pixel (14 megapixels hold 4096 levels).
        least = int(stored.min())
        levels = np.arange(least, int(stored.max()) + 1)
        gray = _gray_levels(levels, dataset, int(low), int(high))[stored.astype(np.intp) - least]
    else:
        gray = _gray_levels(stored, dataset, low, high)
    if photometric == "MONOCHROME1":
        gray = 255 - gray
    if padding is not None:
        gray[padding] = 0
    return gray


def _luminance(stored: NDArray[Any], dataset: Dataset, photometric: str) -> Gray:
    """pixel_array has turned YBR into RGB; a palette gives 8 or 16 bits whatever the index has."""
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset)
        top = 2.0 ** (8 * colours.dtype.itemsize) - 1
    else:
        colours, top = stored, 2.0 ** int(dataset.BitsStored) - 1
    return _to_uint8(colours[..., :3].astype(np.float64) @ LUMA / top)


def _gray_levels(stored: NDArray[Any], dataset: Dataset, low: float, high: float) -> Gray:
    """Stored values of any shape -> uint8 by modality LUT and VOI LUT, else first window, else stretched.

    `low` and `high`: least and greatest stored value of the image that are not padding.
    """
    values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        chosen = apply_voi(np.rint(values).astype(np.int64), dataset)  # a table is indexed by whole numbers
        return _to_uint8(np.asarray(chosen, dtype=np.float64) / (2.0**bits - 1))
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if centre is not None and width is not None and width > 0:
        if function == "SIGMOID":
            return _to_uint8(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -500, 500))))
        if function == "LINEAR_EXACT":
            return _to_uint8((values - centre) / width + 0.5)
        if width >= 1:  # C.11.2.1.2.1; at width 1 the window is a step
            return _to_uint8((values - (centre - 0.5)) / max(width - 1.0, 1e-9) + 0.5)
    return _to_uint8(_stretch(values, values[(stored >= low) & (stored <= high)]))


def _first(dataset: Dataset, keyword: str) -> float | None:
    value: Any = dataset.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return None if value in (None, "") else float(value)


def _stretch(values: NDArray[np.float64], counted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale linearly so that the least counted value is 0 and the greatest 1; a constant image is 0."""
    low, high = counted.min(), counted.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _to_uint8(unit: NDArray[np.float64]) -> Gray:
    return np.rint(np.clip(unit, 0.0, 1.0) * 255.0).astype(np.uint8)


def _check_size(pixels: int, where: str) -> None:
    if pixels > MAX_PIXELS or pixels < 1:
        raise InputError(f"{where}: the header names {pixels} pixels; radiographs up to {MAX_PIXELS} are read")


def equalize(image: Gray) -> Gray:
    """Return uint8 [H, W] with an equalised histogram (Pillow's rule)."""
    return np.asarray(ImageOps.equalize(Image.fromarray(image)))


def fit(image: Gray, size: int, resize: str) -> Gray:
    """Return uint8 [size, size], antialiased bicubic.

    `resize`: pad (longer side fits, black border, centred), crop (shorter side fits, centre), squash (both fit).
    Sides and borders are rounded as transformers' image processors round them, so that an exported one does the same.
    """
    height, width = image.shape
    if resize == "squash":
        new = (size, size)
    elif resize == "pad":
        scale = min(size / height, size / width)
        new = (max(1, int(height * scale)), max(1, int(width * scale)))
    else:
        new = (int(size * height / min(height, width)), int(size * width / min(height, width)))
    if new != image.shape:
        image = np.asarray(Image.fromarray(image).resize((new[1], new[0]), Image.Resampling.BICUBIC))
    if resize == "crop":
        top, left = (new[0] - size) // 2, (new[1] - size) // 2
        return np.ascontiguousarray(image[top : top + size, left : left + size])
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - new[0] + 1) // 2, (size - new[1] + 1) // 2
    square[top : top + new[0], left : left + new[1]] = image
    return square
