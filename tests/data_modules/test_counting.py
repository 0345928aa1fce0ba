"""Counts in words."""

from __future__ import annotations

import pytest

from data_modules.counting import counted


@pytest.mark.parametrize(
    ("count", "noun", "told"),
    [
        (0, "study", "0 studies"),
        (1, "study", "1 study"),
        (1234, "image", "1,234 images"),
        (2, "key", "2 keys"),
        (2, "training study", "2 training studies"),
    ],
)
def test_one_is_not_many(count: int, noun: str, told: str) -> None:
    assert counted(count, noun) == told


def test_another_plural() -> None:
    told = [counted(count, "file of another kind", "files of other kinds") for count in (1, 2)]
    assert told == ["1 file of another kind", "2 files of other kinds"]
