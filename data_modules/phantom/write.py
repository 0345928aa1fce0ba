"""Writes a phantom corpus: DICOM radiographs or NIfTI volumes, and studies.csv with reports and labels.

phantom.json beside them holds the digest of it all.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from data_modules.errors import InputError, nearest
from data_modules.files import new_folder
from data_modules.parsing import parse_json
from data_modules.phantom.dicom import write_dicom
from data_modules.phantom.expose import expose
from data_modules.phantom.findings import NAMES, SEEN
from data_modules.phantom.nifti import write_nifti
from data_modules.phantom.project import thickness
from data_modules.phantom.report import write_report
from data_modules.phantom.study import SPLITS, patients, sample_study, sample_view
from data_modules.phantom.volume import sample_scan, volume
from data_modules.progress import Bar
from data_modules.workers import crew

log = logging.getLogger(__name__)

VERSION = 3  # raised with every change of the pictures or the words, so that older folders are written anew
COLUMNS = ("image", "study", "patient", "split", "view", "sex", "age", "report", *NAMES)
CT = "chest_ct"
_WORTH = {"chest_xray": 32, CT: 8}  # studies that are worth the start of a process


def write_phantom(
    folder: Path,
    *,
    studies: dict[str, int],
    image_px: int = 256,
    voxels: int = 96,
    seed: int = 0,
    modality: str = "chest_xray",
    rare: Mapping[str, float] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> str:
    """Writes `studies` (count per split) under `folder`; returns the digest.

    A study of modality chest_xray is a square radiograph of `image_px` pixels, one of chest_ct a cube of `voxels`.
    The digest is a sha256 over pixels or voxels, reports and labels, the same for any number of workers. A folder that
    already holds this phantom is left as it is. Files appear under a temporary name first, so that an interrupted run
    leaves nothing that looks complete. Raises InputError for an unknown split or modality, a negative count, a size out
    of range, or a foreign folder. `rare`: as in `sample_study`.
    """
    folder = Path(folder)
    config = _checked(studies, image_px, voxels, seed, modality, rare or {})
    known = _known(folder)
    if known and known["config"] == config:
        return _told(folder, str(known["digest"]))
    jobs = [
        (s, i, p, voxels if modality == CT else image_px, seed, modality, rare or {})
        for s in SPLITS
        for i, p in enumerate(patients(s, config["studies"].get(s, 0), seed))
    ]
    if known:
        shutil.rmtree(folder)  # an older phantom
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: holds files that are no phantom; give an empty or a new folder")
    with new_folder(folder, "phantom") as draft:
        (draft / "images").mkdir()
        digest = _write_all(draft, jobs, _workers(workers, len(jobs), _WORTH[modality]), progress)
        described = {"config": config, "digest": digest, "findings": list(NAMES)}
        (draft / "phantom.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return _told(folder, digest)


def _told(folder: Path, digest: str) -> str:
    """The digest, which the log names as phantom.json and README do."""
    log.info("phantom in %s, digest %s", folder, digest[:12])
    return digest


def _checked(
    studies: dict[str, int], image_px: int, voxels: int, seed: int, modality: str, rare: Mapping[str, float]
) -> dict:  # fmt: skip
    for name, share in rare.items():
        if name not in SEEN:
            raise InputError(f"phantom.rare: {name!r} is no finding of its training studies{nearest(name, SEEN)}")
        if not 0 <= share <= 1:
            raise InputError(f"phantom.rare.{name}: {share} must lie between 0 and 1")
    for split, count in studies.items():
        if split not in SPLITS:
            raise InputError(f"phantom.studies: unknown split {split!r}; use {', '.join(SPLITS)}")
        if count < 0:
            raise InputError(f"phantom.studies.{split}: {count} is negative; give a count of studies")
    if modality not in _WORTH:
        raise InputError(f"modality: {modality!r} is not one of {', '.join(_WORTH)}")
    if not 32 <= voxels <= 512:
        raise InputError(f"phantom.voxels: {voxels} must be at least 32 and at most 512")
    if image_px < 64:
        raise InputError(f"phantom.image_px: {image_px} is too small for a chest; give at least 64")
    if seed < 0:
        raise InputError(f"phantom.seed: {seed} is negative; give a whole number from 0")
    return {
        "version": VERSION,
        "studies": {s: int(studies[s]) for s in SPLITS if studies.get(s)},
        **({"modality": modality, "voxels": voxels} if modality == CT else {"image_px": image_px}),
        "seed": seed,
        **({"rare": dict(sorted(rare.items()))} if rare else {}),
    }


def _known(folder: Path) -> dict | None:
    """The description of a complete phantom in `folder`, if there is one."""
    try:
        return parse_json((folder / "phantom.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(
            f"{folder / 'phantom.json'}: is not JSON ({error}); delete the folder to write it anew"
        ) from error


def _workers(workers: int | None, jobs: int, worth: int) -> int:
    if workers is not None:
        return max(1, min(workers, jobs))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, jobs // worth))


def _write_all(draft: Path, jobs: list[tuple], workers: int, progress: bool) -> str:
    total = hashlib.sha256()
    work = [(draft / "images", *job) for job in jobs]
    with (
        (draft / "studies.csv").open("w", encoding="utf-8", newline="") as handle,
        crew(_write_one, workers, _named) as written,
    ):
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        bar = Bar(written(work), desc="phantom", total=len(work), unit="study", disable=not progress)
        for row, digest in bar:
            table.writerow(row)
            total.update(digest)
    return total.hexdigest()


def _named(job: tuple) -> str:
    return f"study {job[1]}-{job[2]:06d} of the phantom"


def _write_one(job: tuple[Path, str, int, int, int, int, str, Mapping[str, float]]) -> tuple[list, bytes]:
    """Renders, writes and describes one study: its table row and the sha256 of its pixels, report and labels."""
    images, split, index, patient, side, seed, modality, rare = job
    study = sample_study(split, index, patient, seed, modality=modality, rare=rare)
    assert study.scene is not None
    name, person = f"{split}-{index:06d}", f"P-{split}-{patient:06d}"
    if modality == CT:
        scan = sample_scan(study.body, side, study.rng)
        pixels = volume(study.scene, scan, study.rng).astype("<i2")
        file, view = f"{name}.nii.gz", ""
        write_nifti(images / file, pixels, scan.affine())
    else:
        detector = sample_view(study.body, side, study.rng)
        shown = expose(thickness(study.scene, detector), study.rng)
        pixels, file, view = shown.pixels.astype("<u2"), f"{name}.dcm", study.body.view
        write_dicom(images / file, study, shown, detector.spacing, person, seed)
    report = write_report(study)
    present = {finding.name for finding in study.findings}
    labels = [int(finding in present) for finding in NAMES]
    body = study.body
    row = [f"images/{file}", name, person, split, view, body.sex, body.age, report, *labels]
    return row, hashlib.sha256(pixels.tobytes() + report.encode() + bytes(labels)).digest()
