"""The image pixel module of a DICOM header (PS3.3 C.7.6.3), checked: elements that contradict each other are named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_fragments
from pydicom.uid import UID, RLELossless

from data_modules.dicom_header import numbers, shown, whole
from data_modules.errors import InputError

PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MAX_PIXELS = 80_000_000
"""Larger than any radiograph; keeps a forged header from filling the memory."""
SAMPLES = {
    "MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1,
    "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3, "YBR_ICT": 3, "YBR_RCT": 3,
}  # fmt: skip
"""PhotometricInterpretation -> SamplesPerPixel; the retired ones are not read."""
STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP")
"""How a frame of JPEG, JPEG-LS and JPEG 2000 begins."""


@dataclass(frozen=True)
class PixelForm:
    """How the pixels of a file lie; `bits` and `high` are BitsStored and HighBit, equal to the cell for floats."""

    rows: int
    columns: int
    photometric: str
    allocated: int
    bits: int
    high: int
    signed: bool
    frames: int
    integers: bool

    @property
    def colour(self) -> bool:
        """Whether a pixel has three samples."""
        return SAMPLES[self.photometric] == 3


def pixel_form(dataset: Dataset, where: str) -> PixelForm:
    """Return the form that the header gives; InputError names the element that is absent, or contradicts another."""
    found = [keyword for keyword in PIXEL_ELEMENTS if keyword in dataset]
    if not found:
        raise InputError(f"{where}: the DICOM file has no pixel data")
    if len(found) > 1:
        raise InputError(f"{where}: holds both {' and '.join(found)}; keep one of them")
    rows, columns = (whole(dataset, keyword, where, range(1, 1 << 16)) for keyword in ("Rows", "Columns"))
    photometric = str(dataset.get("PhotometricInterpretation") or "").strip(" \0").upper()
    if photometric not in SAMPLES:
        raise InputError(
            f"{where}: PhotometricInterpretation holds {shown([photometric])}; read are {', '.join(SAMPLES)}"
        )
    dataset.PhotometricInterpretation = photometric
    samples = whole(dataset, "SamplesPerPixel", where, (1, 3))
    if samples != SAMPLES[photometric]:
        raise InputError(
            f"{where}: SamplesPerPixel holds {samples}, which contradicts PhotometricInterpretation {photometric}; "
            "correct the header"
        )
    if samples == 3 and not _syntax(dataset).is_encapsulated:
        whole(dataset, "PlanarConfiguration", where, (0, 1))
    frames = whole(dataset, "NumberOfFrames", where, range(1, 1 << 31)) if numbers(
        dataset, "NumberOfFrames", where) else 1  # fmt: skip
    integers = found == ["PixelData"]
    allocated = whole(dataset, "BitsAllocated", where, (1, 8, 16, 32, 64) if integers else (32, 64))
    bits, high, signed = allocated, allocated - 1, True
    if integers:
        bits = whole(dataset, "BitsStored", where, range(1, allocated + 1))
        signed = whole(dataset, "PixelRepresentation", where, (0, 1)) == 1
        high = bits - 1
        if numbers(dataset, "HighBit", where):
            high = whole(dataset, "HighBit", where, range(bits - 1, allocated))
    plain = {
        "Rows": rows, "Columns": columns, "SamplesPerPixel": samples, "NumberOfFrames": frames,
        "BitsAllocated": allocated, "BitsStored": bits, "PixelRepresentation": int(signed),
    }  # fmt: skip
    for keyword in (keyword for keyword in plain if keyword in dataset):
        dataset[keyword].value = plain[keyword]  # pydicom decodes by the elements, which may be text of another VR
    if photometric.startswith("YBR") and (allocated, bits) != (8, 8):
        raise InputError(f"{where}: BitsStored holds {bits} beside PhotometricInterpretation {photometric}; 8 is read")
    return PixelForm(rows, columns, photometric, allocated, bits, high, signed, frames, integers)


def check_size(pixels: int, where: str) -> None:
    """InputError for more pixels than any radiograph has."""
    if pixels > MAX_PIXELS or pixels < 1:
        raise InputError(f"{where}: the header names {pixels} pixels; radiographs up to {MAX_PIXELS} are read")


def check_length(dataset: Dataset, form: PixelForm, where: str) -> None:
    """InputError where the pixel data are not as long as the header says, or hold another number of frames."""
    keyword = next(keyword for keyword in PIXEL_ELEMENTS if keyword in dataset)
    data = dataset[keyword].value or b""
    if _syntax(dataset).is_encapsulated:
        _check_frames(dataset, form, where)
        return
    pixels, samples = form.rows * form.columns * form.frames, SAMPLES[form.photometric]
    bits = pixels * samples * form.allocated
    expected = -(-(bits * 2 // 3 if form.photometric == "YBR_FULL_422" else bits) // 8)
    rest = len(data) - expected
    said = (
        f"Rows {form.rows}, Columns {form.columns}, SamplesPerPixel {samples}, BitsAllocated {form.allocated} and "
        f"NumberOfFrames {form.frames} make {expected}"
    )
    if rest < 0:
        raise InputError(f"{where}: {keyword} holds {len(data)} bytes, less than expected: {said}; export it again")
    row, column = (side * samples * form.allocated // 8 for side in (form.columns, form.rows))
    # Zeros behind the pixels are padding, or black rows, but not where another width would explain them.
    if rest > 1 and (any(data[expected:]) or (column and rest % column == 0 and rest % row)):
        raise InputError(f"{where}: {keyword} holds {len(data)} bytes, more than expected: {said}; correct the header")


def _check_frames(dataset: Dataset, form: PixelForm, where: str) -> None:
    """One frame may lie in several fragments, but each frame begins a new one."""
    fragments = list(generate_fragments(dataset.PixelData))[1:]  # the first is the table of offsets
    rle = _syntax(dataset) == RLELossless  # a fragment is a frame (PS3.5 A.4.2)
    begun = len(fragments) if rle else sum(fragment.startswith(STARTS) for fragment in fragments)
    if begun > form.frames or len(fragments) < form.frames:
        raise InputError(
            f"{where}: NumberOfFrames holds {form.frames}, PixelData {begun or len(fragments)} frame(s); correct it"
        )


def _syntax(dataset: Dataset) -> UID:
    syntax: UID = dataset.file_meta.TransferSyntaxUID
    return syntax


def significant(
    values: NDArray[np.generic], form: PixelForm, dataset: Dataset, padding: NDArray[np.bool_] | None, where: str
) -> NDArray[np.generic]:
    """Return the numbers of BitsStored bits below HighBit, sign extended, in the type of `values`.

    Bits that the header declares as an overlay plane are taken away. Pixels of the `padding` value stay as they are.
    InputError for other bits outside: whether they or the header are wrong cannot be told.
    """
    shift, width = form.high + 1 - form.bits, 8 * values.itemsize
    if not form.integers or form.allocated == 1 or form.bits >= width:
        return values
    low, high = (-(1 << form.bits - 1), 1 << form.bits - 1) if form.signed else (0, 1 << form.bits)
    if not shift and values.min() >= low and values.max() < high:
        return values
    unsigned = values.view(values.dtype.str.replace("i", "u")).astype(np.uint64)
    mask = (1 << form.bits) - 1
    inside = (unsigned >> shift) & mask
    found = inside.astype(np.int64)
    if form.signed:
        found -= (found >= high).astype(np.int64) << form.bits
    stray = (unsigned & ~np.uint64(mask << shift | _overlay_bits(dataset))) != 0
    if not shift:
        stray &= found != values  # a negative number has its sign in all bits above
    if padding is not None:
        found, stray = np.where(padding, values, found), stray & ~padding
    if stray.any():
        raise InputError(
            f"{where}: {int(stray.sum())} pixels have bits outside of BitsStored {form.bits} and HighBit {form.high}, "
            "where the header declares no overlay; correct BitsStored and HighBit, or clear these bits"
        )
    return found.astype(values.dtype)


def _overlay_bits(dataset: Dataset) -> int:
    """The bits of a pixel that overlay planes without data of their own take (PS3.3 C.9.2, retired)."""
    bits = 0
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in dataset and (group, 0x3000) not in dataset:
            bits |= 1 << int(dataset[group, 0x0102].value)
    return bits
