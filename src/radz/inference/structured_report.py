"""Scores of a study as a DICOM Structured Report, which a PACS files beside its images, and as JSON."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid

from data_modules.counting import counted
from data_modules.dicom import one_file
from data_modules.errors import InputError
from data_modules.files import make_folder, replacing
from data_modules.privacy import private_file
from radz.config.checks import known_findings
from radz.inference.engine import Radz
from radz.inference.readings import FALLS, Reading
from radz.inference.scope import NO, Verdict
from radz.inference.studies import Study, is_dicom
from radz.methods.trained import run_digest, weights_digest
from radz.version import __version__

log = logging.getLogger(__name__)
NOTICE = "Scores of a research model. For research only; not a medical device, not for diagnosis."
NO_DICOM, FAULT = "of other files than DICOM", "with a header at fault (log)"


def report_folder(place: str, source: Path) -> Path:
    """The folder of the reports, made when missing.

    Raises:
        InputError: it cannot be written, lies below the images at `source`, or the extra is not installed.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise InputError("sr: structured reports are written with the package highdicom; run pip install 'radz[sr]'")
    check_outside("sr", place, source)
    folder = Path(place).expanduser()
    make_folder(folder, "sr")
    return folder


def check_outside(key: str, place: str, source: Path) -> None:
    """InputError for a folder to write below the images at `source`, which the next command would score."""
    if Path(place).expanduser().resolve().is_relative_to(source.resolve()):
        raise InputError(f"{key}: {place} lies in the folder of input, whose files are all scored; name one outside it")


@dataclass
class Reports:
    """Writes the report of one study after another; see `of`."""

    folder: Path
    source: Path
    """folder of the images"""
    run: dict[str, str | None]
    """name, digest and weights of the model"""
    scorer: str
    codes: dict[str, dict[str, str]]
    """finding -> scheme, value and meaning of its code"""
    written: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """why studies have none -> how many"""

    @staticmethod
    def of(model: Radz, run: str, names: Sequence[str], folder: Path, source: Path) -> Reports:
        """Reports of a model on findings, what `Radz.names` returned, into what `report_folder` returned."""
        from radz.inference.report_document import finding_code

        path, known = Path(run).expanduser(), known_findings(model.data)
        texts = {name: known[name].text if name in known else name for name in names}
        about = {"name": model.experiment.name, "digest": run_digest(path), "weights": weights_digest(path)}
        codes = {name: finding_code(name, text) for name, text in texts.items()}
        return Reports(folder, source, about, model.experiment.scoring.headline, codes)

    def add(
        self, study: Study, modality: str, scores: Mapping[str, float], readings: Mapping[str, Reading],
        verdict: Verdict,
    ) -> None:  # fmt: skip
        """Write `<file>_sr.dcm` and `<file>_sr.json` of a study, under the name of its first file below `source`.

        A study without a DICOM file has none, and one whose headers name no place to file it: that is told, and goes
        on. Both files can be read by their owner alone.
        """
        from radz.inference.report_document import dicom_file, filed_under, read_headers, structured_report

        try:
            with one_file(study.name, "the DICOM header"):
                if not all(is_dicom(path) for path in study.files):
                    self.missing[NO_DICOM] += 1
                    return
                images = read_headers(study.files)
                header = filed_under(images, study.name)
                content = self.content(images, header, modality, scores, readings, verdict)
                document = dicom_file(structured_report(content, images), header, study.name)
        except InputError as error:
            log.warning("sr: none is written: %s", error)
            self.missing[FAULT] += 1
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
        none = f"; none of {counted(self.missing.total(), 'study')} ({why})" if why else ""
        log.info("%s in %s%s", counted(self.written, "structured report"), self.folder, none)

    def content(
        self, images: Sequence[Dataset], header: Dataset, modality: str, scores: Mapping[str, float],
        readings: Mapping[str, Reading], verdict: Verdict,
    ) -> dict[str, Any]:  # fmt: skip
        """What a report says, as plain values: the JSON, and what the DICOM object is made of.

        The UID of the report follows from images, model and settings, so that a repeat takes its place.
        """
        findings = [_finding(name, self.codes[name], readings[name], score) for name, score in scores.items()]
        settings = _json([self.run, self.scorer, [[one["finding"], one["read_by"]] for one in findings]])
        instances = sorted(str(image.SOPInstanceUID) for image in images)
        sources = ["radz sr", __version__, str(header.StudyInstanceUID), *instances, settings]
        return {
            "schema": 1,
            "notice": f"{NOTICE} Out of scope ({verdict.reason}): these scores mean nothing."
            if verdict.in_scope == NO
            else NOTICE,
            "in_scope": verdict.in_scope or None,
            "reason": verdict.reason or None,
            "radz": __version__,
            "run": self.run,
            "scorer": self.scorer,
            "modality": modality,
            "report": generate_uid(entropy_srcs=sources),
            "study": str(header.StudyInstanceUID),
            "images": [str(image.SOPInstanceUID) for image in images],
            "findings": findings,
        }


def _finding(name: str, code: dict[str, str], reading: Reading, score: float) -> dict[str, Any]:
    """One finding, its values as the table has them; None where there is none, and for a probability that falls."""
    value, probability, call, answer = reading.cells(score)
    probability = "" if reading.falls else probability  # beside images nobody sees the mark that scores.json has
    return {
        "finding": name,
        "code": code,
        "score": float(value),
        "probability": float(probability) if probability else None,
        "call": int(call) if call else None,
        "answer": answer or None,
        "read_by": {
            "validation": reading.split,
            "threshold": reading.threshold,
            "prevalence": reading.prevalence,
            "why_none": FALLS if reading.falls else reading.why,
        },
    }


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, allow_nan=False)
