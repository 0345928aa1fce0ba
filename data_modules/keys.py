"""key=value of a verb: the keys that it takes itself, and how each text is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.errors import InputError

Reader = Callable[[str], Any]
"""Text to value; its ValueError says what the value must be."""
MOST = 2**32 - 1
SHOWN = 200
"""signs of what was typed that an error shows"""


def read_keys(
    items: Sequence[str],
    readers: Mapping[str, Reader],
    required: Collection[str] = (),
    overrides: Collection[str] | None = (),
) -> tuple[dict[str, Any], list[str]]:
    """The values of a verb's own keys, and those items that are overrides of the experiment.

    Texts are not read as YAML: a folder may be called 007 or [a].

    Args:
        overrides: first parts of the experiment's keys that are let through; None lets every other item through.

    Raises:
        InputError: a key that is neither, one of its own that is given twice (of overrides the later counts), a value
            that cannot be read, or a required key that is missing.
    """
    values: dict[str, Any] = {}
    rest = []
    for item in items:
        key, separator, text = item.partition("=")
        if separator and key in values:
            raise InputError(f"{item}: {key} is given twice; keep one")
        if separator and key in readers:
            try:
                values[key] = readers[key](text)
            except ValueError as error:
                raise InputError(f"{item[:SHOWN]}: {error}") from None
        elif overrides is None or (separator and key.partition(".")[0] in overrides):
            rest.append(item)
        else:
            known = [*sorted(readers), *(f"{name}.*" for name in overrides)]
            raise InputError(f"{item}: unknown here; known: {', '.join(known) or 'nothing'}")
    for key in sorted(set(required) - set(values)):
        raise InputError(f"{key}: missing; give {key}=...")
    return values, rest


def folder(text: str) -> Path:
    """A path; `~` is the home."""
    return Path(text).expanduser()


def names(text: str) -> list[str]:
    """`a,b` or `[a, b]`."""
    return [name.strip() for name in text.strip("[]").split(",") if name.strip()]


def flag(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def number(text: str) -> float:
    """A finite float from 0."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise ValueError("must be a number from 0, such as 0.001")
    return found


def whole(low: int) -> Reader:
    """A whole number from `low`, 0 or more, that every generator takes as its seed."""

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(MOST)) or not low <= int(text) <= MOST:
            raise ValueError(f"must be a whole number from {low} to {MOST}")
        return int(text)

    return read


def numbers(text: str) -> int | list[int]:
    """A whole number, or several as `[4,-2]`."""
    try:
        found = [int(part) for part in names(text)]
    except ValueError:
        found = []
    if not found:
        raise ValueError("must be a whole number, or several such as [4,-2]")
    return found if text.startswith("[") else found[0]


def share(value: str | float) -> float:
    """A number above 0 and below 1."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = 0.0
    if not 0 < found < 1:
        raise ValueError("must be a share above 0 and below 1, such as 0.02")
    return found


def shares(text: str) -> float | dict[str, float]:
    """One share for all, or `[a=0.1,b=0.02]`."""
    if "=" not in text:
        return share(text)
    pairs = [item.partition("=") for item in names(text)]
    found = {name.strip(): share(value) for name, _, value in pairs}
    if "" in found or len(found) < len(pairs):
        raise ValueError("must name each finding once, such as [edema=0.1,mass=0.02]")
    return found
