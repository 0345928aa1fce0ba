"""Fixtures of the tests of experiment files."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_files import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write experiment files given as keywords; returns the path of the last."""

    def put(**texts: str) -> str:
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return str(tmp_path / f"{list(texts)[-1]}.yaml")

    return put
