"""Compressed frames through imagecodecs (BSD): a plug-in of pydicom's decoders.

All JPEG, JPEG-LS and JPEG 2000 (PS3.5 A.4): some of them Pillow cannot decode, and of the others the frame's own
markers say what the header may have wrong: its shape, and whether the codec has undone the colour transform. pydicom
itself decodes the other syntaxes, and turns the bytes that come from here into an array by the header. The plug-in
interface is that of pydicom 3 ("decoder plugins" in its guides).
"""

from __future__ import annotations

import importlib.util

from pydicom.pixels import get_decoder
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)  # fmt: skip

PLUGIN = "radz"
CODECS = {
    JPEGBaseline8Bit: "jpeg8_decode", JPEGExtended12Bit: "jpeg8_decode",
    JPEGLossless: "jpeg8_decode", JPEGLosslessSV1: "jpeg8_decode",
    JPEGLSLossless: "jpegls_decode", JPEGLSNearLossless: "jpegls_decode",
    JPEG2000Lossless: "jpeg2k_decode", JPEG2000: "jpeg2k_decode",
    HTJ2K: "jpeg2k_decode", HTJ2KLossless: "jpeg2k_decode", HTJ2KLosslessRPCL: "jpeg2k_decode",
}  # fmt: skip
"""Transfer syntax -> function of imagecodecs."""
DCT = (JPEGBaseline8Bit, JPEGExtended12Bit)
DECODER_DEPENDENCIES = {syntax: ("imagecodecs",) for syntax in CODECS}
YBR = (PhotometricInterpretation.YBR_ICT, PhotometricInterpretation.YBR_RCT)
CODESTREAM, CODING = b"\xff\x4f\xff\x51", b"\xff\x52"
"""Of JPEG 2000 (ISO 15444-1 A): how a codestream begins, the marker of its coding."""


def register() -> None:
    """Make pydicom know the plug-in; called once, by `dicom`."""
    for syntax in CODECS:
        get_decoder(syntax).add_plugin(PLUGIN, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Return whether frames of a transfer syntax can be decoded here (asked by pydicom)."""
    return uid in CODECS and importlib.util.find_spec("imagecodecs") is not None


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Return the pixels of one encoded frame, row by row, samples of a pixel together.

    Raises:
        ValueError: the frame contradicts the header in its shape, bits or colour transform.
    """
    import imagecodecs

    name, colour = CODECS[runner.transfer_syntax], runner.samples_per_pixel > 1
    if name == "jpeg2k_decode":
        # Without the boxes around it, whose colour space the codec would apply beside the header's.
        source = source[max(0, source.find(CODESTREAM)) :]
    # As the components are: what they mean is decided below.
    options = {"colorspace": "RGB", "outcolorspace": "RGB"} if colour and name == "jpeg8_decode" else {}
    pixels = getattr(imagecodecs, name)(source, **options)
    shape = (runner.rows, runner.columns, *((runner.samples_per_pixel,) if colour else ()))
    if pixels.shape != shape or pixels.dtype.itemsize > 2:
        raise ValueError(
            f"the frame holds {pixels.dtype} {list(pixels.shape)}, which is not what the header says (Rows, Columns, "
            f"SamplesPerPixel: {list(shape)})"
        )
    bits = 8 * pixels.dtype.itemsize
    if runner.transfer_syntax in DCT and bits < runner.bits_stored:
        raise ValueError(f"the frame holds {bits} bits, BitsStored {runner.bits_stored}")
    runner.set_option("bits_allocated", bits)
    runner.set_option("planar_configuration", 0)
    if colour:
        runner.set_option("photometric_interpretation", _colours(source, runner, name))
    return bytes(pixels.tobytes())


def _colours(source: bytes, runner: DecodeRunner, name: str) -> PhotometricInterpretation:
    """What the decoded samples are: RGB or YBR_FULL."""
    declared = runner.photometric_interpretation
    rgb = declared == PhotometricInterpretation.RGB
    if name == "jpeg8_decode":
        said = _jpeg_colours(source)
        rgb = rgb if said is None else said
    elif name == "jpeg2k_decode":
        place = source.find(CODING)
        if source[place + 8 : place + 9] == b"\1":  # the codec has undone the transform, whatever the header calls it
            rgb = True
        elif declared in YBR:
            raise ValueError(f"PhotometricInterpretation holds {declared}, but the frame has no colour transform")
    return PhotometricInterpretation.RGB if rgb else PhotometricInterpretation.YBR_FULL


def _jpeg_colours(source: bytes) -> bool | None:
    """Whether the markers of a JPEG frame say RGB (true) or YCbCr (false); None where they do not tell.

    As libjpeg judges, but for a frame without markers, of which it believes the usual and DICOM the header.
    """
    place, jfif = 2, False
    while place + 4 <= len(source):
        marker, length = source[place + 1], int.from_bytes(source[place + 2 : place + 4], "big")
        body = source[place + 4 : place + 2 + length]
        if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            return body[11] == 0
        jfif |= marker == 0xE0 and body.startswith(b"JFIF")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            ids = bytes(body[6::3][:3])
            return True if ids in (b"RGB", b"rgb") else False if jfif else None
        place += 2 + length
    return None
