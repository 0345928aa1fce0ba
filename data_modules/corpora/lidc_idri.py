"""LIDC-IDRI (Armato et al., Medical Physics 2011): DICOM series of chest CT, each read by up to four radiologists.

Series and annotation files are matched by the series' UID, wherever they lie below root, as retrievals nest them in
different ways. A folder is a series where it holds `.dcm` files, of which one is looked at; series that are no CT
(radiographs of the same patients) are left out and counted, and so are CT series without an annotation file.

nodule: present where two readers or more outlined a nodule of 3 mm or more (not necessarily the same one), absent where
none did, uncertain where one alone did: so `policy.uncertain` decides between one reader and two.
nodule_malignancy: from 1 (highly unlikely) to 5; each reader counts with the highest rating, and the median over those
who rated says present above 3, absent below, uncertain at 3; uncertain also where one reader alone outlined a nodule.
Scans without a nodule have no malignant one. There are no reports and no official split.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

import pandas as pd
from pydicom import Dataset, dcmread

from data_modules.corpora.official import Layout
from data_modules.corpora.splits import split_patients
from data_modules.corpora.xml_file import read_xml
from data_modules.corpus_config import CorpusConfig, LabelRule
from data_modules.dicom import MALFORMED
from data_modules.errors import InputError, MissingCorpus
from data_modules.findings import Ontology
from data_modules.listing import is_system
from data_modules.series_folders import member
from data_modules.study import StudyTable
from data_modules.table_store import watched

log = logging.getLogger(__name__)
LAYOUT = Layout(
    reader="lidc_idri",
    title="LIDC-IDRI",
    access="The Cancer Imaging Archive, CC BY 3.0: https://www.cancerimagingarchive.net/collection/lidc-idri/",
    tree="""
LIDC-IDRI/LIDC-IDRI-0001/STUDY/SERIES/1-001.dcm         any nesting; one folder per series
LIDC-IDRI/LIDC-IDRI-0001/STUDY/SERIES/069.xml           or anywhere else, such as tcia-lidc-xml/185/069.xml
""",
    published={},  # no official split
    ct=True,
)
SCANS = 1_018
READERS = 2
"""Radiologists who must have outlined a nodule for it to be present."""
INDIFFERENT = 3
"""The rating that leans to neither side."""
CODING = {1: "present", 0: "absent", -1: "uncertain"}
TAGS = ["Modality", "PatientID", "SeriesInstanceUID"]


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return one study per CT series, split by patient; rows number the series folders in the order of their paths."""
    folders, annotations = _tree(root)
    if not folders:
        raise MissingCorpus(f"{key}.root={root}: holds no .dcm file; it must be LIDC-IDRI's folder", LAYOUT.help())
    readings = _readings(annotations, root)
    if not readings:
        raise MissingCorpus(f"{key}.root={root}: holds no annotation of a CT (.xml); fetch them too", LAYOUT.help())
    rows: dict[int, dict[str, str]] = {}
    left_out: Counter[str] = Counter()
    seen: dict[str, int] = {}
    for number, folder in enumerate(folders, start=1):
        header = _header(folder, f"{root} series folder {number} in the order of paths")
        series = str(header.get("SeriesInstanceUID", ""))
        if header.get("Modality") != "CT":
            left_out["series that are no CT"] += 1
        elif series not in readings:
            left_out["CT series without an annotation file"] += 1
        else:
            if series in seen:
                left_out["further copies of a series"] += 1
                if not _is_fuller(
                    folder, folders[seen[series] - 1], f"{root} series folder {number} in the order of paths"
                ):
                    continue
                del rows[seen[series]]
            seen[series] = number
            rows[number] = {
                "image": folder.relative_to(root).as_posix(), "study": series,
                "patient": str(header.get("PatientID", "")), **readings[series].labels(),
            }  # fmt: skip
    if not rows:
        raise MissingCorpus(f"{key}.root={root}: no CT series there has an annotation file; {dict(left_out)}")
    if len(rows) != SCANS:
        log.warning("lidc_idri: %d annotated CT series here, %d in the published release", len(rows), SCANS)
    frame = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
    frame["split"] = split_patients(frame["patient"], config)
    labels = {name: LabelRule(name, numeric=dict(CODING)) for name in ("nodule", "nodule_malignancy")}
    found = LAYOUT.studies(config, root, frame, root, labels, ontology, salt, key, left_out)
    for reason, count in left_out.items():
        log.info("lidc_idri: %d %s are left out", count, reason)
    return found


