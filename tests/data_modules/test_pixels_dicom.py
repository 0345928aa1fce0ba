from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
import torch.nn.functional as F
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from synthetic_dicom import assert_gray, bundled, dataset, lut, stretched, written

from data_modules.decode import Recipe, decode
from data_modules.errors import InputError
from data_modules.pixels import pixel_aspect, read_gray

RNG = np.random.default_rng(0)
GRAY_FILES = [
    "693_J2KI.dcm", "CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "MR_small.dcm", "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_padded.dcm", "examples_overlay.dcm", "image_dfl.dcm", "liver_1frame.dcm", "rtdose_1frame.dcm",
    "rtdose_rle_1frame.dcm",
]  # fmt: skip
COLOUR_FILES = [
    "ExplVR_BigEnd.dcm", "SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "SC_rgb_small_odd.dcm",
    "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm", "examples_rgb_color.dcm", "examples_jpeg2k.dcm",
]  # fmt: skip


def by_pydicom(ds: Dataset) -> np.ndarray:
    """pydicom's own modality and VOI steps, scaled from their nominal range (PS3.3 C.11.2.1.2) to 0..255."""
    values = np.asarray(apply_modality_lut(ds.pixel_array, ds), dtype=float)
    if "WindowWidth" not in ds:
        inside = ds.pixel_array != ds.get("PixelPaddingValue", None)
        return stretched(values, values[inside].min(), values[inside].max())
    low, high = (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1) if ds.PixelRepresentation else (
        0, 2**ds.BitsStored - 1)  # fmt: skip
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    return stretched(apply_voi_lut(values, ds), low * slope + intercept, high * slope + intercept)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", GRAY_FILES)
@pytest.mark.fault(13)
def test_bundled_gray_files_agree_with_pydicom(name: str) -> None:
    ds = pydicom.dcmread(bundled(name))
    expected = by_pydicom(ds)
    if "PixelPaddingValue" in ds:
        expected[ds.pixel_array == ds.PixelPaddingValue] = 0
    assert_gray(read_gray(bundled(name)), expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", COLOUR_FILES)
@pytest.mark.fault(13)
def test_bundled_colour_files_become_luminance(name: str) -> None:
    ds = pydicom.dcmread(bundled(name))
    rgb = pydicom.pixels.pixel_array(ds).astype(float) / (2**ds.BitsStored - 1) * 255
    assert_gray(read_gray(bundled(name)), 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2])


@pytest.mark.fault(13)
def test_bundled_palette_file() -> None:
    ds = pydicom.dcmread(bundled("examples_palette.dcm"))
    rgb = pydicom.pixels.apply_color_lut(ds.pixel_array, ds).astype(float)
    assert rgb.max() > 255, "this palette has 16-bit entries"
    assert_gray(read_gray(bundled("examples_palette.dcm")), (rgb @ [0.299, 0.587, 0.114]) / 65535 * 255)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("kind", "bits"), [("u1", 8), ("u2", 10), ("u2", 12), ("u2", 16), ("i2", 12), ("i2", 16)])
@pytest.mark.fault(13)
def test_depths_signs_and_photometric(tmp_path: Path, photometric: str, kind: str, bits: int) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind == "i2" else (0, 2**bits)
    stored = RNG.integers(low, high, (70, 90)).astype(kind)
    path = written(tmp_path, stored, bits=bits, PhotometricInterpretation=photometric)
    expected = stretched(stored.astype(float))
    assert_gray(read_gray(path), 255 - expected if photometric == "MONOCHROME1" else expected)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
def test_transfer_syntaxes_give_the_same_image(tmp_path: Path, syntax: str) -> None:
    stored = np.arange(64 * 50, dtype=np.uint16).reshape(64, 50)
    assert_gray(read_gray(written(tmp_path, stored, syntax=syntax)), stretched(stored.astype(float)))


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.fault(13)
def test_first_window_after_rescale(tmp_path: Path, function: str | None, photometric: str) -> None:
    tags: dict[str, Any] = {
        "WindowCenter": [300.5, 9], "WindowWidth": [411, 2], "RescaleSlope": 0.5, "RescaleIntercept": -100,
        "PhotometricInterpretation": photometric,
    }  # fmt: skip
    if function:
        tags["VOILUTFunction"] = function
    stored = RNG.integers(0, 4096, (80, 80)).astype(np.uint16)
    ds = dataset(stored, **tags)
    expected = by_pydicom(ds)
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    assert_gray(read_gray(written(tmp_path, stored, **tags)), expected)
    assert 0.05 < (expected < 1).mean() + (expected > 254).mean() < 1


