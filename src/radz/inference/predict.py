"""`radz predict`: a folder of images to a CSV of scores. Nothing is skipped silently."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydicom import dcmread

from data_modules.dicom import SUFFIXES as DICOM_SUFFIXES
from data_modules.dicom_kind import is_ct_slice
from data_modules.errors import InputError
from data_modules.files import replacing
from data_modules.listing import files_below
from data_modules.pictures import SIGNATURES, other_format
from data_modules.pixels import read_gray
from data_modules.progress import Bar
from data_modules.volumes import is_volume
from radz.inference.engine import BATCH, Radz
from radz.report.heatmap_picture import overlay, write_png

log = logging.getLogger(__name__)
SUFFIXES = (*DICOM_SUFFIXES, ".png", ".jpg", ".jpeg", "")
VOLUMES = (".nii", ".nii.gz", ".npz")


def predict_folder(
    run: str, source: str, out: str, findings: list[str], heatmaps: str | None = None, device: str | None = None
) -> Path:
    """Score every study below `source` with the headline scorer and write `out`, as a whole or not at all.

    A study is a picture, a CT volume, or a folder with the DICOM slices of one CT series. Linked folders are entered,
    each once; what an operating system leaves in folders is counted and left out.
    Columns: file (relative to `source`), error (why a file has no scores), then one column per finding, by its name
    in the ontology. `findings` empty means those of the run's bank, without no_finding. `heatmaps`: a folder for a
    picture of each radiograph and finding, `<file>_<finding>.png` in the pixels of the file; volumes have none.
    `device`: see `Radz.from_pretrained`.

    Raises:
        InputError: no images, none of them readable, or `out` cannot be written.
    """
    folder, target = Path(source).expanduser(), Path(out).expanduser()
    if folder.is_file():
        raise InputError(f"input: {source} is a file; give the folder that holds it")
    if not folder.is_dir():
        raise InputError(f"input: {source}: no such folder")
    if target.is_dir():
        raise InputError(f"out: {out} is a folder; name a file in it, such as {target / 'scores.csv'}")
    listing = files_below(folder)
    wanted = [path for path in listing.files if _may_be_image(path)]
    if not wanted and not listing.faults:
        raise InputError(f"input: {source}: no DICOM, PNG, JPEG, NIfTI or npz files below it")
    images = sorted({path.parent if _is_slice(path) else path for path in wanted} | listing.faults.keys())
    model = Radz.from_pretrained(run, device)
    names = model.names(findings) if findings else [name for name in model.bank.names if name != "no_finding"]
    faults: list[str] = []
    # Opened before the work, so that a place that cannot be written to is told at once.
    with replacing(target) as draft, draft.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "error", *names])
        blank = [""] * len(names)
        for path, error, scores in _scored(model, images, names, listing.faults):
            writer.writerow([path.relative_to(folder), error, *(scores or blank)])
            faults += [error] * bool(error)
            if heatmaps is not None and not error and not is_volume(path):
                _draw(model, path, names, Path(heatmaps).expanduser() / path.relative_to(folder))
        if len(faults) == len(images):
            raise InputError(f"input: none of {len(images)} files in {source} could be read; first: {faults[0]}")
    log.info(
        "%d of %d studies scored, %d unreadable (column error); %d files of other kinds left out",
        len(images) - len(faults), len(images), len(faults), len(listing.files) - len(wanted),
    )  # fmt: skip
    if listing.system or listing.again:
        log.info(
            "%d files of the system's own ignored (such as %s); %d folders linked from several places, read once",
            listing.system, listing.example or "none", listing.again,
        )  # fmt: skip
    return target


def _draw(model: Radz, path: Path, names: list[str], target: Path) -> None:
    """Overlays of one radiograph, beside each other under the name of its file."""
    try:
        image = read_gray(path, frames=model.data.frames)
        heats = model.heatmaps(path, names)
    except InputError as error:  # the file has changed since it was scored
        log.warning("heatmaps: none is drawn: %s", error)
        return
    for name, heat in zip(names, heats, strict=True):
        picture = target.with_name(f"{target.name}_{name.replace(' ', '_').replace('/', '_')}.png")
        try:
            write_png(picture, overlay(image, heat))
        except OSError as error:
            raise InputError(
                f"heatmaps: {picture} cannot be written ({error.strerror}); choose another place"
            ) from None


def _may_be_image(path: Path) -> bool:
    """By its suffix or how it begins: exports often use the UID as name, dots and all.

    Pictures of a format that is not read are among them, so that the table says so.
    """
    if path.suffix.lower() in SUFFIXES or path.name.lower().endswith((*VOLUMES, ".dcm.gz")):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return True  # the reason becomes its error
    return start[128:] == b"DICM" or start.startswith(SIGNATURES) or bool(other_format(start))


def _is_slice(path: Path) -> bool:
    """Whether a file is one of the slices of a CT, which are scored together, by their folder."""
    if path.name.lower().endswith((".png", ".jpg", ".jpeg", *VOLUMES)):
        return False
    try:
        return is_ct_slice(dcmread(path, stop_before_pixels=True, specific_tags=["Modality", "SOPClassUID"]))
    except Exception:  # pydicom promises no exception type; what is wrong with the file is told when it is read
        return False


def _scored(
    model: Radz, files: list[Path], names: list[str], faults: Mapping[Path, str]
) -> Iterator[tuple[Path, str, list[float]]]:
    """(file, error, scores) of every file in order; the scores are empty where the error is not. Each is read once.

    `faults`: what cannot be opened, and why.
    """
    with Bar(total=len(files), desc="predict", unit="study") as bar:
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            images, errors = [], {file: faults[file] for file in part if file in faults}
            for file in (file for file in part if file not in errors):
                try:
                    images.append(model.images(file))
                except InputError as error:
                    errors[file] = str(error)
            modalities = [model.modality(file) for file in part if file not in errors]
            scores = iter(model.score_images(images, modalities, names) if images else ())
            for file in part:
                yield (file, errors[file], []) if file in errors else (file, "", next(scores).tolist())
            bar.update(len(part))
