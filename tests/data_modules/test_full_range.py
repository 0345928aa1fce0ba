"""Images in their full range, against pydicom, imagecodecs and the gray that the model sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import imagecodecs
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, pixel_array
from synthetic_dicom import bundled, dataset, written

from data_modules.errors import InputError
from data_modules.full_range import FullRange, of_hounsfield, read_full_range
from data_modules.pixels import read_gray

RANDOM = np.random.default_rng(0)
STORED = RANDOM.integers(0, 4096, (20, 30)).astype(np.uint16)
WINDOWS: dict[str, dict[str, Any]] = {
    "no window": {},
    "window": {"WindowCenter": 2000, "WindowWidth": 1500},
    "exact": {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": "LINEAR_EXACT"},
    "inverted": {"WindowCenter": 1800, "WindowWidth": 900, "PhotometricInterpretation": "MONOCHROME1"},
    "rescaled": {"RescaleSlope": "2", "RescaleIntercept": "-1024", "WindowCenter": 3000, "WindowWidth": 2500},
    "fraction": {"RescaleSlope": "0.013", "RescaleIntercept": "7"},
    "falling": {"RescaleSlope": "-1", "RescaleIntercept": "4095"},
    "padding": {"PixelPaddingValue": int(STORED.max()), "WindowCenter": 2000, "WindowWidth": 1500},
    "sigmoid": {"WindowCenter": 2000, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
    "shows nothing": {"WindowCenter": -9000, "WindowWidth": 10},
}


def same(path: Path) -> FullRange:
    """The image, its first gray being that of the model's way to it, to one level of rounding."""
    found = read_full_range(path)
    assert np.abs(found.gray().astype(int) - read_gray(path)).max() <= 1
    return found


@pytest.mark.parametrize("name", WINDOWS)
def test_the_first_window_shows_what_the_model_sees(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, STORED, **WINDOWS[name])
    found = same(path)
    if name in ("sigmoid", "padding"):
        return
    opened = dcmread(path)
    values = apply_modality_lut(pixel_array(opened), opened)
    np.testing.assert_allclose(found.levels * found.slope + found.intercept, values, atol=found.slope)
    assert found.inverted == (name == "inverted")


def test_all_levels_are_kept(tmp_path: Path) -> None:
    found = read_full_range(written(tmp_path, STORED, WindowCenter=2000, WindowWidth=10))
    assert len(np.unique(found.levels)) == len(np.unique(STORED)) > 256
    assert (found.low, found.high) == (1995.0, 2004.0)  # C.11.2.1.2: centre - 0.5, width - 1


@hypothesis.given(
    centre=st.integers(-500, 5000), width=st.integers(2, 6000), slope=st.sampled_from([1, 0.5, 3]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_any_window(tmp_path_factory: pytest.TempPathFactory, centre: int, width: int, slope: float, seed: int) -> None:
    stored = np.random.default_rng(seed).integers(0, 4096, (9, 11)).astype(np.uint16)
    folder = tmp_path_factory.mktemp("any")
    same(written(folder, stored, WindowCenter=centre, WindowWidth=width, RescaleSlope=str(slope), RescaleIntercept="0"))


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_palette.dcm"])
def test_files_of_pydicom(name: str) -> None:
    same(bundled(name))


def test_pictures(tmp_path: Path) -> None:
    deep = RANDOM.integers(100, 40000, (17, 13)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    found = same(tmp_path / "deep.png")
    np.testing.assert_array_equal(found.levels, deep)
    flat = RANDOM.integers(0, 256, (17, 13)).astype(np.uint8)
    Image.fromarray(flat).save(tmp_path / "flat.png")
    np.testing.assert_array_equal(same(tmp_path / "flat.png").levels, flat)
    Image.fromarray(np.stack([flat] * 3, axis=2)).save(tmp_path / "colour.jpg")
    same(tmp_path / "colour.jpg")


def test_a_slice_keeps_its_hounsfield_units() -> None:
    plane = RANDOM.integers(-2000, 3000, (8, 8)).astype(np.int16)
    found = of_hounsfield(plane, -1350, 150)
    np.testing.assert_array_equal(found.levels * found.slope + found.intercept, plane)
    assert (found.gray()[plane <= -1350] == 0).all() and (found.gray()[plane >= 150] == 255).all()


def test_reduced_to_the_mean_of_what_is_below() -> None:
    levels = RANDOM.integers(0, 1 << 16, (40, 20)).astype(np.uint16)
    small = FullRange(levels, 1.0, 0.0, 0.0, 1.0).within(10)
    assert small.levels.shape == (10, 5)
    np.testing.assert_allclose(small.levels, levels.reshape(10, 4, 5, 4).mean((1, 3)), atol=0.51)
    assert FullRange(levels, 1.0, 0.0, 0.0, 1.0).within(40).levels is levels


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("empty.dcm", b"", "is empty"),
        ("words.png", b"no picture", "neither DICOM nor PNG nor JPEG"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + bytes(30), "the header of the picture is damaged$"),
        ("cut.dcm", bytes(128) + b"DICM" + bytes(9), "damaged|no pixel data|no DICOM"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=cause) as error:
        read_full_range(tmp_path / name)
    assert "\n" not in str(error.value) and name in str(error.value)
    with pytest.raises(InputError, match="cannot be opened"):
        read_full_range(tmp_path / "none.png")


def test_a_blank_picture_is_refused_as_for_the_model(tmp_path: Path) -> None:
    dataset(np.full((20, 20), 7, dtype=np.uint16)).save_as(tmp_path / "blank.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="is blank"):
        read_full_range(tmp_path / "blank.dcm")
