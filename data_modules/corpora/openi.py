"""Open-I, the Indiana University radiographs (Demner-Fushman et al., JAMIA 2016): 7,470 images, 3,955 reports.

Either the archives of the National Library of Medicine (`NLMCXR_reports.tgz`, `NLMCXR_png.tgz`) or the form on Kaggle
(raddar/chest-xrays-indiana-university). Labels are the MeSH terms given by people: `MeSH/major` of the archives is
`MeSH` on Kaggle, so both forms agree. The mined terms (`MeSH/automatic`) are not read. No split is published, and no
patient beyond the number of the report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from data_modules.corpora import terms
from data_modules.corpora.csv_file import column, load
from data_modules.corpora.official import Layout
from data_modules.corpora.splits import split_patients
from data_modules.corpora.xml_file import read_xml
from data_modules.corpus_config import CorpusConfig
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.study import StudyTable
from data_modules.table_store import watched, watched_glob

LAYOUT = Layout(
    reader="openi",
    title="Open-I (Indiana University)",
    access="open, CC BY-NC-ND 4.0: https://openi.nlm.nih.gov/faq#collection",
    tree="""
ecgen-radiology/1.xml                                reports, of NLMCXR_reports.tgz
NLMCXR_png/CXR1_1_IM-0001-3001.png                   images, of NLMCXR_png.tgz
or, as on Kaggle:
indiana_reports.csv
indiana_projections.csv                              Frontal or Lateral; with the XML files it is optional
images/images_normalized/1_IM-0001-3001.dcm.png
""",
    published={},
)
REPORTS, PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"
SECTIONS = ("comparison", "indication", "findings", "impression")
IMAGES = ("NLMCXR_png", "images/images_normalized", "images_normalized", "images")
UNJUDGED = ("no indexing", "technical quality of image unsatisfactory")
"""Terms of studies that were not searched for findings."""
DECLARES = "declares an XML entity, which no report of this corpus does"


def read(config: CorpusConfig, root: Path, ontology: Ontology, salt: bytes, key: str) -> StudyTable:
    """Return the studies; `keep: {projection: [Frontal]}` leaves the laterals out where the projections are there."""
    if watched(root / REPORTS).is_file():
        frame, path, bare = _kaggle(root, config, key)
    else:
        path = LAYOUT.find(root, key, "ecgen-radiology", "NLMCXR_reports/ecgen-radiology", REPORTS)
        frame, bare = _archive(root, path, config, key)
    frame["patient"] = frame["study"]
    frame["split"], frame["view"] = split_patients(frame["patient"], config), frame["projection"]
    ontology = ontology.extended(config.findings, f"{key}.findings", config.reader)
    columns, labels = terms.coded(frame["MeSH"], paths, UNJUDGED, "openi", ontology)
    frame = pd.concat([frame, columns], axis=1)
    left_out = {"reports without an image": bare}
    return LAYOUT.studies(config, root, frame, path, labels, ontology, salt, key, left_out)


def paths(cell: str) -> set[str]:
    """Return the terms of a cell such as `Opacity/lung/base;Pulmonary Edema`, case-folded, each with all above it.

    `Opacity/lung/base` gives `opacity`, `opacity/lung`, `opacity/lung/base`, and, as qualifiers stand in any order,
    `opacity/base`.
    """
    found: set[str] = set()
    for term in cell.casefold().split(";"):
        parts = [part.strip() for part in term.split("/")]
        if parts[0]:
            found.update("/".join(parts[:n]) for n in range(1, len(parts) + 1))
            found.update(f"{parts[0]}/{part}" for part in parts[1:])
    return found


def _kaggle(root: Path, config: CorpusConfig, key: str) -> tuple[pd.DataFrame, Path, int]:
    """One row per image of indiana_projections.csv with the report of its uid; and how many reports have no image."""
    reports, path = LAYOUT.load(root, key, REPORTS)
    frame, views = LAYOUT.load(root, key, PROJECTIONS)
    folder = LAYOUT.find(root, key, *IMAGES[1:]).relative_to(root).as_posix()
    for name in ("uid", "MeSH", *SECTIONS):
        column(reports, name, path, f"{key}.root")
    for name in ("uid", "filename", "projection"):
        column(frame, name, views, f"{key}.root")
    for row in reports.index[reports["uid"].duplicated()][:1]:
        raise InputError(f"{path} row {row}: its uid stands in an earlier row too; remove one")
    for row in frame.index[~frame["uid"].isin(reports["uid"])][:1]:
        raise InputError(f"{views} row {row}: {REPORTS} has no row of its uid; add it or remove this row")
    cells = zip(*(reports[name] for name in SECTIONS), strict=True)
    texts = [_report(dict(zip(SECTIONS, sections, strict=True)), config) for sections in cells]
    known = reports.assign(report=texts).set_index("uid")
    for name in ("report", "MeSH"):
        frame[name] = frame["uid"].map(known[name])
    frame["study"], frame["image"] = frame["uid"], f"{folder}/" + frame["filename"]
    return frame, views, int((~reports["uid"].isin(frame["uid"])).sum())


def _archive(root: Path, folder: Path, config: CorpusConfig, key: str) -> tuple[pd.DataFrame, int]:
    """One row per image that the XML files name; and how many files name none.

    Rows are numbered by the place of their file in the order of numbers, since the name of a file tells the patient.
    """
    files = sorted(watched_glob(folder, "*.xml"), key=lambda file: (len(file.name), file.name))
    home = LAYOUT.find(root, key, *IMAGES)
    kaggle, place = home.name == "images_normalized", home.relative_to(root).as_posix()
    views = _views(root, key)
    rows, numbers, bare = [], [], 0
    for number, file in enumerate(files, start=1):
        where = f"{folder} file {number} in the order of numbers"
        tree = read_xml(file, where, "EntityDeclHandler", DECLARES)
        uid = next((node.get("id", "").strip() for node in tree.iter("uId")), "").removeprefix("CXR")
        if not uid:
            raise InputError(f"{where}: has no uId; correct or remove it")
        sections = {node.get("Label", "").casefold(): "".join(node.itertext()) for node in tree.iter("AbstractText")}
        about = {
            "study": uid, "report": _report(sections, config),
            "MeSH": ";".join("".join(node.itertext()) for node in tree.iter("major")),
        }  # fmt: skip
        images = [node.get("id", "").strip() for node in tree.iter("parentImage")]
        bare += not images
        for image in images:
            normalized = f"{uid}_{re.sub('^.*(?=IM-)', '', image)}.dcm.png"  # as Kaggle's form calls it
            name = normalized if kaggle else f"{image}.png"
            rows.append({**about, "image": f"{place}/{name}", "projection": views.get(normalized, "")})
            numbers.append(number)
    if not rows:
        raise InputError(f"{folder}: no XML file there names an image; it must hold the files of NLMCXR_reports.tgz")
    return pd.DataFrame(rows, index=numbers, dtype=object), bare


def _views(root: Path, key: str) -> dict[str, str]:
    """File name in Kaggle's form -> Frontal or Lateral, since the XML files do not tell; empty without the table."""
    path = root / PROJECTIONS
    if not watched(path).is_file():
        return {}
    frame = load(path, f"{key}.root")
    names = column(frame, "filename", path, f"{key}.root")
    return dict(zip(names, column(frame, "projection", path, f"{key}.root"), strict=True))


def _report(sections: Mapping[str, str], config: CorpusConfig) -> str:
    """The wanted sections under their headings; empty where all are, so that an indication never stands for one."""
    bodies = {name: " ".join(sections.get(name, "").split()) for name in SECTIONS if name in config.report_sections}
    return "\n".join(f"{name.upper()}: {body}" for name, body in bodies.items() if body)
