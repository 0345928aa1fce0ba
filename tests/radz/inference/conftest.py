"""Fixtures of the tests of the engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radz import Radz


@pytest.fixture(scope="module")
def engine(trained_run: Path) -> Radz:
    return Radz.from_pretrained(trained_run)


@pytest.fixture(scope="module")
def files(phantom_folder: Path) -> list[Path]:
    """DICOM files of the phantom."""
    return sorted(phantom_folder.glob("images/*.dcm"))[:3]


@pytest.fixture
def folder(tmp_path: Path, files: list[Path]) -> Path:
    """DICOM, PNG, a file without suffix in a folder of its own, a broken DICOM, and a text that is no image."""
    target = tmp_path / "in"
    (target / "deeper").mkdir(parents=True)
    shutil.copy(files[0], target / "a.dcm")
    shutil.copy(files[1], target / "deeper/b")
    Image.fromarray(np.arange(80 * 80, dtype=np.uint8).reshape(80, 80)).save(target / "c.PNG")
    (target / "d.dcm").write_bytes(files[2].read_bytes()[:700])
    shutil.copy(files[1], target / "1.2.840.77")  # a UID as name
    (target / "notes.txt").write_text("not an image")
    return target
