"""Frames that Pillow cannot decode, through imagecodecs (BSD): a plug-in of pydicom's decoders.

JPEG Extended with 12 bits, JPEG Lossless, JPEG-LS and High-Throughput JPEG 2000 (PS3.5 A.4). pydicom itself decodes the
other syntaxes, and turns the bytes that come from here into an array by the header. The plug-in interface is that of
pydicom 3 ("decoder plugins" in its guides).
"""

from __future__ import annotations

import importlib.util

from pydicom.pixels import get_decoder
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)  # fmt: skip

PLUGIN = "radz"
CODECS = {
    JPEGExtended12Bit: "jpeg8_decode", JPEGLossless: "jpeg8_decode", JPEGLosslessSV1: "jpeg8_decode",
    JPEGLSLossless: "jpegls_decode", JPEGLSNearLossless: "jpegls_decode",
    HTJ2K: "jpeg2k_decode", HTJ2KLossless: "jpeg2k_decode", HTJ2KLosslessRPCL: "jpeg2k_decode",
}  # fmt: skip
"""Transfer syntax -> function of imagecodecs."""
DECODER_DEPENDENCIES = {syntax: ("imagecodecs",) for syntax in CODECS}
YBR = (PhotometricInterpretation.YBR_ICT, PhotometricInterpretation.YBR_RCT)


def register() -> None:
    """Make pydicom know the plug-in; called once, by `pixels`."""
    for syntax in CODECS:
        get_decoder(syntax).add_plugin(PLUGIN, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Return whether frames of a transfer syntax can be decoded here (asked by pydicom)."""
    return uid in CODECS and importlib.util.find_spec("imagecodecs") is not None


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Return the pixels of one encoded frame, row by row, samples of a pixel together.

    Raises:
        ValueError: the frame has another shape than the header says.
    """
    import imagecodecs

    pixels = getattr(imagecodecs, CODECS[runner.transfer_syntax])(source)
    samples = () if runner.samples_per_pixel == 1 else (runner.samples_per_pixel,)
    if pixels.shape != (runner.rows, runner.columns, *samples) or pixels.dtype.itemsize > 2:
        raise ValueError(f"the frame holds {pixels.dtype} {list(pixels.shape)}, which is not what the header says")
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    if runner.photometric_interpretation in YBR:  # the codec has already turned them back
        runner.set_option("photometric_interpretation", PhotometricInterpretation.RGB)
    return bytes(pixels.tobytes())
