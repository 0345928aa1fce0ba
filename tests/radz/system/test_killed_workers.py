"""Fault 21: a command whose workers die, or that is told to stop while they work, ends in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PHANTOM = """
import sys
from pathlib import Path
from radz.cli.command_line import guarded

def work() -> int:
    from data_modules.phantom.write import write_phantom
    write_phantom(Path(sys.argv[1]), studies={"train": 4000}, workers=2, progress=False)
    return 0

if __name__ == "__main__":
    sys.exit(guarded(work))
"""


def children(pid: int, word: bytes = b"import serve") -> list[int]:
    """The child processes whose command line holds `word`."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if word in Path(f"/proc/{child}/cmdline").read_bytes()]


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("whom", "number", "code", "told"),
    [
        ("worker", signal.SIGKILL, 2, "was killed by SIGKILL"),
        ("all", signal.SIGINT, 3, "radz: stopped; repeat the command\n"),
        ("all", signal.SIGTERM, 3, "radz: stopped; repeat the command\n"),
    ],
)
def test_the_phantom_ends_in_one_line(whom: str, number: int, code: int, told: str, tmp_path: Path) -> None:
    (tmp_path / "phantom.py").write_text(PHANTOM)
    command = subprocess.Popen(
        [sys.executable, tmp_path / "phantom.py", tmp_path / "out"], stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        while not list(tmp_path.glob(".out.*/images/*")):
            assert command.poll() is None
            time.sleep(0.05)
        workers = children(command.pid)
        assert len(workers) == 2
        if whom == "all":
            os.killpg(command.pid, number)
        else:
            os.kill(workers[0] if whom == "worker" else command.pid, number)
        error = command.communicate(timeout=30)[1]  # promised are 10 seconds, on a machine that does nothing else
    finally:
        command.kill()
    assert command.returncode == code and error.count("\n") == 1 and told in error, error
    assert gone(workers) and sorted(path.name for path in tmp_path.iterdir()) == ["phantom.py"]
