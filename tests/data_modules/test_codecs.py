"""Compressed DICOM frames: what an encoder wrote comes back value by value; pydicom's own files equal each other."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import HTJ2KLossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless
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
