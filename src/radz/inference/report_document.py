"""The DICOM object of a structured report: an Enhanced SR by TID 1500 (PS3.16), written with highdicom, and its codes.

highdicom is under MIT (Bridge et al., J Digit Imaging 2022, doi 10.1007/s10278-022-00683-y). Codes are those of PS3.16
as pydicom carries them, and where it has none for exactly this, of the private scheme `99RADZ`. To import this takes a
second, for pydicom's dictionary of codes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from data_modules.dicom import one_file
from data_modules.dicom_kind import kind
from data_modules.dicom_patient import check_one_patient
from data_modules.dicom_series import slice_files
from data_modules.errors import InputError
from radz.version import __version__

# Both may quote patients. What is wrong with a header is told by the file, in one line.
logging.getLogger("highdicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=UserWarning, module=r"highdicom\.")

SCHEME, SCHEME_NAME = "99RADZ", "Names of radz, private"
CODED = {
    "lung_opacity": codes.DCM.Opacity,
    "cardiomegaly": codes.SCT.Cardiomegaly,
    "edema": codes.SCT.PulmonaryEdema,
    "pleural_effusion": codes.SCT.PleuralEffusion,
    "pneumothorax": codes.SCT.Pneumothorax,
    "nodule": codes.SCT.Nodule,
    "mass": codes.SCT.Mass,
    "infiltration": codes.DCM.Infiltrate,
    "lymphadenopathy": codes.SCT.Lymphadenopathy,
    "pericardial_effusion": codes.SCT.PericardialEffusion,
    "mosaic_attenuation": codes.DCM.MosaicPattern,
    "pulmonary_embolism": codes.SCT.PulmonaryEmbolism,
}
"""Findings with a code of their own in PS3.16 (CID 6102 of the chest, or a disorder of that name)."""
SCORE, CALL, ANSWER = (
    Code("score", SCHEME, "Score in [0, 1]"),
    Code("call", SCHEME, "Call at the threshold of validation"),
    Code("answer", SCHEME, "Answer of conformal sets"),
)
CALLS = {0: codes.SCT.Absent, 1: codes.SCT.Present}
ANSWERS = {
    "present": codes.SCT.Present,
    "absent": codes.SCT.Absent,
    "unsure": codes.DCM.PresenceUndetermined,
    "unusual": Code("unusual", SCHEME, "Score rare with the finding and without"),
}
PROCEDURES = {"chest_xray": codes.LN.XRUnspecifiedBodyRegion, "chest_ct": codes.LN.CTUnspecifiedBodyRegion}
"""CID 100"""
ENGLISH = ("en", "RFC5646", "English")
FILED_BY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
EMPTY_ALLOWED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Of type 2 (PS3.5 7.4.3): an element must stand there, if only empty."""
SERIES_NUMBER = 990


def finding_code(name: str, text: str) -> dict[str, str]:
    """Scheme, value and meaning of the code of a finding; `text` is what it is called."""
    # no backslash in VR UC and LO (PS3.5 6.2)
    own = Code(name.replace("\\", "/"), SCHEME, text.replace("\\", "/")[:64])
    code = CODED.get(name, own)
    return {"scheme": code.scheme_designator, "value": code.value, "meaning": code.meaning}


def read_headers(files: Sequence[Path]) -> list[Dataset]:
    """The headers of the images of a study in their order, those of a series along its axis.

    Raises:
        InputError: one cannot be read, or a UID by which it is filed is absent or not valid (PS3.5 9.1).
    """
    headers: list[Dataset] = []
    for file in files:
        for path in slice_files(file, str(file)) if file.is_dir() else [file]:
            with one_file(str(path), "the DICOM header"):
                header = dcmread(path, force=True, stop_before_pixels=True)
                header.SOPClassUID = kind(header)[1]
                if not header.get("SOPInstanceUID"):
                    header.SOPInstanceUID = header.file_meta.get("MediaStorageSOPInstanceUID", "")
                for keyword in FILED_BY:
                    uid = UID(str(header.get(keyword) or "").strip(" \0"))
                    if not uid:
                        raise InputError(f"{path}: its header has no {keyword}, by which a report is filed")
                    if not uid.is_valid:
                        raise InputError(f"{path}: {keyword} of its header is no valid UID, by which a report is filed")
                headers.append(header)
    return headers


