"""Folders that may not be entered, also where the tests run as root."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = 0x20080522
PAST_RIGHTS = 1 << 1 | 1 << 2 | 1 << 3
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER (linux/capability.h)"""


@contextmanager
def shut(place: Path) -> Iterator[None]:
    """`place` without any rights inside the block, and this thread without root's way past them."""
    mode = place.stat().st_mode
    place.chmod(0)
    try:
        with _plain_user() if os.geteuid() == 0 else _nothing():
            yield
    finally:
        place.chmod(mode)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _plain_user() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~PAST_RIGHTS
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0
