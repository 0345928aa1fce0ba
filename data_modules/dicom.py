"""What radiographs and CT series share of DICOM: stored values, padding, and the refusal of files that are no good."""

from __future__ import annotations

import errno
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from data_modules import codecs
from data_modules.dicom_form import PixelForm, check_length, significant
from data_modules.dicom_header import numbers
from data_modules.errors import InputError

codecs.register()
# pydicom logs a traceback for each decoder that fails, also for files that are then refused here in one line, and warns
# of what is put right or refused here.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")

MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Causes of an OSError that say nothing of the file that was read."""
MAX_BYTES = 1 << 30
SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
# pydicom promises no exception type for a malformed file; these are what its parsers and decoders raise.
MALFORMED = (
    InvalidDicomError, BytesLengthException, AttributeError, ValueError, TypeError, LookupError, ArithmeticError,
    OSError, EOFError, RuntimeError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom and its decoders raise for a malformed file."""


@contextmanager
def one_file(where: str, what: str = "the file") -> Iterator[None]:
    """Turn whatever the reading of one file raises into an InputError that begins with `where`.

    Decoders promise no exception types, and one bad file must not end a folder. What is the machine's fault passes: no
    memory, no room on the disk, no more files to be opened.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(f"{where}: cannot be opened ({error.strerror})") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE:
            raise
        raise InputError(f"{where}: {what} is damaged or unusual ({one_line(error)})") from None


def stored_values(dataset: Dataset, form: PixelForm, where: str, frame: int = 0) -> NDArray[Any]:
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
    check_length(dataset, form, where)
    plugin = codecs.PLUGIN if codecs.is_available(syntax) else ""
    # Unused bits are judged below: pydicom would clear them without a word, and takes HighBit for BitsStored - 1.
    try:
        values = pixel_array(dataset, index=frame, decoding_plugin=plugin, correct_unused_bits=False)
    except RuntimeError as error:  # every installed plug-in gave up
        cause = str(error).rpartition("all available plugins:")[2]
        raise InputError(f"{refusal}: {one_line(RuntimeError(cause))}") from None
    return significant(values, form, dataset, padding_mask(values, dataset, where), where)


def padding_mask(stored: NDArray[Any], dataset: Dataset, where: str) -> NDArray[np.bool_] | None:
    """Bool [H, W] of the pixels that hold no image (PixelPaddingValue, a stored value), or None."""
    value = numbers(dataset, "PixelPaddingValue", where)
    if not value or stored.ndim != 2:
        return None
    ends = [value[0], (numbers(dataset, "PixelPaddingRangeLimit", where) or value)[0]]
    if stored.dtype.kind == "i":  # written as an unsigned number beside signed pixels
        ends = [end - (1 << 16) if end >= 1 << 15 and stored.itemsize == 2 else end for end in ends]
    padding = (stored >= min(ends)) & (stored <= max(ends))
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