def filed_under(images: Sequence[Dataset], where: str) -> Dataset:
    """The header whose patient and study a report is filed under: of several studies, the latest.

    Raises:
        InputError: the images are of several patients.
    """
    check_one_patient(images, where)
    return max(images, key=lambda image: f"{image.get('StudyDate') or ''} {image.get('StudyTime') or ''}")


def structured_report(content: Mapping[str, Any], images: Sequence[Dataset]) -> Any:
    """An Enhanced SR (PS3.3 A.35.2) of `Reports.content`, unverified, preliminary and still without a patient.

    `images`: headers of the images, which become its evidence.
    """
    from highdicom import sr

    run = content["run"]
    device = sr.DeviceObserverIdentifyingAttributes(
        generate_uid(entropy_srcs=["radz model", run["weights"]]), run["name"], "radz",
        f"radz {content['radz']}", run["weights"],
    )  # fmt: skip
    observer = sr.ObserverContext(codes.DCM.Device, device)
    evidence = [_reference(image) for image in images]
    report = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=observer),
        PROCEDURES[content["modality"]],
        [_group(content, finding) for finding in content["findings"]],
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(sr.CodedConcept(*ENGLISH)),
        referenced_images=evidence,
    )
    notice = sr.TextContentItem(codes.DCM.Comment, content["notice"], sr.RelationshipTypeValues.CONTAINS)
    report[0].ContentSequence.append(notice)
    evidence.sort(key=lambda image: bool(image.StudyInstanceUID != content["study"]))  # the first says which study
    document = sr.EnhancedSR(
        evidence, report, generate_uid(entropy_srcs=["radz series", content["report"]]), SERIES_NUMBER,
        content["report"], 1, "radz", is_complete=True, transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="radz scores, for research only", manufacturer_model_name=run["name"][:64],
        software_versions=__version__, device_serial_number=run["weights"], specific_character_set="ISO_IR 192",
    )  # fmt: skip
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = SCHEME, SCHEME_NAME
    document.CodingSchemeIdentificationSequence = [scheme]
    return document


def dicom_file(document: Any, header: Dataset, where: str) -> bytes:
    """A report as a DICOM file, with patient and study of what `filed_under` returned, as they stand there, in UTF-8.

    Raises:
        InputError: they cannot be written.
    """
    stream = BytesIO()
    try:
        document.copy_patient_and_study_information(header)
        document.save_as(stream, enforce_file_format=True)
    except Exception as error:  # pydicom promises no exception type, and its words may hold the patient's name
        cause = type(error).__name__
        raise InputError(f"{where}: patient or study of its header cannot be written again ({cause})") from None
    return stream.getvalue()


def _reference(image: Dataset) -> Dataset:
    """What a report says of an image; its patient is copied later, which keeps values that highdicom would refuse."""
    found = Dataset()
    for keyword in FILED_BY:
        setattr(found, keyword, str(image[keyword].value))
    for keyword in EMPTY_ALLOWED:
        setattr(found, keyword, "")
    # As of no modality that obliges highdicom to look for spacing and orientation, which radiographs often lack.
    found.Rows, found.Columns, found.Modality = image.Rows, image.Columns, "OT"
    return found


def _group(content: Mapping[str, Any], finding: Mapping[str, Any]) -> Any:
    """A measurement group (TID 1501) of one finding, with the identity of the algorithm (TID 4019)."""
    from highdicom import sr

    run, code = content["run"], finding["code"]
    told = {"run": run["name"], "digest": run["digest"], "weights": run["weights"], "scorer": content["scorer"]}
    told |= finding["read_by"]
    parameters = [f"{key}={value}" for key, value in told.items() if value is not None]
    numbers = [(SCORE, finding["score"]), (codes.DCM.Probability, finding["probability"])]
    said = [(CALL, CALLS.get(finding["call"])), (ANSWER, ANSWERS.get(finding["answer"]))]
    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(
            generate_uid(entropy_srcs=["radz finding", content["report"], finding["finding"]]), finding["finding"]
        ),
        finding_type=sr.CodedConcept(code["value"], code["scheme"], code["meaning"]),
        algorithm_id=sr.AlgorithmIdentification("radz", content["radz"], parameters),
        measurements=[sr.Measurement(name, value, codes.UCUM.NoUnits) for name, value in numbers if value is not None],
        qualitative_evaluations=[sr.QualitativeEvaluation(name, value) for name, value in said if value is not None],
    )
