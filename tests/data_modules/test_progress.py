"""Progress in a log: a line every tenth or every thirty seconds, none for each update."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest

from data_modules import progress
from data_modules.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that the test moves."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    monkeypatch.setattr("tqdm.std.time", lambda: now.seconds)
    return now


def test_a_log_has_a_line_for_each_tenth(clock: Any) -> None:
    log = io.StringIO()
    bar = Bar(total=500, desc="phantom", unit="study", file=log)
    for _ in range(500):
        clock.seconds += 0.2
        bar.update()
    bar.close()
    lines = log.getvalue().splitlines()
    assert [line.split("%")[0] for line in lines] == [f"phantom: {share:3d}" for share in range(10, 101, 10)]
    assert "\r" not in log.getvalue() and "250/500 [" in lines[4] and "study/s" in lines[4]


def test_a_log_has_a_line_after_thirty_seconds(clock: Any) -> None:
    log = io.StringIO()
    for total in (1000, None):
        bar = Bar(total=total, file=log)
        for _ in range(20):
            clock.seconds += 7
            bar.update()
        bar.close()
    assert len(log.getvalue().splitlines()) == 2 * 4, "at 35, 70, 105 and 140 seconds"


def test_a_short_task_has_one_line(clock: Any) -> None:
    log = io.StringIO()
    for _ in Bar(range(40), desc="decoding", file=log):
        clock.seconds += 0.01
    Bar(range(40), file=log, disable=True).close()
    assert log.getvalue().count("\n") == 1 and log.getvalue().startswith("decoding: 100% 40/40")


def test_a_terminal_is_drawn_on() -> None:
    screen = Terminal()
    assert list(Bar(range(3), file=screen, mininterval=0)) == [0, 1, 2]
    assert screen.getvalue().count("\r") >= 3 and "100%|####" in screen.getvalue()
