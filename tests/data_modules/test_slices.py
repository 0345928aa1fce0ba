"""The slices of CT volumes that are shown, and their windows."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from test_volumes import phantom

from data_modules.ct_config import CtConfig
from data_modules.errors import InputError
from data_modules.slices import images, mask_slices
from data_modules.volumes import Volume

RNG = np.random.default_rng(3)


def gradient(total: int = 24, depth: float = 2.5) -> Volume:
    """Slice k shows k * 10 in the bone window."""
    hu = np.round(-500 + np.arange(total) * 10 / 255 * 1800).astype(np.int16)
    return Volume(np.broadcast_to(hu, (6, 5, total)), (1.0, 1.0, depth))


@pytest.mark.parametrize(
    ("ct", "chosen"),
    [
        (CtConfig(["bone"], 4, "uniform"), [20, 14, 8, 2]),
        (CtConfig(["bone"], 1, "uniform"), [11]),
        (CtConfig(["bone"], 24, "uniform"), list(range(23, -1, -1))),
        (CtConfig(["bone"], 100, "uniform"), list(range(23, -1, -1))),
        (CtConfig(["bone"], 4, "lung"), [20, 14, 8, 2]),  # no lung: all slices
        (CtConfig(["bone"], 4, "every_mm", 10.0), [21, 17, 13, 9, 5, 1]),
        (CtConfig(["bone"], 4, "every_mm", 7.0), [21, 18, 16, 13, 10, 7, 4, 2]),
        (CtConfig(["bone"], 4, "every_mm", 1000.0), [11]),
        (CtConfig(["bone"], 4, "every_mm", 0.1), list(range(23, -1, -1))),
    ],
)
def test_chosen_slices(ct: CtConfig, chosen: list[int]) -> None:
    shown = images(gradient(), ct)
    assert shown.dtype == np.uint8 and shown.shape == (len(chosen), 1, 5, 6)
    assert np.round(shown[:, 0, 0, 0] / 10).astype(int).tolist() == chosen


def test_windows_by_hand() -> None:
    values = [-3000, -1350, -1000, -600, -500, -160, -100, 0, 150, 240, 900, 1300, 3000]
    hu = np.array(values, dtype=np.int16).reshape(-1, 1, 1)
    shown = images(Volume(hu, (1, 1, 1)), CtConfig(["lung", "mediastinum", "bone"], 1, "uniform"))
    assert shown.shape == (1, 3, 1, 13)
    assert shown[0, 0, 0, ::-1].tolist() == [0, 0, 60, 128, 144, 202, 212, 230, 255, 255, 255, 255, 255]
    assert shown[0, 1, 0, ::-1].tolist() == [0, 0, 0, 0, 0, 0, 38, 102, 198, 255, 255, 255, 255]
    assert shown[0, 2, 0, ::-1].tolist() == [0, 0, 0, 0, 0, 48, 57, 71, 92, 105, 198, 255, 255]
    alone = images(Volume(hu, (1, 1, 1)), CtConfig(["pe"], 1, "uniform"))
    assert alone[0, 0, 0, ::-1].tolist() == [0, 0, 0, 0, 0, 0, 0, 26, 64, 87, 255, 255, 255]


def test_windows_by_number() -> None:
    """WIDTH/CENTRE, as MedGemma's three are given."""
    hu = np.array([-1225, -135, 0, 40, 80, 215, 1025], dtype=np.int16).reshape(-1, 1, 1)
    shown = images(Volume(hu, (1, 1, 1)), CtConfig(["2250/-100", "350/40", "80/40"], 1, "uniform"))[0, :, 0, ::-1]
    assert shown.tolist() == [
        [0, 124, 139, 143, 148, 163, 255], [0, 0, 98, 128, 157, 255, 255], [0, 0, 0, 128, 255, 255, 255]
    ]  # fmt: skip
    named = images(Volume(hu, (1, 1, 1)), CtConfig(["mediastinum"], 1, "uniform"))
    assert np.array_equal(named, images(Volume(hu, (1, 1, 1)), CtConfig(["400.0/40"], 1, "uniform")))


@pytest.mark.fault(17)
@pytest.mark.parametrize("window", ["lnug", "350", "0/40", "-80/40", "nan/40", "inf/40", "350/inf", "40/350/1", "/"])
def test_a_window_that_is_none(window: str) -> None:
    with pytest.raises(InputError, match=r"^data\.ct\.windows: '.*(nor WIDTH/CENTRE in HU|a width above 0)"):
        CtConfig([window]).check("data.ct")


