"""What a DICOM object is, by its Modality and its SOP class: so that no ultrasound is read as a chest radiograph.

Defined Terms of Modality: PS3.3 C.7.3.1.1.1, with the retired ones. An object without Modality (de-identification may
blank it), or with a word that is no Defined Term, is taken for what the caller says unless its SOP class is another's.
"""

from __future__ import annotations

from pydicom import Dataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MediaStorageDirectoryStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from data_modules.errors import OtherKind

RADIOGRAPHS = ("CR", "DX", "RG")
FOREIGN = frozenset((
    "AR", "AS", "ASMT", "AU", "BDUS", "BI", "BMD", "CD", "CF", "CP", "CS", "CTPROTOCOL", "DD", "DF", "DG", "DM",
    "DMS", "DOC", "DS", "EC", "ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FA", "FID", "FS", "GM", "HC", "HD", "IO",
    "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LP", "LS", "M3D", "MA", "MG", "MR", "MS", "NM", "OAM", "OCT",
    "OP", "OPM", "OPR", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "PA", "PLAN", "POS", "PR", "PT", "PX", "REG",
    "RESP", "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG",
    "SM", "SMR", "SR", "SRF", "ST", "STAIN", "TEXTUREMAP", "TG", "US", "VA", "VF", "XA", "XAPROTOCOL", "XC",
))  # fmt: skip
"""Defined Terms that are neither a radiograph nor a CT. OT (other) and RF (of rooms that make both) may be one."""
CAPTURES = (
    SecondaryCaptureImageStorage, MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage,
)  # fmt: skip
CLASSES = {
    "chest_xray": (
        ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, DigitalXRayImageStorageForProcessing,
        *CAPTURES,
    ),
    "chest_ct": (CTImageStorage, *CAPTURES),
}  # fmt: skip
"""SOP classes of pictures."""
OTHERS = {"chest_xray": FOREIGN | {"CT"}, "chest_ct": FOREIGN | {*RADIOGRAPHS, "RF"}}
NAMES = {"chest_xray": "chest radiograph", "chest_ct": "CT"}
HINTS = {"CT": "; a CT is read from the folder of its slices"}


def check_kind(dataset: Dataset, modality: str, where: str) -> None:
    """OtherKind where an object says that it is no picture of `modality` (chest_xray or chest_ct).

    A slice of a CT is none either: its window is that of its header, and a CT is seen by those of the experiment.
    """
    term, sop_class = kind(dataset)
    if term in OTHERS[modality]:
        held = f"Modality holds {term}"
    elif sop_class not in CLASSES[modality] and sop_class.type == "SOP Class":  # a private class has no name here
        held = f"SOPClassUID names {sop_class.name}"
        term = "CT" if sop_class == CTImageStorage else term
    elif is_ct_slice(dataset) and sop_class not in CAPTURES:
        held = "is one slice of a CT, which is read as a whole"
        raise OtherKind(f"{where}: {held}; give the folder of its series", held)
    else:
        return
    raise OtherKind(f"{where}: is no {NAMES[modality]}: {held}{HINTS.get(term, '; leave the file out')}", held)


def is_ct_slice(dataset: Dataset) -> bool:
    """Return whether an object is of a CT, by Modality or by its SOP class."""
    term, sop_class = kind(dataset)
    return term == "CT" or (sop_class == CTImageStorage and term not in OTHERS["chest_ct"])


def is_directory(dataset: Dataset) -> bool:
    """Return whether an object is the table of contents of a medium, a DICOMDIR."""
    return kind(dataset)[1] == MediaStorageDirectoryStorage


def kind(dataset: Dataset) -> tuple[str, UID]:
    """Return Modality in capitals, and the SOP class; empty where they are absent or blank."""
    meta = getattr(dataset, "file_meta", {})
    sop_class = dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""
    return str(dataset.get("Modality") or "").strip(" \0").upper(), UID(str(sop_class).strip(" \0"))
