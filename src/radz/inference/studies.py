"""Which files of a folder are one study: each its own, each folder of pictures, or as a table says."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from torch import Tensor

from data_modules.corpora.csv_file import load
from data_modules.dicom import SUFFIXES, one_file
from data_modules.dicom_patient import PATIENT, check_one_patient
from data_modules.errors import InputError, nearest
from data_modules.volumes import is_volume

BY_FOLDER = "folder"
COLUMNS = ("file", "study")


@dataclass(frozen=True)
class Study:
    """What is scored as one."""

    name: str
    """relative to the folder, or the table's"""
    files: tuple[Path, ...]
    """in the order in which the model sees them; a CT series is one, by its folder"""


def studies_of(images: Sequence[Path], folder: Path, how: str | None) -> list[Study]:
    """The studies that images below `folder` make, in the order of their names.

    A CT volume is a study of its own, and so is a picture that a table does not name.

    Args:
        images: pictures, volumes, and folders of CT series.
        how: None (each its own), `folder` (all pictures of one folder), or a table with the columns of COLUMNS, its
            files relative to `folder`; their order there is that in the study.

    Raises:
        InputError: the table cannot be read, or a row of it names no image, one twice or one outside the folder; two
            studies of one name.
    """
    if how is None:
        return [_alone(path, folder) for path in images]
    groups = _by_folder(images, folder) if how == BY_FOLDER else _by_table(images, folder, Path(how).expanduser())
    taken = {path for files in groups.values() for path in files}
    found = [Study(name, tuple(files)) for name, files in groups.items()]
    found += [_alone(path, folder) for path in images if path not in taken]
    found.sort(key=lambda study: study.name)
    for one, next_one in itertools.pairwise(found):
        if one.name == next_one.name:
            raise InputError(
                f"studies: {one.name} is the name of two studies (a file or CT series has it too); call the pictures' "
                "study otherwise in a table, or move them to a folder of their own"
            )
    return found


def check_patient(study: Study) -> None:
    """InputError for a study with DICOM files of several patients."""
    if len(study.files) > 1:
        with one_file(study.name, "the DICOM header"):
            files = [path for path in study.files if is_dicom(path)]
            tags = list(PATIENT)
            headers = [dcmread(path, force=True, stop_before_pixels=True, specific_tags=tags) for path in files]
            check_one_patient(headers, study.name)


def is_dicom(path: Path) -> bool:
    """Whether a file that was scored is of DICOM; the folder of a series is."""
    if path.is_dir():
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in SUFFIXES


def batches(studies: Iterable[Study], most: int) -> Iterator[list[Study]]:
    """Studies in their order, `most` files at a time; one with more stands alone."""
    part: list[Study] = []
    for study in studies:
        if part and sum(len(one.files) for one in part) + len(study.files) > most:
            yield part
            part = []
        part.append(study)
    if part:
        yield part


def one_by_one(
    compute: Callable[[Sequence[Tensor], Sequence[str]], NDArray[np.float32]],
    images: Sequence[Tensor], modalities: Sequence[str],
) -> list[NDArray[np.float32] | InputError]:  # fmt: skip
    """Rows of what `compute` makes of studies at once; where it refuses that, of each alone, or why it has none."""
    try:
        return list(compute(images, modalities))
    except InputError as error:
        if len(images) == 1:
            return [error]
        pairs = zip(images, modalities, strict=True)
        return [row for one, modality in pairs for row in one_by_one(compute, [one], [modality])]


def _alone(path: Path, folder: Path) -> Study:
    return Study(str(path.relative_to(folder)), (path,))


def _by_folder(images: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in images:
        if not is_volume(path):
            groups.setdefault(str(path.parent.relative_to(folder)), []).append(path)
    return groups


def _by_table(images: Sequence[Path], folder: Path, table: Path) -> dict[str, list[Path]]:
    if not table.is_file():
        raise InputError(f"studies: there is no file {table}; give a table, or studies={BY_FOLDER}")
    frame = load(table, "studies")
    for column in COLUMNS:
        if column not in frame.columns:
            hint = nearest(column, frame.columns)
            raise InputError(f"studies: {table} has no column '{column}'{hint}; it needs {' and '.join(COLUMNS)}")
    known, rows = set(images), dict[Path, int]()
    groups: dict[str, list[Path]] = {}
    for row, cell, study in zip(frame.index, frame["file"], frame["study"], strict=True):
        where = f"studies: {table} row {row}"
        for column, value in (("file", cell), ("study", study)):
            if not value:
                raise InputError(f"{where}: column {column} is empty; fill it in, or remove the row")
        relative = os.path.normpath(cell)
        if os.path.isabs(cell) or relative.split(os.sep)[0] == os.pardir:
            raise InputError(f"{where}: {cell} is not below the folder of input; give a path relative to it")
        path = folder / relative
        if path not in known:
            why = "is no image that is read alone" if path.exists() else "does not exist"
            raise InputError(f"{where}: {cell} {why} in {folder}; correct the path, or remove the row")
        if path in rows:
            raise InputError(f"{where}: {cell} stands in row {rows[path]} too; a file belongs to one study")
        rows[path] = int(row)
        groups.setdefault(study, []).append(path)
    for study, files in groups.items():
        volume = next((path for path in files if is_volume(path)), None)
        if volume is not None and len(files) > 1:
            raise InputError(
                f"studies: {table} row {rows[volume]}: {volume.relative_to(folder)} is a CT volume and a study of its "
                f"own, but {study} holds other files; give it a name of its own"
            )
    return groups
