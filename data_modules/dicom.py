"""What radiographs and CT series share of DICOM: stored values, padding, and the refusal of files that are no good."""

from __future__ import annotations

import logging
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from data_modules import codecs
from data_modules.errors import InputError

codecs.register()
# pydicom logs a traceback for each decoder that fails, also for files that are then refused here in one line.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

MAX_BYTES = 1 << 30
SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# pydicom promises no exception type for a malformed file; these are what its parsers and decoders raise.
MALFORMED = (
    InvalidDicomError, BytesLengthException, AttributeError, ValueError, TypeError, LookupError, ArithmeticError,
    OSError, EOFError, RuntimeError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom and its decoders raise for a malformed file."""


def stored_values(dataset: Dataset, where: str, frame: int = 0) -> NDArray[Any]:
    """Stored values [H, W] or [H, W, 3] of a frame; a missing decoder is told apart from damaged data."""
    syntax: UID | None = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if not syntax:
        raise InputError(f"{where}: the DICOM header names no transfer syntax")
    refusal = f"{where}: transfer syntax {syntax} ({syntax.name}) cannot be decoded here"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise InputError(f"{refusal}: pydicom has no decoder for it; convert the file") from None
    if not decoder.is_available:
        raise InputError(f"{refusal}: install one of: {'; '.join(decoder.missing_dependencies)}")
    try:
        return pixel_array(dataset, index=frame, decoding_plugin=codecs.PLUGIN if codecs.is_available(syntax) else "")
    except RuntimeError as error:  # every installed plug-in gave up
        raise InputError(f"{refusal}: {one_line(error)}") from None


def padding_mask(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Bool [H, W] of the pixels that hold no image (PixelPaddingValue, a stored value), or None."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    low, high = sorted((int(value), int(dataset.get("PixelPaddingRangeLimit", value))))
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None


def check_deflated(data: bytes, where: str) -> None:
    """A deflated data set is inflated whole by pydicom: measure it first, a piece at a time."""
    start = 144 + int.from_bytes(data[140:144], "little")  # end of the file meta group, whose length stands at 140
    if DeflatedExplicitVRLittleEndian.encode() not in data[:start]:
        return
    inflater, rest, total = zlib.decompressobj(-zlib.MAX_WBITS), data[start:], 0
    while rest and total <= MAX_BYTES:
        total += len(inflater.decompress(rest, 1 << 20))
        rest = inflater.unconsumed_tail
    if total > MAX_BYTES:
        raise InputError(f"{where}: inflates to more than {MAX_BYTES >> 20} MiB; not read")


def one_line(error: BaseException) -> str:
    """One short line of a library's error text; of an OSError only the cause, since the rest may hold a path."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join((text or type(error).__name__).split())[:160]
