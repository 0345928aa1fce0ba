from __future__ import annotations

import os
from pathlib import Path

from rights import shut

from data_modules.dicom_words import Words, words_of
from data_modules.listing import files_below
from data_modules.volumes import is_volume


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_links_are_followed_once_and_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    here, disk = tmp_path / "in", tmp_path / "disk"
    touch(here / "b/1.dcm"), touch(here / "a.png"), touch(disk / "deep/2.dcm"), touch(disk / "3.dcm")
    for name in ("._1.dcm", ".DS_Store", "Thumbs.db", "desktop.ini", "DICOMDIR", "__MACOSX/b/1.dcm", "__MACOSX/x"):
        touch(here / "b" / name)
    os.symlink(disk, here / "linked")
    os.symlink(disk / "deep", here / "z_again")
    os.symlink(here, here / "b/round")
    os.symlink(tmp_path / "gone", here / "c.dcm")
    os.symlink(disk / "3.dcm", here / "d.dcm")
    os.mkfifo(here / "pipe")
    found = files_below(here)
    assert [path.relative_to(here).as_posix() for path in found.files] == [
        "a.png", "b/1.dcm", "d.dcm", "linked/3.dcm", "linked/deep/2.dcm",
    ]  # fmt: skip
    assert (found.system, found.again) == (7, 2) and found.example in ("._1.dcm", ".DS_Store", "Thumbs.db", "DICOMDIR")
    assert list(found.faults) == [here / "c.dcm"] and "a link that leads nowhere" in found.faults[here / "c.dcm"]


def test_a_folder_that_may_not_be_entered_is_a_fault(tmp_path: Path) -> None:
    touch(tmp_path / "in/shut/1.dcm"), touch(tmp_path / "in/2.dcm")
    os.symlink(tmp_path / "in/shut/1.dcm", tmp_path / "in/linked.dcm")
    place = tmp_path / "in/shut"
    with shut(place):
        found = files_below(tmp_path / "in")
        assert words_of(place) == Words() and is_volume(place) and not is_volume(place / "1.dcm")
    assert [path.name for path in found.files] == ["2.dcm"]
    assert found.faults == {
        place: f"{place}: the folder cannot be listed (Permission denied)",
        tmp_path / "in/linked.dcm": f"{tmp_path}/in/linked.dcm: cannot be opened (Permission denied)",
    }
