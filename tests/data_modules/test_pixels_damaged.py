from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGLSLossless
from synthetic_dicom import bundled, dataset, written

from data_modules import dicom
from data_modules.errors import InputError
from data_modules.pixels import read_gray

RNG = np.random.default_rng(0)
BAD_FILES = {
    "MR_truncated.dcm": "less than expected", "rtplan.dcm": "no pixel data", "test-SR.dcm": "no pixel data",
    "badVR.dcm": "NumberOfFrames holds '1A'", "SC_rgb_rle_2frame.dcm": "2 frames", "no_meta.dcm": "header is damaged",
    "rtplan_truncated.dcm": "no pixel data", "rtdose.dcm": "15 frames",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", list(BAD_FILES))
@pytest.mark.fault(11)
def test_bundled_unreadable_files_name_file_and_cause(name: str) -> None:
    with pytest.raises(InputError) as caught:
        read_gray(bundled(name), "row 7 (image 0a1b)")
    message = str(caught.value)
    assert message.startswith("row 7 (image 0a1b): ") and BAD_FILES[name] in message
    assert name not in message and "\n" not in message


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "is empty"), (b"PK\x03\x04 zip", "neither DICOM nor PNG nor JPEG"), (None, "cannot be opened")],
)
def test_other_files(tmp_path: Path, content: bytes | None, part: str) -> None:
    if content is not None:
        (tmp_path / "secret.bin").write_bytes(content)
    with pytest.raises(InputError, match=part) as caught:
        read_gray(tmp_path / "secret.bin", "row 2")
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match=r"secret\.bin"):
        read_gray(tmp_path / "secret.bin")


@pytest.mark.fault(11)
def test_every_truncation_is_refused_with_one_line(tmp_path: Path) -> None:
    whole = written(tmp_path, RNG.integers(0, 4096, (40, 40)).astype(np.uint16)).read_bytes()
    for end in range(1, len(whole), 61):
        (tmp_path / "cut.dcm").write_bytes(whole[:end])
        with pytest.raises(InputError):
            read_gray(tmp_path / "cut.dcm")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.fault(12)
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    whole = bytearray(written(tmp_path, RNG.integers(0, 4096, (16, 16)).astype(np.uint16)).read_bytes())
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for position in rng.integers(132, 600, 4):
            damaged[position] = rng.integers(256)
        (tmp_path / "bad.dcm").write_bytes(damaged)
        try:
            assert read_gray(tmp_path / "bad.dcm").dtype == np.uint8
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 10


@pytest.mark.fault(11)
def test_missing_decoder_names_the_transfer_syntax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = dataset(np.zeros((8, 8), np.uint16))
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7"])
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)

    class Absent:
        is_available = False
        missing_dependencies = ("imagecodecs",)

    monkeypatch.setattr(dicom, "get_decoder", lambda syntax: Absent())
    with pytest.raises(InputError, match=r"1\.2\.840\.10008\.1\.2\.4\.80 \(JPEG-LS.*install one of: imagecodecs"):
        read_gray(tmp_path / "x.dcm")


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    ("syntax", "part"), [("1.2.3.4", r"1\.2\.3\.4.*pydicom has no decoder"), (None, "names no transfer syntax")]
)
def test_an_unknown_transfer_syntax_is_told_apart_from_damage(tmp_path: Path, syntax: str | None, part: str) -> None:
    ds = dataset(np.zeros((8, 8), np.uint16))
    if syntax:
        ds.file_meta.TransferSyntaxUID = UID(syntax)
    else:
        del ds.file_meta.TransferSyntaxUID
    ds.save_as(tmp_path / "x.dcm", implicit_vr=False, little_endian=True, enforce_file_format=False)
    data = (tmp_path / "x.dcm").read_bytes()
    (tmp_path / "x.dcm").write_bytes(data if data[128:132] == b"DICM" else b"\0" * 128 + b"DICM" + data)
    with pytest.raises(InputError, match=part):
        read_gray(tmp_path / "x.dcm")


@pytest.mark.fault(11)
def test_decompression_bombs_are_refused_before_they_inflate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, np.zeros((8, 8), np.uint16), Rows=60000, Columns=60000)
    with pytest.raises(InputError, match="3600000000 pixels"):
        read_gray(path)
    monkeypatch.setattr(dicom, "MAX_BYTES", 1 << 20)
    meta_only = written(tmp_path, np.zeros((8, 8), np.uint16), syntax=DeflatedExplicitVRLittleEndian).read_bytes()
    start = 144 + int.from_bytes(meta_only[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    (tmp_path / "bomb.dcm").write_bytes(meta_only[:start] + packer.compress(b"\0" * (4 << 20)) + packer.flush())
    with pytest.raises(InputError, match="inflates to more than 1 MiB"):
        read_gray(tmp_path / "bomb.dcm")
    (tmp_path / "big.dcm").write_bytes(b"\0" * ((1 << 20) + 1))
    with pytest.raises(InputError, match="1 MiB"):
        read_gray(tmp_path / "big.dcm")
