"""One radiograph as a DICOM file: 12 bits stored, MONOCHROME2, or MONOCHROME1 with inverted values for some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from data_modules.phantom.expose import BITS, FULL, Exposed
from data_modules.phantom.study import PhantomStudy

UID_ROOT = "1.2.826.0.1.3680043.8.498."  # the free root that pydicom's own UIDs use
INVERTED_SHARE = 0.2


def write_dicom(path: Path, study: PhantomStudy, shown: Exposed, spacing: float, patient: str, seed: int) -> None:
    """Writes Explicit VR Little Endian at `path`; `spacing` mm at the detector. Ids and dates are fictitious."""
    inverted = np.random.default_rng([seed, study.index, len(study.split), 3]).random() < INVERTED_SHARE
    stored = (FULL - shown.pixels if inverted else shown.pixels).astype("<u2")
    number = f"{seed}.{len(study.split)}.{study.index + 1}"
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = UID(f"{UID_ROOT}{number}.3")
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = ComputedRadiographyImageStorage
    data.SOPInstanceUID = f"{UID_ROOT}{number}.3"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{UID_ROOT}{number}.1", f"{UID_ROOT}{number}.2"
    data.Modality, data.Manufacturer, data.SeriesNumber, data.InstanceNumber = "CR", "phantom", 1, 1
    data.BodyPartExamined, data.ViewPosition, data.PatientOrientation = "CHEST", study.body.view, ["L", "F"]
    data.PatientID, data.PatientName, data.PatientSex = patient, f"PHANTOM^{patient}", study.body.sex
    data.PatientAge, data.StudyDate, data.StudyID = f"{study.body.age:03d}Y", "20000101", str(study.index)
    data.AccessionNumber, data.KVP = f"{study.split}{study.index}", "120"
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, BITS, BITS - 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.PixelSpacing = data.ImagerPixelSpacing = [f"{spacing:.4f}"] * 2
    data.WindowCenter = str(FULL - shown.center if inverted else shown.center)
    data.WindowWidth = str(shown.width)
    data.PixelData = stored.tobytes()
    data.save_as(path, enforce_file_format=True)
