"""The list of mutants fits the tree; six of them, drawn anew every day, are noticed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import run


def test_every_old_text_stands_in_its_file_once() -> None:
    found = run.mutants()
    assert run.stale(found) == []
    assert len(found) >= 120 and len({(one.file, one.old, one.new) for one in found}) == len(found)


@pytest.mark.slow
def test_six_of_them_are_noticed() -> None:
    """`make mutants` runs them all."""
    day = int(time.time() // 86400)
    command = [sys.executable, str(Path(run.__file__)), "sample=6", f"seed={day}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, f"seed {day}: {done.stdout}{done.stderr}"
