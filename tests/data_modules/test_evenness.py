"""CT series whose positions an export has rounded, that are sheared or shifted, and what lies beside their slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from synthetic_dicom import SIDES, series
from test_volumes import phantom
from test_volumes_series import ORIENTATIONS, edit, refused

from data_modules.errors import InputError
from data_modules.evenness import check_shear, is_rounded
from data_modules.volumes import read_volume

AXIAL, NORMAL = np.eye(3)[:2], np.array([0.0, 0.0, 1.0])


def moved(paths: list[Path], places: np.ndarray) -> None:
    """Write other positions [N, 3]."""
    for path, place in zip(paths, places, strict=True):
        edit(path, ImagePositionPatient=[f"{value:.6f}" for value in place])


def origins(z: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(z), np.zeros_like(z), z], 1)


@given(st.floats(1.0, 10.0), st.floats(-500, 500), st.integers(20, 400), st.sampled_from([1.0, 0.1]))
def test_rounded_positions_are_even(distance: float, start: float, count: int, unit: float) -> None:
    z = np.rint((start + distance * np.arange(count)) / unit) * unit
    gaps = np.diff(z)
    odd = (np.abs(gaps - np.median(gaps)) > 0.1 * np.median(gaps)).sum()
    if odd and distance > 2.5 * unit:  # where none is odd, nothing has to be explained
        assert is_rounded(origins(z), NORMAL, 0.1)
    assert odd < 2 or is_rounded(origins(z), NORMAL, 0.1)


@given(st.floats(2.1, 10.0), st.floats(-500, 500), st.integers(20, 400), st.data(), st.sampled_from([1.0, 0.1]))
def test_a_missing_slice_is_not_taken_for_rounding(
    distance: float, start: float, count: int, data: st.DataObject, unit: float
) -> None:
    z = np.rint((start + distance * np.arange(count)) / unit) * unit
    z = np.delete(z, data.draw(st.integers(1, count - 2)))
    assert not is_rounded(origins(z), NORMAL, 0.1)
    assert not is_rounded(origins(np.delete(start + distance * np.arange(count), 5)), NORMAL, 0.1)


@pytest.mark.parametrize("unit", [1.0, 0.1])
@pytest.mark.parametrize("distance", [0.75, 1.25, 2.5, 0.625])
def test_a_rounded_series_is_read_as_it_was(tmp_path: Path, unit: float, distance: float) -> None:
    hu = phantom()
    paths = series(tmp_path / "s", hu)
    z = np.rint((-700 + distance * np.arange(len(paths))) / unit) * unit
    moved(paths, np.stack([np.full_like(z, -40.0), np.full_like(z, 25.0), z], 1))
    if distance < unit:
        refused(tmp_path / "s", "slices lie where another lies")
        return
    volume = read_volume(tmp_path / "s")
    assert np.array_equal(volume.hu, hu[::-1, ::-1])
    assert volume.spacing[2] == pytest.approx(distance, abs=unit / (len(paths) - 1))


def test_one_missing_slice_of_whole_millimetres(tmp_path: Path) -> None:
    paths = series(tmp_path / "s", phantom())
    z = -700.0 + np.arange(len(paths))
    moved(paths, np.stack([np.full_like(z, -40.0), np.full_like(z, 25.0), z], 1))
    paths[7].unlink()
    refused(tmp_path / "s", "slices are missing or unevenly spaced")


@pytest.mark.parametrize(("degrees", "told"), [(0.2, False), (15, True), (29, True), (31, None)])
def test_a_gantry_tilt(tmp_path: Path, degrees: float, told: bool | None, caplog: pytest.LogCaptureFixture) -> None:
    """Positions along the table, slices turned about the line from left to right."""
    hu, angle = phantom(), np.deg2rad(degrees)
    axes = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    paths = series(tmp_path / "s", hu, axes)
    table = np.arange(len(paths)) * SIDES[2]
    moved(paths, np.stack([np.full(len(paths), -40.0), np.full(len(paths), 25.0), table - 700], 1))
    if told is None:
        refused(tmp_path / "s", r"sheared by 31\.0 degrees, a gantry tilt beyond 30; resample")
        return
    volume = read_volume(tmp_path / "s", "row 4")
    assert np.array_equal(volume.hu, hu[::-1, ::-1])
    assert volume.spacing[2] == pytest.approx(SIDES[2] * np.cos(angle), rel=1e-4)
    warning = f"row 4: the slices are sheared by {degrees:.1f} degrees, a gantry tilt; they are read as they are, not"
    assert caplog.messages == [f"{warning} resampled"] * bool(told)


def test_shifts_that_no_gantry_makes() -> None:
    z = 2.5 * np.arange(40)
    one = origins(z)
    one[17, 0] += 3
    with pytest.raises(InputError, match=r"row 4: slices are shifted against each other .* by up to 3\.0 mm"):
        check_shear(one, AXIAL, 0.7, "row 4")
    half = origins(z)
    half[20:, 1] += 30
    with pytest.raises(InputError, match="shifted against each other"):
        check_shear(half, AXIAL, 0.7, "row 4")
    rounded = origins(z)
    rounded[:, :2] = np.rint(np.random.default_rng(0).uniform(-0.4, 0.4, (40, 2)))
    check_shear(rounded, AXIAL, 0.7, "row 4")
    coronal = ORIENTATIONS["coronal"]
    sheared = np.arange(40)[:, None] * (2.5 * coronal[2] + 0.3 * coronal[0])
    with pytest.raises(InputError, match=r"sheared by 6\.8 degrees, .* and not axial"):
        check_shear(sheared, coronal[:2], 0.7, "row 4")


def test_numbers_as_text_of_another_vr(tmp_path: Path) -> None:
    hu = phantom()
    for path in series(tmp_path / "s", hu):
        ds = dcmread(path)
        place = "\\".join(str(value).replace(".", ",") for value in ds.ImagePositionPatient)
        del ds.PixelSpacing, ds.ImagePositionPatient
        ds.add_new("PixelSpacing", "UT", "2,5\\2.0 ")
        ds.add_new("ImagePositionPatient", "LT", place)
        ds.save_as(path)
    volume = read_volume(tmp_path / "s")
    assert np.array_equal(volume.hu, hu[::-1, ::-1]) and volume.spacing == pytest.approx(SIDES)
    edit(path, PixelSpacing=None)
    ds = dcmread(path)
    ds.add_new("PixelSpacing", "UT", "2.5\\2.0\\1")
    ds.save_as(path)
    refused(tmp_path / "s", "PixelSpacing holds '2.5, 2.0, 1'; 2 numbers must stand there")


def test_slices_that_an_export_gave_one_uid_or_half_a_scale(tmp_path: Path) -> None:
    hu = phantom()
    paths = series(tmp_path / "s", hu)
    for path in paths:
        edit(path, SOPInstanceUID="1.2.3", SeriesInstanceUID="", SOPClassUID="")
    assert np.array_equal(read_volume(tmp_path / "s").hu, hu[::-1, ::-1])
    for path in paths[:4]:
        ds = dcmread(path)
        del ds.RescaleSlope, ds.RescaleIntercept
        ds.save_as(path)
    refused(tmp_path / "s", "some slices have RescaleSlope or RescaleIntercept, others not")
