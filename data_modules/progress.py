"""Progress bars: drawn on a terminal; in a log, where every drawing would stay, a line now and then."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

from tqdm import tqdm

SHARE = 0.1
"""of the whole that is worth a line,"""
SECONDS = 30.0
"""and a time after which there is one in any case;"""
PAUSE = 1.0
"""but no two within this, so that a short task has one line, the last."""


class Bar(tqdm):
    """A bar of tqdm, with its arguments by name."""

    def __init__(self, *args: Any, file: Any = None, **settings: Any) -> None:
        file = sys.stderr if file is None else file
        self._is_log = not file.isatty()
        self._told, self._told_at = settings.get("initial", 0), time.monotonic()
        if self._is_log:
            settings |= {"ncols": 0, "dynamic_ncols": False}  # numbers without a bar
        super().__init__(*args, file=file, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw, or in a log write a line where one is due."""
        if not self._is_log:
            super().display(msg, pos)
            return
        passed = time.monotonic() - self._told_at
        if passed >= SECONDS or (passed >= PAUSE and self._tenth(self.n) > self._tenth(self._told)):
            self._tell()

    def close(self) -> None:
        """Write the last line, or leave the last drawing."""
        if self._is_log and not self.disable:
            if self.n > self._told:
                self._tell()
            self.fp = io.StringIO()  # for tqdm's own farewell
        super().close()

    def _tenth(self, n: float) -> int:
        return int(n / (SHARE * self.total) + 1e-9) if self.total else 0

    def _tell(self) -> None:
        self.fp.write(f"{self}\n")
        self.fp.flush()
        self._told, self._told_at = self.n, time.monotonic()
