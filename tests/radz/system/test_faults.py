"""Each of the faults of docs/faults.md has a test."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[2]


def test_each_fault_has_a_test_that_every_run_of_the_suite_makes() -> None:
    quick: set[int] = set()
    for file in TESTS.rglob("test_*.py"):
        for decorators in re.findall(r"((?:^@[^\n]*\n(?:^[ )][^\n]*\n)*)+)def test_", file.read_text(), re.M):
            whole = decorators if isinstance(decorators, str) else decorators[0]
            if not re.search(r"^@pytest\.mark\.slow", whole, re.M):
                quick |= {int(number) for number in re.findall(r"mark\.fault\((\d+)\)", whole)}
    listed = {int(n) for n in re.findall(r"^\| (\d+) \|", (TESTS.parent / "docs/faults.md").read_text(), re.M)}
    assert quick == listed == set(range(1, 1 + len(listed)))
