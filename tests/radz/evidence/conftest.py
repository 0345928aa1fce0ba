from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import view_site

from radz.evidence.view.worklist import Worklist


@pytest.fixture(scope="module")
def run_folder(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since evidence changes the report."""
    folder = shutil.copytree(trained_run, tmp_path_factory.mktemp("evidence") / "run")
    return folder


@pytest.fixture(scope="session")
def view_worklist(tmp_path_factory: pytest.TempPathFactory) -> Worklist:
    """A thousand studies that need no run."""
    return view_site.worklist(tmp_path_factory.mktemp("view"))
