"""Which files are slices of a CT, and which folders hold parts or copies of one series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from synthetic_dicom import series

from data_modules.series_folders import Member, member, parts_and_copies

HU = np.zeros((4, 4, 6), np.int16)
TAGS = {"PatientID": "P1", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4"}


def found(root: Path) -> tuple[dict[str, str], list[str]]:
    """Names of folders."""
    members = {path: of for path in sorted(root.glob("*/*")) if (of := member(path)) is not None}
    parts, copies = parts_and_copies(members)
    return {part.name: other.name for part, other in parts.items()}, [copy.name for copy in copies]


def copied(paths: list[Path], to: Path) -> None:
    to.mkdir()
    for path in paths:
        (to / path.name).write_bytes(path.read_bytes())


def test_the_parts_of_a_series_and_its_copies(tmp_path: Path) -> None:
    paths = series(tmp_path / "whole", HU, **TAGS)
    assert found(tmp_path) == ({}, [])
    copied(paths, tmp_path / "whole too")
    assert found(tmp_path) == ({}, ["whole too"])
    copied(paths[:4], tmp_path / "half")
    assert found(tmp_path) == ({"half": "whole"}, ["whole too"])
    for path in [*paths, *(tmp_path / "whole too").iterdir()]:
        path.unlink()
    assert found(tmp_path) == ({}, [])
    (tmp_path / "rest").mkdir()
    for path in (tmp_path / "half").iterdir():
        if path.name in (paths[0].name, paths[1].name):
            path.rename(tmp_path / "rest" / path.name)
    assert found(tmp_path) == ({"half": "rest", "rest": "half"}, [])


@pytest.mark.parametrize(
    "tags", [{"SeriesInstanceUID": "1.2.5"}, {"SeriesInstanceUID": ""}, {"PatientID": "P2"}, {}], ids=str
)
def test_scans_of_their_own_are_no_parts(tmp_path: Path, tags: dict[str, Any]) -> None:
    """Of another series or patient, and the phases of a series, whose slices lie at the same places."""
    series(tmp_path / "a", HU, **TAGS | tags)
    series(tmp_path / "b", HU[..., :5], **TAGS)
    assert found(tmp_path) == ({}, [])


def test_a_localizer_and_what_is_no_slice_belong_to_no_series(tmp_path: Path) -> None:
    (first, second, *_) = series(tmp_path / "a", HU, **TAGS)
    slice_ = member(first)
    assert slice_ is not None and slice_.series == ("P1", "1.2.3", "1.2.4")
    assert slice_.place == "[-40.0, 25.0, -700.0]" and slice_.instance == dcmread(first).SOPInstanceUID
    dataset = dcmread(first)
    dataset.ImageType, dataset.ImagePositionPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], None
    dataset.save_as(first)
    assert member(first) == Member(("P1", "1.2.3", ""), "[]", dataset.SOPInstanceUID)
    plain = second.read_bytes()[132:]
    for name, content, is_slice in (
        ("x.dcm", plain, True), ("x", plain, False), ("x.png", second.read_bytes(), False), ("x.dcm", b"no", False),
        ("x.ima", b"", False), ("x", second.read_bytes(), True),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert (member(tmp_path / name) is not None) == is_slice, name
