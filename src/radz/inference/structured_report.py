"""Scores of a study as a DICOM Structured Report (PS3.16 TID 1500), which a PACS files beside its images, and as JSON.

highdicom writes it (MIT; Bridge et al., J Digit Imaging 2022, doi 10.1007/s10278-022-00683-y). Codes are those of
PS3.16 as pydicom carries them, and where that has none for exactly this, of the private scheme `99RADZ`.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from data_modules.dicom import SUFFIXES, one_file
from data_modules.dicom_kind import kind
from data_modules.dicom_series import slice_files
from data_modules.errors import InputError
from data_modules.files import make_folder, replacing
from data_modules.privacy import private_file
from radz.config.checks import known_findings
from radz.inference.engine import Radz
from radz.inference.readings import Reading
from radz.inference.studies import Study
from radz.methods.trained import run_digest, weights_digest
from radz.version import __version__

log = logging.getLogger(__name__)
NOTICE = "Scores of a research model. For research only; not a medical device, not for diagnosis."
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
FILED_BY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
EMPTY_ALLOWED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Of type 2 (PS3.5 7.4.3): an element must stand there, if only empty."""
SERIES_NUMBER = 990
NO_DICOM = "no DICOM files"
SETTINGS = ("threshold", "prevalence", "validation")
"""what a finding was read by"""


