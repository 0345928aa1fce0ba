from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def run_folder(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since evidence changes the report."""
    folder = tmp_path_factory.mktemp("evidence") / "run"
    shutil.copytree(trained_run, folder)
    return folder
