"""A heat-map over its radiograph or slice: as colours, as PNG, and as DICOM secondary capture without identifiers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.files import replacing
from radz.version import __version__

STRONGEST = 0.6
"""opacity of the hottest pixel"""
MARK = (0, 255, 255)
"""colour of a mark's edge; the heat runs from dark red to yellow"""

Rgb = NDArray[np.uint8]


def overlay(image: NDArray[np.uint8], heat: NDArray[np.floating], mask: NDArray[np.bool_] | None = None) -> Rgb:
    """uint8 [H, W, 3]: the image [H, W] under a map [H, W], its mark outlined.

    The map is stretched between its median and its greatest value: what lies below the median, or was not seen (NaN),
    stays clear.
    """
    colour, opacity = tint(heat, float(np.nanmedian(heat)), float(np.nanmax(heat)))
    picture = (image[..., None] * (1 - opacity) + colour * opacity).round().astype(np.uint8)
    if mask is not None:
        picture[edge(mask)] = MARK
    return picture


def tint(heat: NDArray[np.floating], low: float, high: float) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Colours [H, W, 3] from 0 to 255 and their opacity [H, W, 1] of a map [H, W], from low to high."""
    from matplotlib import colormaps

    unit = np.nan_to_num(np.clip((heat - low) / max(high - low, 1e-12), 0, 1))
    return colormaps["hot"](0.25 + 0.6 * unit)[..., :3] * 255, STRONGEST * unit[..., None]


def tiled(values: NDArray[Any]) -> NDArray[Any]:
    """The slices of a volume [S, H, W] side by side in rows, a radiograph [H, W] as it is.

    Behind the last slice an image is black, and a map NaN.
    """
    if values.ndim == 2:
        return values
    columns = math.ceil(math.sqrt(len(values)))
    rows = math.ceil(len(values) / columns)
    nothing = np.nan if np.issubdtype(values.dtype, np.floating) else 0
    full = np.full((rows * columns, *values.shape[1:]), nothing, values.dtype)
    full[: len(values)] = values
    return full.reshape(rows, columns, *values.shape[1:]).swapaxes(1, 2).reshape(rows * values.shape[1], -1)


def edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask that touch others; at larger images a line of several pixels."""
    from scipy.ndimage import binary_erosion

    inner: NDArray[np.bool_] = binary_erosion(mask, iterations=max(1, max(mask.shape) // 256))
    return mask & ~inner


def write_png(path: Path, rgb: Rgb) -> None:
    """As a whole or not at all."""
    from PIL import Image

    with replacing(path) as draft:
        Image.fromarray(rgb).save(draft, format="PNG")


def write_dicom(path: Path, rgb: Rgb, study: str, patient: str, series: str, number: int) -> None:
    """A DICOM Secondary Capture (PS3.3 A.8.1) in RGB, explicit little endian.

    Args:
        study, patient: salted hashes; they are the only identity in it, and the UIDs follow from them, so that the maps
            of a study stand together. No date, name, institution or original UID is written.
        series: what is shown, in words. number: of the instance in it.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    instance = generate_uid(entropy_srcs=["radz", patient, study, series, str(number)])
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = instance
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.StudyInstanceUID = generate_uid(entropy_srcs=["radz", patient, study])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=["radz", patient, study, series])
    data.PatientID = data.PatientName = patient
    data.PatientBirthDate = data.PatientSex = data.StudyDate = data.StudyTime = data.ReferringPhysicianName = ""
    data.StudyID, data.AccessionNumber, data.SeriesNumber, data.InstanceNumber = study[:16], "", 1, number
    # Nothing is said of the pixels: the radiograph may carry burnt-in text.
    data.Modality, data.ConversionType = "OT", "WSD"
    data.Manufacturer, data.SoftwareVersions, data.SeriesDescription = "radz", __version__, series[:64]
    data.ImageType, data.PatientOrientation = ["DERIVED", "SECONDARY"], ""
    data.ImageComments = "Heat-map of a research model; not for diagnosis."
    data.Rows, data.Columns = rgb.shape[:2]
    data.SamplesPerPixel, data.PlanarConfiguration, data.PhotometricInterpretation = 3, 0, "RGB"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    content = np.ascontiguousarray(rgb).tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    with replacing(path) as draft:
        data.save_as(draft, enforce_file_format=True)
