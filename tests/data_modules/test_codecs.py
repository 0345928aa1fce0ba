"""Compressed DICOM frames: what an encoder wrote comes back value by value; pydicom's own files equal each other."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)
from synthetic_dicom import bundled, dataset, stretched

from data_modules import codecs
from data_modules.errors import InputError
from data_modules.pixels import read_gray

SAMPLES = Path(os.environ.get("RADZ_SAMPLES", Path(__file__).parents[3] / "shared/data")) / "dicom"
RNG = np.random.default_rng(5)
IMAGES = {
    "12 of 16 bits": (RNG.integers(0, 4096, (30, 41)).astype(np.uint16), 12),
    "8 bits": (RNG.integers(0, 256, (17, 20)).astype(np.uint8), 8),
    "16 bits, signed": (RNG.integers(-2000, 2400, (24, 24)).astype(np.int16), 16),
}
ENCODERS = {
    JPEGLossless: imagecodecs.ljpeg_encode, JPEGLosslessSV1: imagecodecs.ljpeg_encode,
    JPEGLSLossless: imagecodecs.jpegls_encode,
    HTJ2KLossless: lambda pixels: imagecodecs.htj2k_encode(pixels, reversible=True),
}  # fmt: skip


def compressed(folder: Path, frame: bytes, stored: np.ndarray, bits: int, syntax: pydicom.uid.UID) -> Path:
    ds = dataset(stored, bits=bits)
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(folder / "x.dcm", enforce_file_format=True)
    return folder / "x.dcm"


@pytest.mark.parametrize("image", list(IMAGES))
@pytest.mark.parametrize("syntax", list(ENCODERS), ids=lambda uid: uid.keyword)
def test_lossless_syntaxes_give_back_every_value(tmp_path: Path, syntax: pydicom.uid.UID, image: str) -> None:
    stored, bits = IMAGES[image]
    # The code stream of a signed image holds the same bits, read as unsigned.
    frame = ENCODERS[syntax](stored.view(f"u{stored.itemsize}"))
    path = compressed(tmp_path, frame, stored, bits, syntax)
    assert (pydicom.dcmread(path).pixel_array == stored).all()
    assert np.abs(read_gray(path) - stretched(stored.astype(float))).max() <= 0.51


def test_bundled_files_equal_their_uncompressed_twins() -> None:
    plain = pydicom.dcmread(bundled("MR_small.dcm")).pixel_array
    assert (pydicom.dcmread(bundled("MR_small_jpeg_ls_lossless.dcm")).pixel_array == plain).all()
    # JPEG Lossless in RGB: the stripes of pydicom's SC_rgb files (doc of its test files).
    colours = pydicom.dcmread(bundled("SC_rgb_jpeg_gdcm.dcm")).pixel_array
    assert colours.shape == (100, 100, 3) and colours[5, 50].tolist() == [255, 0, 0]
    assert colours[25, 50].tolist() == [0, 255, 0] and colours[45, 50].tolist() == [0, 0, 255]
    assert read_gray(bundled("JPEG-lossy.dcm")).shape == (1024, 256)  # 12-bit JPEG Extended


def test_a_frame_of_another_shape_is_refused(tmp_path: Path) -> None:
    stored, bits = IMAGES["8 bits"]
    path = compressed(tmp_path, imagecodecs.jpegls_encode(stored[:-1]), stored, bits, JPEGLSLossless)
    with pytest.raises(InputError, match=r"not what the header says") as fault:
        read_gray(path, "row 3")
    assert str(fault.value).startswith("row 3: transfer syntax 1.2.840.10008.1.2.4.80")


def test_a_damaged_frame_is_refused(tmp_path: Path) -> None:
    stored, bits = IMAGES["12 of 16 bits"]
    for syntax, encode in ENCODERS.items():
        frame = encode(stored)
        path = compressed(tmp_path, frame[:6] + bytes(len(frame) - 6), stored, bits, syntax)
        with pytest.raises(InputError, match=r"row 3: transfer syntax"):
            read_gray(path, "row 3")


def _samples() -> list[dict[str, str]]:
    manifest = SAMPLES / "manifest.csv"
    return list(csv.DictReader(manifest.open(encoding="utf-8"))) if manifest.is_file() else []


@pytest.mark.skipif(not _samples(), reason="RADZ_SAMPLES names no folder with dicom/manifest.csv")
@pytest.mark.filterwarnings("ignore")
def test_real_files_in_every_transfer_syntax() -> None:
    for sample in _samples():
        path = SAMPLES / sample["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sample["sha256"]
        many = sample["frames"] not in ("", "1")
        if sample["expected"] == "clear error" or many:
            with pytest.raises(InputError, match=sample["file"]):
                read_gray(path)
        if sample["expected"] != "readable":
            continue
        ds = pydicom.dcmread(path, force=True)
        own = codecs.is_available(ds.file_meta.TransferSyntaxUID)
        stored = pixel_array(ds, decoding_plugin=codecs.PLUGIN if own else "")
        # Decoders of lossy JPEG may differ by one level.
        slack = 1.0 if sample["transfer_syntax_uid"].endswith((".4.50", ".4.51")) else 0.0
        found = [float(stored.min()), float(stored.max())]
        wanted = [float(sample["min"]), float(sample["max"])]
        assert found == pytest.approx(wanted, rel=1e-6, abs=slack), sample["file"]
        # The manifest's colour means are those of the samples as stored, before a conversion to RGB.
        if sample["photometric"] in ("MONOCHROME1", "MONOCHROME2", "RGB"):
            assert stored.mean() == pytest.approx(float(sample["mean"]), rel=1e-3, abs=0.06 + 5 * slack), sample["file"]
        assert many or read_gray(path).std() > 0, sample["file"]


Y, X = np.mgrid[:40, :48]
COLOURS = np.stack([4 * X + 40, 3 * Y + 60, 200 - 2 * X - Y], -1).astype(np.uint8)
LUMINANCE = COLOURS @ np.array([0.299, 0.587, 0.114])
YCC = np.asarray(Image.fromarray(COLOURS).convert("YCbCr"))


def marked(frame: bytes, marker: bytes) -> bytes:
    """A JPEG without its JFIF marker, and another in its place."""
    assert frame[2:4] == b"\xff\xe0"
    return frame[:2] + marker + frame[4 + int.from_bytes(frame[4:6], "big") :]


def jpeg(samples: np.ndarray, marker: bytes | None = None) -> bytes:
    """Components as they are, at full resolution, with the marker of JFIF or another."""
    stream = io.BytesIO()
    Image.frombytes("YCbCr", (48, 40), samples.tobytes()).save(stream, "JPEG", quality=98, subsampling=0)
    return stream.getvalue() if marker is None else marked(stream.getvalue(), marker)


ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
J2K = {"codecformat": "J2K", "reversible": True, "level": 0}
COLOUR_FRAMES = {
    "JFIF": (jpeg(YCC), JPEGBaseline8Bit, ("RGB", "YBR_FULL", "YBR_FULL_422")),
    "Adobe YCbCr": (jpeg(YCC, ADOBE + b"\1"), JPEGBaseline8Bit, ("RGB", "YBR_FULL", "YBR_FULL_422")),
    "Adobe RGB": (jpeg(COLOURS, ADOBE + b"\0"), JPEGBaseline8Bit, ("RGB", "YBR_FULL", "YBR_FULL_422")),
    "no marker, RGB": (jpeg(COLOURS, b""), JPEGBaseline8Bit, ("RGB",)),
    "no marker, YCbCr": (jpeg(YCC, b""), JPEGBaseline8Bit, ("YBR_FULL", "YBR_FULL_422")),
    "transform on": (imagecodecs.jpeg2k_encode(COLOURS, mct=True, **J2K), JPEG2000Lossless,
                     ("RGB", "YBR_FULL", "YBR_RCT", "YBR_ICT")),
    "transform on, boxes": (imagecodecs.jpeg2k_encode(COLOURS, mct=True, **J2K | {"codecformat": "JP2"}),
                            JPEG2000Lossless, ("RGB", "YBR_FULL", "YBR_RCT")),
    "transform off, RGB": (imagecodecs.jpeg2k_encode(COLOURS, mct=False, **J2K), JPEG2000Lossless, ("RGB",)),
    "transform off, YCbCr": (imagecodecs.jpeg2k_encode(YCC, mct=False, **J2K), JPEG2000Lossless, ("YBR_FULL",)),
    "JPEG-LS": (imagecodecs.jpegls_encode(COLOURS), JPEGLSLossless, ("RGB",)),
}  # fmt: skip
"""Frame -> the headers under which it must give the same picture: the frame's own markers come first."""


def written(path: Path, frame: bytes, syntax: pydicom.uid.UID, photometric: str) -> Path:
    """A file whose header says so of a frame of COLOURS."""
    ds = dataset(COLOURS, bits=8, PhotometricInterpretation=photometric)
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("name", list(COLOUR_FRAMES))
def test_a_colour_transform_is_undone_once(tmp_path: Path, name: str) -> None:
    frame, syntax, headers = COLOUR_FRAMES[name]
    for photometric in headers:
        path = written(tmp_path / "x.dcm", frame, syntax, photometric)
        assert np.abs(read_gray(path) - LUMINANCE).max() <= 4, photometric


def test_a_transform_that_the_frame_lacks_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.dcm", COLOUR_FRAMES["transform off, RGB"][0], JPEG2000Lossless, "YBR_RCT")
    with pytest.raises(InputError, match="PhotometricInterpretation holds YBR_RCT, but the frame has no colour"):
        read_gray(path)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGBaseline8Bit])
def test_frames_that_contradict_their_header(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    """Of as many pixels but another shape; of more frames than NumberOfFrames; of other bits."""
    stored = COLOURS[..., 0].copy()
    encode = {
        JPEG2000Lossless: lambda image: imagecodecs.jpeg2k_encode(image, **J2K),
        JPEGLSLossless: imagecodecs.jpegls_encode,
        JPEGBaseline8Bit: lambda image: imagecodecs.jpeg8_encode(image, level=95),
    }[syntax]  # fmt: skip
    assert np.abs(read_gray(compressed(tmp_path, encode(stored), stored, 8, syntax)) - stretched(stored)).max() <= 4
    with pytest.raises(InputError, match="not what the header says"):
        read_gray(compressed(tmp_path, encode(stored.T.copy()), stored, 8, syntax))
    path = compressed(tmp_path, encode(stored), stored, 8, syntax)
    for tags, frames, part in (
        ({}, 2, "NumberOfFrames holds 1, PixelData 2"),
        ({"NumberOfFrames": 3}, 1, "NumberOfFrames holds 3, PixelData 1"),
    ):
        ds = pydicom.dcmread(path)
        ds.PixelData = encapsulate([encode(stored)] * frames)
        for keyword, value in tags.items():
            setattr(ds, keyword, value)
        ds.save_as(tmp_path / "y.dcm")
        with pytest.raises(InputError, match=part):
            read_gray(tmp_path / "y.dcm", frames="first")


def test_compressed_values_above_bits_stored_are_refused(tmp_path: Path) -> None:
    stored = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48) * 8
    for syntax, frame in (
        (JPEG2000Lossless, imagecodecs.jpeg2k_encode(stored, **J2K)),
        (JPEGLSLossless, imagecodecs.jpegls_encode(stored)),
    ):
        with pytest.raises(InputError, match="bits outside of BitsStored 12 and HighBit 11"):
            read_gray(compressed(tmp_path, frame, stored, 12, syntax))
        assert np.abs(read_gray(compressed(tmp_path, frame, stored, 14, syntax)) - stretched(stored)).max() <= 0.51
    eight = imagecodecs.jpeg8_encode((stored >> 6).astype(np.uint8), level=95)
    with pytest.raises(InputError, match="the frame holds 8 bits, BitsStored 12"):
        read_gray(compressed(tmp_path, eight, stored, 12, JPEGBaseline8Bit))
