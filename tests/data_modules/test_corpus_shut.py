"""Folders of published corpora that may not be entered: what lies there is never left out without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept import EVERY_LAYOUT
from official import phantom, read
from rights import shut

from data_modules.corpus_config import BadRows
from data_modules.disk import cannot_open
from data_modules.errors import InputError
from data_modules.listing import listed


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all of them, so that the phantom is rendered once."""
    return tmp_path_factory.mktemp("layouts")


@pytest.mark.parametrize("reader", EVERY_LAYOUT)
def test_the_table_is_whole_or_the_folder_is_told(layouts: Path, reader: str) -> None:
    root, skip = phantom(reader, layouts / reader), BadRows(on_missing_image="skip")
    images = sorted(read(reader, root, bad=skip).image_paths)
    folders = sorted(path for path in root.rglob("*") if path.is_dir())
    for folder in {len(one.parts): one for one in folders}.values():  # one of each depth
        with shut(folder):
            try:
                assert sorted(read(reader, root, bad=skip).image_paths) == images
            except (InputError, PermissionError) as error:
                told = str(cannot_open(error) or error)
                assert "rights" in told and str(root) in told, told


def test_listed_is_glob_that_tells(tmp_path: Path) -> None:
    for name in ("a1/x/1.dcm", "a1/2.dcm", "a2/x/3.dcm", "b/x/4.dcm", "a3.txt", "a2/[x]/5.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in ("*", "a*/x/*.dcm", "a[12]", "*/*/*.dcm", "a1/2.dcm", "none/*", "a3.txt/*", "a?/none", ".*"):
        assert listed(tmp_path, pattern) == sorted(tmp_path.glob(pattern)), pattern
    for shut_one, pattern in (("a1", "a*/*.dcm"), ("a1", "a1/2.dcm"), ("a2/x", "*/*/*.dcm")):
        with shut(tmp_path / shut_one), pytest.raises(InputError, match="one below it cannot be listed") as fault:
            listed(tmp_path, pattern)
        assert str(fault.value) == (
            f"{tmp_path}: this folder or one below it cannot be listed (Permission denied); see to its rights"
        )