def test_window_formula_by_hand(tmp_path: Path) -> None:
    """Centre 3, width 5: y = ((x - 2.5) / 4 + 0.5) * 255."""
    path = written(tmp_path, np.arange(8, dtype=np.uint16)[None], WindowCenter=3, WindowWidth=5)
    assert read_gray(path).tolist() == [[0, 32, 96, 159, 223, 255, 255, 255]]


@pytest.mark.parametrize("width", [0, -5])
def test_a_window_without_width_counts_as_none(tmp_path: Path, width: int) -> None:
    stored = RNG.integers(0, 4096, (40, 40)).astype(np.uint16)
    assert_gray(
        read_gray(written(tmp_path, stored, WindowCenter=3, WindowWidth=width)), stretched(stored.astype(float))
    )


@pytest.mark.fault(13)
def test_voi_lut_goes_before_the_window(tmp_path: Path) -> None:
    table = (np.linspace(0, 1, 1000) ** 2 * 1023).astype(np.uint16)
    stored = RNG.integers(0, 4096, (60, 60)).astype(np.uint16)
    tags: dict[str, Any] = {"VOILUTSequence": [lut(table, 200, 10)], "WindowCenter": 5, "WindowWidth": 2}
    expected = table[np.clip(stored.astype(int) - 200, 0, 999)] / 1023 * 255
    assert_gray(read_gray(written(tmp_path, stored, **tags)), expected)


def test_modality_lut(tmp_path: Path) -> None:
    table = RNG.permutation(4096).astype(np.uint16)
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    path = written(tmp_path, stored, ModalityLUTSequence=[lut(table, 0, 16, ModalityLUTType="US")])
    assert_gray(read_gray(path), table.reshape(64, 64) / 4095 * 255)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_stays_out_of_the_range_and_is_black(tmp_path: Path, photometric: str) -> None:
    stored = RNG.integers(1000, 2000, (50, 50)).astype(np.uint16)
    stored[:10], stored[:, :4] = 4000, 4095
    padding = stored >= 4000
    tags: dict[str, Any] = {
        "PixelPaddingValue": 4095,
        "PixelPaddingRangeLimit": 4000,
        "PhotometricInterpretation": photometric,
    }
    inside = stored[~padding]
    expected = stretched(stored.astype(float), inside.min(), inside.max())
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    expected[padding] = 0
    assert_gray(read_gray(written(tmp_path, stored, **tags)), expected)


def test_float_pixel_data(tmp_path: Path) -> None:
    values = RNG.normal(size=(30, 30)).astype(np.float32)
    for bad in (False, True):
        values[0, 0] = np.nan if bad else values[0, 0]
        ds = dataset(np.zeros((30, 30), np.uint16))
        del ds.PixelData
        ds.BitsAllocated, ds.FloatPixelData = 32, values.tobytes()
        ds.save_as(tmp_path / "f.dcm", enforce_file_format=True)
        if bad:
            with pytest.raises(InputError, match="not finite"):
                read_gray(tmp_path / "f.dcm")
        else:
            assert_gray(read_gray(tmp_path / "f.dcm"), stretched(values))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("dead", [0, 1, 3])
def test_a_blank_image_is_refused(tmp_path: Path, photometric: str, dead: int) -> None:
    """All of one value, but for no more than a pixel in a thousand."""
    stored = np.full((60, 60), 700, np.uint16)
    stored[0, :dead] = 4000
    with pytest.raises(InputError, match=r"row 3: is blank: (99\.9|100\.0)% of its pixels have one gray value"):
        read_gray(written(tmp_path, stored, PhotometricInterpretation=photometric), "row 3")
    stored[30, : dead * 20] = 4000
    if dead:
        assert read_gray(written(tmp_path, stored, PhotometricInterpretation=photometric)).any()


