"""Fault 12: damaged files in a child process, because decoders are C: an image, or the typed error, and no crash."""

from __future__ import annotations

import io
import os
import resource
import time
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from synthetic_dicom import dataset, written

from data_modules.errors import InputError
from data_modules.pixels import read_gray

STORED = np.random.default_rng(0).integers(0, 4096, (24, 20)).astype(np.uint16)
ENCODERS = {
    JPEG2000Lossless: lambda values: imagecodecs.jpeg2k_encode(values, codecformat="J2K", reversible=True, level=0),
    JPEGLosslessSV1: lambda values: imagecodecs.ljpeg_encode(values, bitspersample=12),
    JPEGLSLossless: imagecodecs.jpegls_encode,
}
MEMORY = 6 << 30
"""Bytes of address space of the child: no header may make it ask for more."""


def originals(folder: Path) -> dict[str, bytes]:
    """Valid files of each kind."""
    files = {"plain.dcm": written(folder, STORED).read_bytes()}
    files["rle.dcm"] = written(folder, STORED, syntax=RLELossless).read_bytes()
    for syntax, encode in ENCODERS.items():
        ds = dataset(STORED)
        ds.PixelData = pydicom.encaps.encapsulate([bytes(encode(STORED))])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(folder / "x.dcm", enforce_file_format=True)
        files[f"{syntax.name}.dcm"] = (folder / "x.dcm").read_bytes()
    picture = Image.fromarray((STORED >> 4).astype(np.uint8))
    for kind in ("JPEG", "PNG"):
        stream = io.BytesIO()
        picture.save(stream, kind)
        files[f"picture.{kind.lower()}"] = stream.getvalue()
    return files


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight bytes changed, anywhere; now and then the end is missing as well."""
    changed = bytearray(data)
    for position in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[position] = rng.integers(256)
    return bytes(changed[: rng.integers(1, len(data))] if rng.random() < 0.1 else changed)


def child(folder: Path, count: int) -> None:
    """Read `count` damaged files; write the number refused, or the first other error."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    rng, refused = np.random.default_rng(1), 0
    files = originals(folder)
    for number in range(count):
        name = list(files)[number % len(files)]
        path = folder / "damaged.bin"
        path.write_bytes(damaged(files[name], rng))
        try:
            image = read_gray(path, "row 7 (image 0a1b)")
            assert image.dtype == np.uint8 and image.ndim == 2 and image.size
        except InputError as error:
            refused += 1
            assert str(error).startswith("row 7 (image 0a1b)") and "\n" not in str(error), error
        except BaseException as error:
            (folder / "told").write_text(f"{name}, file {number}: {error!r}")
            raise
    (folder / "told").write_text(str(refused))


@pytest.mark.fault(12)
@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused(count: int, tmp_path: Path) -> None:
    files = originals(tmp_path)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert read_gray(tmp_path / name).shape == STORED.shape, name
    begun, pid = time.monotonic(), os.fork()
    if not pid:
        try:
            child(tmp_path, count)
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    told = (tmp_path / "told").read_text() if (tmp_path / "told").is_file() else "the decoder crashed"
    assert status == 0, told
    assert count // 10 < int(told) < count, "neither all nor none are refused"
    assert time.monotonic() - begun < 0.3 * count
