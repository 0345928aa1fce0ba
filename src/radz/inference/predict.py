"""`radz predict`: a folder of images to a CSV of scores, probabilities and calls. Nothing is skipped silently."""

from __future__ import annotations

import codecs
import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_modules.counting import counted
from data_modules.dicom import SUFFIXES as DICOM_SUFFIXES
from data_modules.errors import InputError
from data_modules.files import file_to_write, make_folder, replacing
from data_modules.listing import Found, files_below
from data_modules.pictures import SIGNATURES, other_format
from data_modules.progress import Bar
from data_modules.series_folders import member, parts_and_copies
from radz.inference.engine import BATCH, Radz
from radz.inference.readings import RULE, Reading, in_words
from radz.inference.scope import COLUMNS, Verdict, judge, plain, summary
from radz.inference.structured_report import Reports, check_outside, report_folder
from radz.inference.studies import Study, batches, check_patient, one_by_one, studies_of
from radz.methods.trained import run_digest
from radz.metrics.score_table import DERIVED
from radz.models.labels import MODALITY_TEXT
from radz.report.heatmap_picture import overlay, tiled, write_png
from radz.version import __version__

log = logging.getLogger(__name__)
PICTURES = (".png", ".jpg", ".jpeg")
SUFFIXES = (*DICOM_SUFFIXES, *PICTURES, "")
VOLUMES = (".nii", ".nii.gz", ".npz")
NO_PREAMBLE = re.compile(rb"[\x02\x08]\0.\0|\0\x08\0.", re.DOTALL)
"""how a DICOM object begins without its preamble: an element of group 2 or 8, in either order of bytes"""
BYTES = "bytes"
"""how bytes of names that are no text are written, so that two names stay two"""
PARTS = ("", *(f"/{name}" for name in DERIVED))
"""behind the name of a finding, in the columns of the table"""


def predict_folder(
    run: str, source: str, out: str, findings: list[str], heatmaps: str | None = None, device: str | None = None,
    studies: str | None = None, prevalence: float | Mapping[str, float] | None = None, corpus: str | None = None,
    sr: str | None = None,
) -> Path:  # fmt: skip
    """Score every study below `source` with the headline scorer; write `out` and the JSON beside it, or neither.

    A study is a picture, a CT volume, or a folder with the DICOM slices of one CT series; `studies` puts pictures
    together (`studies.studies_of`). Linked folders are entered, each once; what an operating system leaves in folders
    is counted and left out.
    Columns: file (relative to `source`, or the name of a study of several), error (why it has no scores), in_scope and
    reason (`scope`: whether it is of what the run was trained on; scored it is either way), then of each finding its
    score, by its name in the ontology, and `<finding>/probability`, `/call`, `/answer` (`readings`). The JSON says what
    these were made by. `findings` empty means those of the run's bank, without no_finding. `heatmaps`: a folder for a
    picture of each file and finding, `<file>_<finding>.png` in the pixels of the file, of a volume its slices side by
    side. `sr`: a folder outside `source` for a DICOM Structured Report of each study of DICOM files and a JSON of the
    same (`structured_report`). `device`: see `Radz.from_pretrained`. `prevalence`, `corpus`: see `Radz.probabilities`.

    Raises:
        InputError: no images, none of them readable, `out` or `sr` cannot be written, or `studies`, `prevalence` or
            `corpus` does not fit.
    """
    folder, target = folder_of(source), _target(out)
    if heatmaps is not None:
        check_outside("heatmaps", heatmaps, folder)
        make_folder(Path(heatmaps).expanduser(), "heatmaps")
    reports_folder = None if sr is None else report_folder(sr, folder)
    listing, grouped, left_out = studies_below(folder, studies)
    model = Radz.from_pretrained(run, device)
    names = model.names(findings) if findings else [name for name in model.bank.names if name != "no_finding"]
    readings = model.readings(names, prevalence, corpus)
    _tell(model, readings, grouped)
    reports = None if reports_folder is None else Reports.of(model, run, names, reports_folder, folder)
    faults, verdicts = list[str](), list[Verdict]()
    # Opened before the work, so that a place that cannot be written to is told at once.
    with replacing(target) as draft, replacing(beside(target)) as told, _writer(draft) as writer:
        writer.writerow(["file", "error", *COLUMNS, *(f"{name}{part}" for name in names for part in PARTS)])
        for study, error, verdict, scores in scored(model, grouped, names, listing.faults):
            own = readings[model.modality(study.files[0])]
            cells = [cell for name, score in zip(names, scores, strict=not error) for cell in own[name].cells(score)]
            writer.writerow([study.name, error, *verdict.cells, *(cells or [""] * len(PARTS) * len(names))])
            faults += [error] * bool(error)
            verdicts.append(verdict)
            if heatmaps is not None and not error:
                _draw(model, study, names, folder, Path(heatmaps).expanduser())
            if reports is not None and not error:
                of_findings = dict(zip(names, scores, strict=True))
                reports.add(study, model.modality(study.files[0]), of_findings, own, verdict)
        if len(faults) == len(grouped):
            what = "file" if studies is None else "study"
            raise InputError(
                f"input: none of {counted(len(grouped), what)} in {source} could be read; first: {faults[0]}"
            )
        about = _about(model, run, readings) | {"scope": plain(model.scopes, verdicts)}
        told.write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _count(len(grouped), len(faults), left_out, listing, verdicts)
    if reports is not None:
        reports.tell()
    return target


