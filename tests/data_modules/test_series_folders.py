"""Which files are slices of a CT, and which folders hold parts or copies of one series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from synthetic_dicom import series

from data_modules.series_folders import Member, member, parts_and_copies

HU = np.zeros((4, 4, 6), np.int16)
TAGS = {"PatientID": "P1", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4"}


def found(root: Path) -> tuple[dict[str, str], list[str]]:
    """Names of folders."""
    members = {path: of for path in sorted(root.glob("*/*")) if (of := member(path)) is not None}
    parts, copies = parts_and_copies(members)
    return {part.name: other.name for part, other in parts.items()}, [copy.name for copy in copies]


def edit(path: Path, **tags: Any) -> None:
    dataset = dcmread(path)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


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


NEXT = {"ImagePositionPatient": [-40, 25, -676]}
"""of the slice that follows those of HU"""


@pytest.mark.parametrize(
    ("tags", "is_part"),
    [
        (NEXT, True),
        (NEXT | {"PatientID": ""}, True),
        (NEXT | {"StudyInstanceUID": ""}, True),
        (NEXT | {"FrameOfReferenceUID": ""}, True),
        ({"ImagePositionPatient": [-40, 25, -672]}, True),
        ({"ImagePositionPatient": [-40, 25, -640]}, False),
        ({"ImagePositionPatient": [-20, 25, -676]}, False),
        (NEXT | {"PatientID": "P2"}, False),
        (NEXT | {"FrameOfReferenceUID": "1.2.6"}, False),
        (NEXT | {"PixelSpacing": [1, 1]}, False),
        (NEXT | {"Rows": 2, "Columns": 8}, False),
        (NEXT | {"ImageOrientationPatient": [1, 0, 0, 0, -1, 0]}, False),
        (NEXT | {"SOPClassUID": SecondaryCaptureImageStorage}, False),
        ({"ImagePositionPatient": [-40, 25, -670]}, False),
        ({"ImagePositionPatient": None}, False),
    ],
    ids=str,
)
def test_a_slice_in_another_folder_is_a_part_if_both_make_one_volume(
    tmp_path: Path, tags: dict[str, Any], is_part: bool
) -> None:
    series(tmp_path / "a", HU, **TAGS, FrameOfReferenceUID="1.2.5")
    (path,) = series(tmp_path / "b", HU[..., :1], **TAGS, FrameOfReferenceUID="1.2.5")
    edit(path, **tags)
    assert found(tmp_path) == ({"a": "b", "b": "a"} if is_part else {}, [])


def test_copies_of_one_slice_are_copies(tmp_path: Path) -> None:
    paths = series(tmp_path / "a", HU[..., :1], **TAGS)
    copied(paths, tmp_path / "copy")
    assert found(tmp_path) == ({}, ["copy"])


def test_scans_side_by_side_under_one_uid_are_no_parts(tmp_path: Path) -> None:
    """At whole mm, where their places along the body are those of one scan, twice."""
    series(tmp_path / "a", HU, **TAGS)
    for path in series(tmp_path / "b", HU, **TAGS):
        x, y, z = dcmread(path).ImagePositionPatient
        edit(path, ImagePositionPatient=[x + 20, y, z])
    assert found(tmp_path) == ({}, [])


def test_parts_whose_uids_are_drawn_for_each_file(tmp_path: Path) -> None:
    for number, path in enumerate(series(tmp_path / "a", HU, **TAGS)):
        edit(path, StudyInstanceUID=f"1.2.{number}", FrameOfReferenceUID=f"1.3.{number}")
    copied(sorted((tmp_path / "a").iterdir()), tmp_path / "copy")
    assert found(tmp_path) == ({}, ["copy"])
    next((tmp_path / "copy").iterdir()).unlink()
    assert found(tmp_path) == ({"copy": "a"}, [])


def test_a_localizer_and_what_is_no_slice_belong_to_no_series(tmp_path: Path) -> None:
    (first, second, *_) = series(tmp_path / "a", HU, **TAGS)
    slice_ = member(first)
    assert slice_ is not None and slice_.series == "1.2.4" and slice_.owners == ("P1", "1.2.3", "")
    assert slice_.place == (-40, 25, -700) and slice_.instance == dcmread(first).SOPInstanceUID
    dataset = dcmread(first)
    dataset.ImageType, dataset.ImagePositionPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], None
    dataset.save_as(first)
    assert member(first) == Member("")
    plain = second.read_bytes()[132:]
    for name, content, is_slice in (
        ("x.dcm", plain, True), ("x", plain, False), ("x.png", second.read_bytes(), False), ("x.dcm", b"no", False),
        ("x.ima", b"", False), ("x", second.read_bytes(), True),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert (member(tmp_path / name) is not None) == is_slice, name