def report_folder(place: str, source: Path) -> Path:
    """The folder of the reports, made when missing.

    Raises:
        InputError: it cannot be written, lies below the images at `source`, or the extra is not installed.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise InputError("sr: structured reports are written with the package highdicom; run pip install 'radz[sr]'")
    folder = Path(place).expanduser()
    if folder.resolve().is_relative_to(source.resolve()):
        raise InputError(f"sr: {place} lies in the folder of input, whose files are all scored; name one outside it")
    make_folder(folder, "sr")
    return folder


@dataclass
class Reports:
    """Writes the report of one study after another; see `of`."""

    folder: Path
    source: Path
    """folder of the images"""
    run: dict[str, str | None]
    """name, digest and weights of the model"""
    scorer: str
    coded: dict[str, Code]
    """finding -> its code"""
    written: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """why studies have none -> how many"""

    @staticmethod
    def of(model: Radz, run: str, names: Sequence[str], folder: Path, source: Path) -> Reports:
        """Reports of a model on findings, what `Radz.names` returned, into what `report_folder` returned."""
        path, known = Path(run).expanduser(), known_findings(model.data)
        texts = {name: known[name].text if name in known else name for name in names}
        about = {"name": model.experiment.name, "digest": run_digest(path), "weights": weights_digest(path)}
        coded = {name: finding_code(name, text) for name, text in texts.items()}
        return Reports(folder, source, about, model.experiment.scoring.headline, coded)

    def add(self, study: Study, modality: str, scores: Mapping[str, float], readings: Mapping[str, Reading]) -> None:
        """Write `<file>_sr.dcm` and `<file>_sr.json` of a study, under the name of its first file below `source`.

        A study without a DICOM file has none, and one whose headers name no place to file it: that is told, and goes
        on. Both files can be read by their owner alone.
        """
        if not all(is_dicom(path) for path in study.files):
            self.missing[NO_DICOM] += 1
            return
        try:
            images = read_headers(study)
            header = filed_under(images, study.name)
            content = self.content(images, header, modality, scores, readings)
            with one_file(study.name, "the DICOM header"):
                document = dicom_file(structured_report(content, images, header))
        except InputError as error:
            log.warning("sr: none is written: %s", error)
            self.missing["header at fault"] += 1
            return
        first = study.files[0].relative_to(self.source)
        place = self.folder / first.parent / f"{first.name or 'series'}_sr.dcm"
        for path, held in ((place, document), (place.with_suffix(".json"), _json(content, indent=1).encode() + b"\n")):
            with replacing(path) as draft:
                private_file(draft)
                draft.write_bytes(held)
        self.written += 1

    def tell(self) -> None:
        """How many reports there are, and why others are not."""
        why = ", ".join(f"{count} {reason}" for reason, count in self.missing.items())
        log.info("%d structured reports in %s%s", self.written, self.folder, f"; studies without one: {why}" * bool(why))

    def content(
        self, images: Sequence[Dataset], header: Dataset, modality: str, scores: Mapping[str, float],
        readings: Mapping[str, Reading],
    ) -> dict[str, Any]:  # fmt: skip
        """What a report says, as plain values: the JSON, and what the DICOM object is made of.

        The UID of the report follows from images, model and settings, so that a repeat takes its place.
        """
        findings = [_finding(name, self.coded[name], readings[name], score) for name, score in scores.items()]
        told = ("finding", *SETTINGS)
        settings = _json([self.run, self.scorer, [[one[key] for key in told] for one in findings]])
        instances = sorted(str(image.SOPInstanceUID) for image in images)
        sources = ["radz sr", __version__, str(header.StudyInstanceUID), *instances, settings]
        return {
            "schema": 1,
            "notice": NOTICE,
            "radz": __version__,
            "run": self.run,
            "scorer": self.scorer,
            "modality": modality,
            "report": generate_uid(entropy_srcs=sources),
            "study": str(header.StudyInstanceUID),
            "images": [str(image.SOPInstanceUID) for image in images],
            "findings": findings,
        }


def finding_code(name: str, text: str) -> Code:
    """The code of a finding; `text` is what it is called."""
    plain = (name.replace("\\", "/"), text.replace("\\", "/")[:64])  # no backslash in VR UC and LO (PS3.5 6.2)
    return CODED.get(name) or Code(plain[0], SCHEME, plain[1])


def is_dicom(path: Path) -> bool:
    """Whether a file that was scored is of DICOM; the folder of a series is."""
    if path.is_dir():
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in SUFFIXES


def read_headers(study: Study) -> list[Dataset]:
    """The headers of the images of a study in their order, those of a series along its axis.

    Raises:
        InputError: one cannot be read, or lacks a UID by which it is filed.
    """
    headers = []
    for file in study.files:
        for path in slice_files(file, str(file)) if file.is_dir() else [file]:
            with one_file(str(path), "the DICOM header"):
                header = dcmread(path, force=True, stop_before_pixels=True)
                header.SOPClassUID = kind(header)[1]
                if not header.get("SOPInstanceUID"):
                    header.SOPInstanceUID = header.file_meta.get("MediaStorageSOPInstanceUID", "")
                if absent := [keyword for keyword in FILED_BY if not str(header.get(keyword) or "").strip(" \0")]:
                    raise InputError(f"{path}: its header has no {absent[0]}, by which a report is filed")
                headers.append(header)
    return headers


def filed_under(images: Sequence[Dataset], where: str) -> Dataset:
    """The header whose patient and study a report is filed under: of several studies, the latest.

    Raises:
        InputError: the images are of several patients.
    """
    if len({str(image.get("PatientID") or "").strip() for image in images} - {""}) > 1:
        raise InputError(f"{where}: its files have different PatientIDs; put those of one patient together")
    return max(images, key=lambda image: f"{image.get('StudyDate') or ''} {image.get('StudyTime') or ''}")


def structured_report(content: Mapping[str, Any], images: Sequence[Dataset], header: Dataset) -> Dataset:
    """An Enhanced SR (PS3.3 A.35.2) of `Reports.content`, unverified and preliminary.

    Args:
        images: headers of the images, which become its evidence.
        header: what `filed_under` returned, whose patient and study are copied as they are, in UTF-8.
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
    document.copy_patient_and_study_information(header)
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = SCHEME, SCHEME_NAME
    document.CodingSchemeIdentificationSequence = [scheme]
    return document


def dicom_file(document: Dataset) -> bytes:
    """A DICOM file as bytes."""
    stream = BytesIO()
    document.save_as(stream, enforce_file_format=True)
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


def _finding(name: str, code: Code, reading: Reading, score: float) -> dict[str, Any]:
    """One finding, its values as the table has them; None where there is none."""
    value, probability, call, answer = reading.cells(score)
    return {
        "finding": name,
        "code": {"scheme": code.scheme_designator, "value": code.value, "meaning": code.meaning},
        "score": float(value),
        "probability": float(probability) if probability else None,
        "call": int(call) if call else None,
        "answer": answer or None,
        "threshold": reading.threshold,
        "prevalence": reading.prevalence,
        "validation": reading.split,
        "why_none": reading.why,
    }


def _group(content: Mapping[str, Any], finding: Mapping[str, Any]) -> Any:
    """A measurement group (TID 1501) of one finding, with the identity of the algorithm (TID 4019)."""
    from highdicom import sr

    run, code = content["run"], finding["code"]
    told = {**run, "scorer": content["scorer"], **{key: finding[key] for key in SETTINGS}}
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


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, allow_nan=False)
