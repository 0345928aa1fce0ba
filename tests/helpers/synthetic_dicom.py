"""Radiographs made in a test, the files that pydicom ships, and the comparison of gray images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

SIDES = (2.0, 2.5, 4.0)
"""Mm between columns, rows, slices of `series`."""
AXIAL = np.eye(3)


def bundled(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def dataset(stored: np.ndarray, bits: int = 12, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """A radiograph with these stored values [H, W] or [H, W, 3]."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Rows, ds.Columns = stored.shape[:2]
    ds.SamplesPerPixel = 3 if stored.ndim == 3 else 1
    if stored.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * stored.itemsize, bits, bits - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PhotometricInterpretation = "RGB" if stored.ndim == 3 else "MONOCHROME2"
    for name, value in tags.items():
        setattr(ds, name, value)
    big = syntax == ExplicitVRBigEndian
    ds.PixelData = stored.astype(stored.dtype.newbyteorder(">" if big else "<")).tobytes()
    ds["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    if syntax == RLELossless:
        ds.compress(RLELossless)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds


def written(folder: Path, stored: np.ndarray, name: str = "x.dcm", **settings: Any) -> Path:
    dataset(stored, **settings).save_as(folder / name, enforce_file_format=True)
    return folder / name


def stretched(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    low, high = values.min() if low is None else low, values.max() if high is None else high
    return np.clip((values - low) / (high - low), 0, 1) * 255


def assert_gray(image: np.ndarray, expected: np.ndarray, tolerance: float = 0.51) -> None:
    assert image.dtype == np.uint8 and image.shape == expected.shape
    assert np.abs(image.astype(float) - expected).max() <= tolerance


def lut(values: np.ndarray, first: int, bits: int, **tags: Any) -> Dataset:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), first, bits], values.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def series(folder: Path, stored: np.ndarray, axes: np.ndarray = AXIAL, **tags: Any) -> list[Path]:
    """Write stored values [columns, rows, slices] as slices of shuffled names; returns the paths in order of space."""
    folder.mkdir(exist_ok=True)
    names = np.random.default_rng(1).permutation(stored.shape[2])
    settings = {"SeriesInstanceUID": generate_uid(), "RescaleSlope": 1, "RescaleIntercept": 0} | tags
    paths = []
    for index, number in enumerate(names):
        origin = np.array([-40.0, 25, -700]) + index * SIDES[2] * axes[2]
        ds = dataset(
            np.ascontiguousarray(stored[:, :, index].T), bits=16, SOPClassUID=CTImageStorage, Modality="CT",
            ImageOrientationPatient=np.round(axes[:2].ravel(), 8).tolist(), PixelSpacing=[SIDES[1], SIDES[0]],
            ImagePositionPatient=np.round(origin, 6).tolist(), InstanceNumber=int(number), **settings,
        )  # fmt: skip
        paths.append(folder / f"IM{number:04d}")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths
