"""Fixtures of the tests of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from radz import Radz


@pytest.fixture(scope="module")
def engine(trained_run: Path) -> Radz:
    return Radz.from_pretrained(trained_run)