def _tree(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders that hold `.dcm` files, and all `.xml` files, each in the order of their paths."""

    def stop(error: OSError) -> None:
        raise InputError(f"{root}: a folder below it cannot be listed ({error.strerror}); see to its rights")

    folders, annotations = [], []
    for place, _, names in os.walk(root, onerror=stop):
        watched(place)
        folders += [Path(place)] if any(_is_dicom(Path(name)) for name in names) else []
        annotations += [
            Path(place, name) for name in names if name.lower().endswith(".xml") and not is_system(Path(name))
        ]
    return sorted(folders), sorted(annotations)


def _is_dicom(path: Path) -> bool:
    return path.name.lower().endswith(".dcm") and not is_system(path)


def _header(folder: Path, where: str) -> Dataset:
    """TAGS of the first `.dcm` file of a folder."""
    first = min(path for path in folder.iterdir() if _is_dicom(path))
    try:
        return dcmread(watched(first), stop_before_pixels=True, specific_tags=TAGS)
    except (OSError, *MALFORMED):
        raise InputError(f"{where}: its first file cannot be read as DICOM; fetch the series again") from None


def _is_fuller(folder: Path, earlier: Path, where: str) -> bool:
    """Whether a folder holds slices that an earlier one of its series lacks; InputError where both lack some."""
    own, first = (
        {of.place for path in place.iterdir() if _is_dicom(path) and (of := member(watched(path))) and of.series}
        for place in (folder, earlier)
    )
    if own - first and first - own:
        raise InputError(f"{where}: holds other slices of a series than an earlier folder; put all of them in one")
    return bool(own - first)


@dataclass(frozen=True)
class Reading:
    """One annotation file."""

    series: str
    """UID; empty in the files of radiographs"""
    readers: list[list[str]]
    """Per reader, the malignancy of each nodule of 3 mm or more as written; empty text where none is given."""

    def labels(self) -> dict[str, str]:
        """Return finding -> 1, 0, -1 (see CODING), or words for what is no reading."""
        if not self.readers:
            return dict.fromkeys(("nodule", "nodule_malignancy"), "no reader")
        marks = [ratings for ratings in self.readers if ratings]
        nodule = "1" if len(marks) >= READERS else "-1" if marks else "0"
        if nodule != "1":
            return {"nodule": nodule, "nodule_malignancy": nodule}
        given = [[rating for rating in ratings if rating] for ratings in marks]
        if any(rating not in tuple("12345") for ratings in given for rating in ratings):
            return {"nodule": nodule, "nodule_malignancy": "no rating from 1 to 5"}
        worst = median([max(map(int, ratings)) for ratings in given if ratings] or [INDIFFERENT])
        malignant = "1" if worst > INDIFFERENT else "0" if worst < INDIFFERENT else "-1"
        return {"nodule": nodule, "nodule_malignancy": malignant}


def _readings(paths: list[Path], root: Path) -> dict[str, Reading]:
    """Series -> its reading; of several files the first counts, as a resubmitted one sorts before its original."""
    found: dict[str, Reading] = {}
    again = others = 0
    for number, path in enumerate(paths, start=1):
        reading = parse(path, f"{root} annotation file {number} in the order of paths")
        others += not reading.series
        again += reading.series in found
        if reading.series:
            found.setdefault(reading.series, reading)
    if others:
        log.info("lidc_idri: %d annotation file(s) of radiographs are not read", others)
    if again:
        log.warning("lidc_idri: %d annotation file(s) are of a series that has one already; the first counts", again)
    return found


def parse(path: Path, where: str) -> Reading:
    """Return what an annotation file says of its CT series; InputError for XML that is broken or has a DOCTYPE."""
    # Entities, which may grow at will or lead out of the file, are declared in one.
    tree = read_xml(path, where, "StartDoctypeDeclHandler", "has a DOCTYPE, which no annotation of this corpus has")
    for node in tree.iter():
        node.tag = node.tag.rpartition("}")[2]
    sessions = [session.findall("unblindedReadNodule") for session in tree.findall("readingSession")]
    readers = [[_rating(nodule) for nodule in nodules if _outlined(nodule)] for nodules in sessions]
    return Reading((tree.findtext("ResponseHeader/SeriesInstanceUid") or "").strip(), readers)


def _outlined(nodule: ElementTree.Element) -> bool:
    """Whether a nodule is one of 3 mm or more: smaller ones are marked by a single point."""
    return any(len(roi.findall("edgeMap")) > 1 for roi in nodule.findall("roi"))


def _rating(nodule: ElementTree.Element) -> str:
    return (nodule.findtext("characteristics/malignancy") or "").strip()