def test_names_without_extension_and_other_extensions(tmp_path: Path) -> None:
    stored = np.arange(100, dtype=np.uint16).reshape(10, 10)
    for name in ("x", "x.dicom", "x.DCM", "x.jpg"):  # the magic bytes decide, not the name
        assert read_gray(written(tmp_path, stored, name=name)).shape == (10, 10)


def test_a_small_uncompressed_file_reads_in_milliseconds(tmp_path: Path) -> None:
    """About 1 ms on a quiet machine; the bound leaves room for a busy one."""
    path = written(tmp_path, RNG.integers(0, 4096, (256, 256)).astype(np.uint16), WindowCenter=2048, WindowWidth=4096)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        read_gray(path)
        times.append(time.perf_counter() - start)
    assert min(times) < 5e-3


@pytest.mark.parametrize(("frames", "shown"), [("first", 0), ("middle", 1)])
@pytest.mark.fault(13)
def test_a_frame_of_several_by_the_policy(tmp_path: Path, frames: str, shown: int) -> None:
    stored = np.random.default_rng(0).integers(0, 4000, (3, 6, 7)).astype(np.uint16)
    ds = dataset(stored[0], NumberOfFrames=3)
    ds.PixelData = stored.astype("<u2").tobytes()
    ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert_gray(read_gray(tmp_path / "x.dcm", frames=frames), stretched(stored[shown]))
    with pytest.raises(InputError, match=r"has 3 frames .*; set data.frames to first or middle"):
        read_gray(tmp_path / "x.dcm")


def test_the_frames_of_pydicoms_own_file() -> None:
    """Two RGB frames, run-length encoded."""
    path = bundled("SC_rgb_rle_2frame.dcm")
    frames = pixel_array(path)
    for policy, shown in (("first", 0), ("middle", 1)):
        assert_gray(read_gray(path, frames=policy), frames[shown] @ np.array([0.299, 0.587, 0.114]), 1.0)


@pytest.mark.parametrize(
    "tags, shape",
    [
        ({"PixelSpacing": [0.4, 0.2]}, (64, 64)),
        ({"ImagerPixelSpacing": [0.2, 0.4]}, (16, 64)),
        ({"PixelAspectRatio": [1, 2]}, (16, 64)),
        ({"PixelAspectRatio": [2, 1], "PixelSpacing": [0.2, 0.2]}, (32, 64)),
        ({"PixelSpacing": [0.2, 0.2001]}, (32, 64)),
        ({"PixelSpacing": [0.2]}, (32, 64)),
        ({"PixelSpacing": [0, 0.2]}, (32, 64)),
    ],
)
def test_pixels_are_made_square(tmp_path: Path, tags: dict[str, Any], shape: tuple[int, int]) -> None:
    """Against torch's antialiased bicubic, to the size that 100 x 200 pixels of these sides have in a square of 64."""
    y, x = np.mgrid[0:100, 0:200]
    smooth = 2000 + 900 * np.sin(y / 9) * np.cos(x / 17) + 5 * y
    path = written(tmp_path, smooth.astype(np.uint16), **tags)
    gray = torch.from_numpy(read_gray(path)).float()
    expected = F.interpolate(gray[None, None], shape, mode="bicubic", antialias=True).clamp(0, 255)[0, 0].numpy()
    found = decode(str(path), "x", Recipe(64), None)[0, 0].astype(float)
    top = (64 - shape[0]) // 2
    assert np.abs(found[top : top + shape[0]] - expected).max() <= 1.5 and not found[:top].any()


def test_pixels_that_no_detector_has_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, RNG.integers(0, 4096, (64, 64), dtype=np.uint16), PixelSpacing=[50, 0.2])
    assert decode(str(path), "x.dcm", Recipe(64), None)[0, 0].all(axis=1).any() and pixel_aspect(path) == 1.0
    assert "x.dcm: its header has pixels 250 times as high as wide; taken for square" in caplog.text
