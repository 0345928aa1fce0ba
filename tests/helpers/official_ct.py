"""What the tests of CT corpora share: small volumes, the studies that layouts are written of, and reading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from official import COUNTS, read

from data_modules.phantom.layouts.case import Case
from data_modules.study import StudyTable

FINDINGS: Sequence[frozenset[str]] = [
    frozenset(names)
    for names in (
        (), ("nodule", "emphysema"), ("consolidation",), ("pleural_effusion", "cardiomegaly"), ("nodule",),
        ("atelectasis", "pneumothorax"), ("consolidation", "nodule"),
    )
]  # fmt: skip
REPORT = "CT. Findings: Nodules (see text). No effusion. Impression: Two nodules."


def hounsfield(number: int = 0) -> np.ndarray:
    """int16 [X, Y, Z] in RAS, no axis symmetric: a body in air, one lung on the patient's right, bone at the back."""
    hu = np.full((20, 18, 12), -1000, dtype=np.int16)
    hu[2:18, 3:15, :] = 40
    hu[11:16, 6:12, 2:9] = -820
    hu[9:11, 3:5, :] = 1400
    hu[4 + number % 5, 8, 10] = 300
    return hu


def cases(folder: Path) -> list[Case]:
    """34 studies of COUNTS, two of a patient, each with its volume at 2 x 2 x 3 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = ["train"] * COUNTS.train + ["val"] * COUNTS.val + ["test"] * COUNTS.test
    found = []
    for number, split in enumerate(splits):
        path = folder / f"{number}.nii.gz"
        affine = np.diag([2.0, 2.0, 3.0, 1.0])
        affine[:3, 3] = -19, -17, -100
        nibabel.save(nibabel.Nifti1Image(hounsfield(number), affine), path)
        patient = 1 + splits[:number].count(split) // 2 + 100 * list(dict.fromkeys(splits)).index(split)
        found.append(
            Case(
                number=number, split=split, patient=patient, view="", sex="FM"[number % 2], age=40 + number,
                report=REPORT, image=path, findings=FINDINGS[number % len(FINDINGS)],
            )
        )  # fmt: skip
    return found


def laid_out_ct(write: Callable[[list[Case], Path], None]) -> Any:
    """A fixture of a test file: the studies of `cases` in a layout."""

    @pytest.fixture(scope="module")
    def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("layout")
        (folder / "corpus").mkdir()
        write(cases(folder / "volumes"), folder / "corpus")
        return folder / "corpus"

    return root


def read_by(reader: Any, root: Path | str, **changes: Any) -> StudyTable:
    """The table of a reader's module; `changes` are fields of CorpusConfig."""
    return read(reader.LAYOUT.reader, root, **{"modality": "chest_ct", **changes})


def volume(path: Path) -> Path:
    """A file that is there, which readers of tables never open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path