def folder_of(source: str) -> Path:
    """The folder of the images, or InputError where it is none."""
    folder = Path(source).expanduser()
    if folder.is_file():
        raise InputError(f"input: {source} is a file; give the folder that holds it")
    if not folder.is_dir():
        raise InputError(f"input: {source}: no such folder")
    return folder


def studies_below(folder: Path, how: str | None) -> tuple[Found, list[Study], int]:
    """What lies below a folder, the studies that it makes (`studies.studies_of`), and how many files are of no image.

    Raises:
        InputError: no images, or `how` does not fit.
    """
    listing = files_below(folder)
    if folder in listing.faults:
        raise InputError(f"input: {listing.faults[folder]}")
    wanted = [path for path in listing.files if _may_be_image(path)]
    if not wanted and not listing.faults:
        raise InputError(f"input: {folder}: no DICOM, PNG, JPEG, NIfTI or npz files below it")
    slices = {path: of for path in wanted if (of := member(path)) is not None}
    parts, copies = parts_and_copies(slices)
    for part, other in parts.items():
        rest = other.relative_to(folder)
        listing.faults[part] = f"{part}: holds a part of a CT series, other slices lie in {rest}; put all in one folder"
    if copies:
        told = counted(len(copies), "copy")
        log.warning("%s of CT series that another folder holds too, such as %s; each is scored", told, copies[0])
    images = sorted({path.parent if path in slices else path for path in wanted} | listing.faults.keys())
    return listing, studies_of(images, folder, how), len(listing.files) - len(wanted)


