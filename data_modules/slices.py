"""Axial slices of a CT volume as images: which ones, through which windows.

Images are shown as in radiology, front up and the patient's right side on the left of the image.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.ct_config import CtConfig, centre_and_width
from data_modules.volumes import Volume

log = logging.getLogger(__name__)

LUNG_HU = (-950, -500)
BODY_HU = -300
LUNG_BLOCK_MM = 6.0
"""Lung is looked for in block means of this size, where the thin shells of a table fade into their foam."""
LUNG_STEP_MM = 3.0
LUNG_SHARE = 0.15
"""Share of the largest lung area above which a slice shows lung."""
LEAST_LUNG_CM2 = 5.0


def images(volume: Volume, ct: CtConfig) -> NDArray[np.uint8]:
    """Return the chosen axial slices as uint8 [S, C, H, W], from head to feet, one channel a window.

    Row 0 is the front, column 0 the patient's right side; pixels are square (bilinear, to the smaller spacing). A
    window is linear, 0 at centre - width / 2 and 255 at centre + width / 2, without the half steps of DICOM's formula.
    No slice comes twice: S is less than `ct.slices` when the volume, or its run of slices with lung, has fewer.
    """
    tables = [_window_table(window) for window in ct.windows]
    return np.stack([_image(volume, index, tables) for index in chosen_slices(volume, ct)])


def mask_slices(mask: NDArray[np.bool_], volume: Volume, ct: CtConfig) -> NDArray[np.bool_]:
    """A mask [X, Y, Z] of the volume's voxels where `images` shows them: bool [S, H, W], nearest voxel."""
    planes = [Image.fromarray(_plane(mask, index).astype(np.uint8)) for index in chosen_slices(volume, ct)]
    return np.stack([np.asarray(plane.resize(volume.image_size, Image.Resampling.NEAREST)) > 0 for plane in planes])


def _plane(voxels: NDArray, index: int) -> NDArray:
    """[H, W] of an axial slice as radiology shows it."""
    return np.ascontiguousarray(voxels[::-1, ::-1, index].T)


def _image(volume: Volume, index: int, tables: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """uint8 [C, H, W]."""
    plane = axial(volume, index)
    return np.stack([table[plane.view(np.uint16)] for table in tables])


def axial(volume: Volume, index: int) -> NDArray[np.int16]:
    """Return int16 [H, W], the HU of the slice at `index` on Z, as an image lies (see `images`)."""
    plane = _plane(volume.hu, index)
    size = volume.image_size
    if size != plane.shape[::-1]:
        values = Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        plane = np.rint(np.asarray(values)).astype(np.int16)
    return plane


def _window_table(window: str) -> NDArray[np.uint8]:
    """uint8 [65536]: the gray of an int16 HU, at the index that its bits are as uint16."""
    centre, width = centre_and_width(window)
    hu = np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.float64)
    return np.rint(np.clip((hu - (centre - width / 2)) / width, 0.0, 1.0) * 255.0).astype(np.uint8)


def chosen_slices(volume: Volume, ct: CtConfig) -> list[int]:
    """Return the indices on Z of the slices that become images, falling (from head to feet), each once."""
    total = volume.hu.shape[2]
    if ct.choice == "every_mm":
        extent = total * volume.spacing[2]
        count = max(1, int(extent / ct.every_mm + 1e-6))
        first = (extent - (count - 1) * ct.every_mm) / 2
        depths = (first + ct.every_mm * np.arange(count)) / volume.spacing[2]
        return [total - 1 - int(depth) for depth in np.unique(np.clip(depths + 1e-6, 0, total - 1).astype(int))]
    start, end = _lung_run(volume) if ct.choice == "lung" else (0, total)
    count = min(ct.slices, end - start)
    return [end - 1 - int((share + 0.5) * (end - start) / count) for share in range(count)]


def _lung_run(volume: Volume) -> tuple[int, int]:
    """First and past-last index on Z of the slices around the one with most lung; all of them where none shows any."""
    total, step = volume.hu.shape[2], max(1, round(LUNG_STEP_MM / volume.spacing[2]))
    areas = np.array([_lung_area(volume, index) for index in range(0, total, step)])
    best = int(areas.argmax())
    if areas[best] < LEAST_LUNG_CM2:
        log.info("no lung found in a CT of %d slices; all of them are taken", total)
        return 0, total
    without = np.flatnonzero(areas <= LUNG_SHARE * areas[best])
    first = int(without[without < best].max(initial=-1)) + 1
    last = int(without[without > best].min(initial=len(areas))) - 1
    return first * step, min(total, (last + 1) * step)


def _lung_area(volume: Volume, index: int) -> float:
    """cm2 of lung in an axial slice: between -950 and -500 HU, with body on all four sides along its row and column.

    So the air around the body and beside the arms, the foam of the table, gas in bowel and windpipe count little.
    """
    plane, sides = volume.hu[:, :, index], volume.spacing[:2]
    a, b = (max(1, min(round(LUNG_BLOCK_MM / side), length)) for side, length in zip(sides, plane.shape, strict=True))
    columns, rows = plane.shape[0] // a, plane.shape[1] // b
    means = plane[: columns * a, : rows * b].reshape(columns, a, rows, b).mean((1, 3))
    lung = (means >= LUNG_HU[0]) & (means <= LUNG_HU[1])
    for axis in (0, 1):
        for way in (slice(None), slice(None, None, -1)):
            turned = np.moveaxis(means > BODY_HU, axis, 0)[way]
            lung &= np.moveaxis(np.logical_or.accumulate(turned)[way], 0, axis)
    return float(lung.sum()) * a * b * sides[0] * sides[1] / 100