def test_pixels_become_square() -> None:
    hu = np.broadcast_to(np.arange(0, 400, 10, dtype=np.int16)[:, None, None], (40, 12, 2))
    ct = CtConfig(["bone"], 2, "uniform")
    shown = images(Volume(hu, (2.0, 1.0, 1.0)), ct)
    assert shown.shape == (2, 1, 12, 80)
    inside = (np.arange(80) + 0.5) / 2 - 0.5  # where an output pixel lies between the centres of the input's
    expected = np.rint((390 - 10 * inside.clip(0, 39) + 500) / 1800 * 255)
    assert np.abs(shown[0, 0, 5] - expected).max() <= 1
    assert images(Volume(hu, (1.0, 3.0, 1.0)), ct).shape == (2, 1, 36, 40)
    assert images(Volume(hu, (1.0, 1.009, 1.0)), ct).shape == (2, 1, 12, 40)
    assert images(Volume(hu, (1.0, 1.05, 1.0)), ct).shape == (2, 1, 13, 40)


def patient(spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A noisy trunk of 500 mm with neck, arms, bowel gas, table and cushions; returns HU and the mask of the lungs."""
    shape = tuple(round(length / side) for length, side in zip((400, 320, 500), spacing, strict=True))
    x, y, z = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij", sparse=True)
    hu = np.full(shape, -1000.0)
    hu[(np.abs(x - 200) < 180) & (np.abs(y - 40) < 22) & (z >= 0)] = -100  # the shell of the table, then its foam
    hu[(np.abs(x - 200) < 178) & (np.abs(y - 40) < 20) & (z >= 0)] = -900
    hu[(np.abs(x - 200) < 180) & (y < 14) & (z >= 0)] = 40  # a dense plate below
    hu[(np.abs(x - 200) < 150) & (np.abs(y - 164) < 60) & (z >= 0)] = -900  # cushions between trunk and arms
    wide, deep = np.where(z > 420, 60, 115), np.where(z > 420, 60, 100)
    hu[((x - 200) / wide) ** 2 + ((y - 164) / deep) ** 2 < 1] = 30
    for side in (30, 370):
        hu[((x - side) / 24) ** 2 + ((y - 164) / 60) ** 2 + 0 * z < 1] = 30
    hu[((x - 200) / 9) ** 2 + ((y - 174) / 9) ** 2 + 0 * z < np.where(z > 250, 1, 0)] = -990  # windpipe
    hu[((x - 170) / 70) ** 2 + ((y - 190) / 45) ** 2 + ((z - 150) / 50) ** 2 < 1] = -1000  # gas in the bowel
    lungs = np.zeros(shape, dtype=bool)
    for side in (142, 258):
        lungs |= ((x - side) / 48) ** 2 + ((y - 164) / 75) ** 2 + ((z - 290) / 110) ** 2 < 1
    hu[lungs] = -840
    return np.round(hu + RNG.normal(0, 40, shape)).astype(np.int16), lungs


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 5.0), (1.6, 1.6, 2.0), (3.1, 2.4, 1.5)])
def test_slices_with_lung_are_found_between_neck_table_and_bowel(spacing: tuple[float, float, float]) -> None:
    hu, lungs = patient(spacing)
    area = lungs.sum((0, 1))
    shows = np.flatnonzero(area > 0.15 * area.max())
    shown = images(Volume(hu, spacing), CtConfig(["bone"], 500, "lung"))
    everything = images(Volume(hu, spacing), CtConfig(["bone"], 500, "uniform"))
    start = next(k for k, image in enumerate(everything) if np.array_equal(image, shown[0]))
    end = start + len(shown)
    assert np.array_equal(everything[start:end], shown)
    slack = np.ceil(7 / spacing[2])
    assert abs(hu.shape[2] - 1 - start - shows[-1]) <= slack and abs(hu.shape[2] - end - shows[0]) <= slack


def test_no_lung_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    images(gradient(), CtConfig(slices=3))
    assert "no lung found" in caplog.text and "24 slices" in caplog.text
    caplog.clear()
    images(Volume(phantom((90, 80, 30)), (3.0, 3.0, 5.0)), CtConfig(slices=3))
    assert not caplog.records


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 2.0), (1.0, 0.5, 2.0)])
def test_a_mask_lies_where_the_image_shows_its_voxels(spacing: tuple[float, float, float]) -> None:
    """Voxels white inside of a mask and black outside: where the image is nearer to white, there is the mask."""
    mask = RNG.random((8, 6, 10)) < 0.5
    volume = Volume(np.where(mask, 2000, -2000).astype(np.int16), spacing)
    ct = CtConfig(["bone"], 4, "uniform")
    shown = images(volume, ct)[:, 0]
    found = mask_slices(mask, volume, ct)
    assert found.dtype == bool and found.shape == shown.shape == (4, volume.image_size[1], 8 if spacing[1] == 1 else 16)
    np.testing.assert_array_equal(found, shown > 127)