def _target(out: str) -> Path:
    """The file to write, or InputError where it cannot be this."""
    target = file_to_write(out, "out")
    file_to_write(str(beside(target)), "out")
    return target


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """The bytes that Python holds as lone surrogates, as `repr` shows them, and where the text goes on."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(f"\\x{ord(char) & 0xFF:02x}" for char in error.object[error.start : error.end]), error.end


codecs.register_error(BYTES, _escaped)


@contextmanager
def _writer(file: Path) -> Iterator[Any]:
    """Writes the rows of a CSV; a byte that is no text in the name of a file stands as \\xe9."""
    with file.open("w", newline="", encoding="utf-8", errors=BYTES) as stream:
        yield csv.writer(stream)


def beside(out: Path) -> Path:
    """The JSON beside a table of scores: scores.json beside scores.csv.

    Raises:
        InputError: the table itself is called so.
    """
    if out.suffix.lower() == ".json":
        raise InputError(f"out: {out} is to be a table; let its name end in .csv, and a .json is written beside it")
    return out.with_suffix(".json") if out.suffix.lower() == ".csv" else out.with_name(f"{out.name}.json")


def _tell(model: Radz, readings: Mapping[str, Mapping[str, Reading]], grouped: list[Study]) -> None:
    """What findings have no probability, and what studies are made of."""
    for modality in dict.fromkeys(model.modality(study.files[0]) for study in grouped):
        for line in in_words(readings[modality].values()):
            log.warning("%s%s", f"{modality}: " if len(readings) > 1 else "", line)
    several = [len(study.files) for study in grouped if len(study.files) > 1]
    if several:
        log.info("%s of several files, %d at most, each scored as one", counted(len(several), "study"), max(several))
        if model.experiment.scoring.unit == "image":
            log.warning("the run was validated on single images (scoring.unit=image); studies of several are new to it")
    files = [file for study in grouped for file in study.files]
    series = {file for file in files if file.is_dir()}
    pictures = [file for file in files if file.parent in series and file.suffix.lower() in PICTURES]
    for modality, count in Counter(map(model.modality, pictures)).items():
        told = counted(count, "picture")
        log.warning("%s beside the slices of CT series, each scored as a %s study", told, MODALITY_TEXT[modality])


def _count(studies: int, unreadable: int, others: int, listing: Found, verdicts: Sequence[Verdict]) -> None:
    """How many studies are scored, what was left out, and how many are out of scope."""
    log.info(
        "%d of %s scored, %d unreadable (column error); %s left out",
        studies - unreadable, counted(studies, "study"), unreadable,
        counted(others, "file of another kind", "files of other kinds"),
    )  # fmt: skip
    if listing.system or listing.again:
        log.info(
            "%s of the system's own ignored (such as %s); %s linked from several places, read once",
            counted(listing.system, "file"), listing.example or "none", counted(listing.again, "folder"),
        )  # fmt: skip
    for line in summary(verdicts):
        log.warning("%s", line)


def _about(model: Radz, run: str, readings: Mapping[str, Mapping[str, Reading]]) -> dict[str, Any]:
    """What the JSON beside the table holds: by what run, scorer and rules its numbers were made; no names of files."""
    scoring = model.experiment.scoring
    return {
        "schema": 1,
        "radz": __version__,
        "run": {"name": model.experiment.name, "digest": run_digest(Path(run).expanduser())},
        "scorer": scoring.headline,
        "aggregate": scoring.aggregate,
        "rules": {RULE: "called present from the threshold of best F1 on the validation split"},
        "findings": {modality: {name: one.plain() for name, one in own.items()} for modality, own in readings.items()},
    }


def _draw(model: Radz, study: Study, names: list[str], folder: Path, target: Path) -> None:
    """Overlays of each file of a study below `target`, under its name below `folder`."""
    for path in study.files:
        # The folder itself may be a series.
        _draw_file(model, path, names, target / (path.relative_to(folder) if path != folder else path.name))


def _draw_file(model: Radz, path: Path, names: list[str], target: Path) -> None:
    """Overlays of one radiograph, or of the slices of one volume, beside each other under the name of its file."""
    try:
        image = model.grays(path)
        heats = model.heatmaps(path, names)
    except InputError as error:  # the file has changed since it was scored
        log.warning("heatmaps: none is drawn: %s", error)
        return
    for name, heat in zip(names, heats, strict=True):
        picture = target.with_name(f"{target.name}_{name.replace(' ', '_').replace('/', '_')}.png")
        try:
            write_png(picture, overlay(tiled(image), tiled(heat)))
        except OSError as error:
            raise InputError(
                f"heatmaps: {picture} cannot be written ({error.strerror}); choose another place"
            ) from None


def _may_be_image(path: Path) -> bool:
    """By its suffix or how it begins: exports often use the UID as name, dots and all.

    Pictures of a format that is not read are among them, so that the table says so.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix[1:].isdigit() or path.name.lower().endswith((*VOLUMES, ".dcm.gz")):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return True  # the reason becomes its error
    return start[128:] == b"DICM" or bool(
        start.startswith(SIGNATURES) or NO_PREAMBLE.match(start) or other_format(start)
    )


def scored(
    model: Radz, studies: list[Study], names: list[str], faults: Mapping[Path, str]
) -> Generator[tuple[Study, str, Verdict, list[float]], None, None]:
    """(study, error, whether it is in scope, scores) of every study in order; no scores where there is an error.

    A study is scored whole or not at all: without one of its views the score would be of another kind than the others.
    `faults`: what cannot be opened, and why.
    """

    def score(images: Sequence[Tensor], modalities: Sequence[str]) -> NDArray[np.float32]:
        return model.score_images(images, modalities, names)

    score([], [])  # what is wrong with the findings ends it here
    with Bar(total=len(studies), desc="predict", unit="study") as bar:
        for part in batches(studies, BATCH):
            modalities = [model.modality(study.files[0]) for study in part]
            seen = [_seen(model, study, faults) for study in part]
            readable = [(one, of) for one, of in zip(seen, modalities, strict=True) if isinstance(one, Tensor)]
            found = one_by_one(score, [one for one, _ in readable], [of for _, of in readable]) if readable else []
            rows = iter(found)
            for study, modality, images in zip(part, modalities, seen, strict=True):
                row = images if isinstance(images, InputError) else next(rows)
                looked_at = row if isinstance(row, InputError) else images
                verdict = judge(model.scopes.get(modality), modality, study.files, looked_at)
                if isinstance(row, InputError):
                    yield study, str(row), verdict, []
                else:
                    yield study, "", verdict, row.tolist()
            bar.update(len(part))


def _seen(model: Radz, study: Study, faults: Mapping[Path, str]) -> Tensor | InputError:
    """The images of a study, or why there are none."""
    try:
        for file in study.files:
            if file in faults:
                raise InputError(faults[file])
        check_patient(study)
        return model.study(study.files)
    except InputError as error:
        return error
