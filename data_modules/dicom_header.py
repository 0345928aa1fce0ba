"""Numbers and lookup tables of a DICOM header; what cannot be read is refused by the name of its element."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian

from data_modules.errors import InputError

SHOWN = 40
"""Characters of an element's value in an error text."""

SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
EVEN_SIDES = 1.01


def numbers(dataset: Dataset, keyword: str, where: str, count: int | None = None) -> list[float]:
    """Return the finite numbers of an element, none where it is absent or empty.

    `count`: how many it must hold. Then text of any VR is cut at its backslashes and a decimal comma read, since the
    count tells whether that was right; a text that is no number is refused otherwise.
    InputError names the element and what it holds.
    """
    values = list(_parts(raw(dataset, keyword), cut=count is not None))
    found = [_number(value, comma=count is not None) for value in values]
    if count is not None and len(found) != count:
        held = f"holds {shown(values)}" if values else "is absent or empty"
        raise InputError(f"{where}: {keyword} {held}; {count} number{'s' * (count > 1)} must stand there")
    if any(number is None or not np.isfinite(number) for number in found):
        raise InputError(f"{where}: {keyword} holds {shown(values)}, not finite numbers; correct or remove it")
    return [number for number in found if number is not None]


def aspect(dataset: Dataset) -> float:
    """Return the height of a pixel over its width, by the first of SPACINGS that gives both; 1 where none does.

    All of them name the vertical size first (PS3.3 10.7.1.3 and C.7.6.3.1.7). Unequal sides of 1 % are taken for equal.
    """
    for keyword in SPACINGS:
        try:
            height, width = numbers(dataset, keyword, "", 2)
        except InputError:
            continue
        if height > 0 and width > 0:
            return height / width if max(height, width) > EVEN_SIDES * min(height, width) else 1.0
    return 1.0


def whole(dataset: Dataset, keyword: str, where: str, allowed: range | tuple[int, ...]) -> int:
    """Return the one whole number of an element; InputError where it is absent or not `allowed`."""
    found = numbers(dataset, keyword, where)
    wanted = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
    if not found:
        raise InputError(f"{where}: the header has no {keyword} ({wanted}); add it or export the file again")
    # Only an int is looked up in a range; a float is compared with each of two thousand million.
    if len(found) > 1 or not float(found[0]).is_integer() or int(found[0]) not in allowed:
        raise InputError(f"{where}: {keyword} holds {shown(found)}, which must be {wanted}; correct the header")
    return int(found[0])


def shown(values: Iterable[Any]) -> str:
    """Return values as an error text may hold them, in one short line."""
    text = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    printable = "".join(char if char.isprintable() else "?" for char in text)
    return repr(printable if len(printable) <= SHOWN else printable[:SHOWN] + "..")


def raw(dataset: Dataset, keyword: str) -> Any:
    """Return what pydicom makes of an element, or its bytes where that fails; None where it is absent."""
    tag = Tag(keyword)
    if tag not in dataset:
        return None
    try:
        return dataset[tag].value
    except Exception:  # a value that its VR does not allow; pydicom promises no exception type
        return dataset.get_item(tag).value


def _parts(value: Any, cut: bool) -> Iterable[Any]:
    """Single values of what an element holds, a text cut at its backslashes or not; empty ones are left out."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        parts = (part.strip(" \0\r\n\t") for part in (value.split("\\") if cut else [value]))
        yield from (part for part in parts if part)
    elif isinstance(value, Iterable):
        for one in value:
            yield from _parts(one, cut)
    elif value is not None:
        yield value


def _number(value: Any, comma: bool) -> float | None:
    if isinstance(value, str) and comma and re.fullmatch(r"[+-]?\d*,\d+", value):
        value = value.replace(",", ".")
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Table:
    """A lookup table (PS3.3 C.11.1.1.1)."""

    entries: NDArray[np.float64]
    first: int
    """stored value of the first entry"""
    top: float
    """greatest value of its bits"""

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the entries of values, in their shape; those beyond an end take the end's."""
        least = values.min(initial=0)
        first = self.first - (1 << 16) if self.first >= 1 << 15 and least < 0 else self.first
        at = np.clip(np.rint(values).astype(np.int64) - first, 0, len(self.entries) - 1)
        return self.entries[at]


def table(dataset: Dataset, keyword: str, where: str) -> Table | None:
    """Return the first table of a LUT sequence; None where the sequence is absent or empty.

    InputError for an item without a table, or with a descriptor that contradicts it.
    """
    items = list(raw(dataset, keyword) or ())
    if not items:
        return None
    for needed in ("LUTDescriptor", "LUTData"):
        if needed not in items[0]:
            raise InputError(f"{where}: {keyword} has no {needed}; remove or complete it")
    where = f"{where}: {keyword}"
    descriptor = numbers(items[0], "LUTDescriptor", where)
    if len(descriptor) != 3 or descriptor[2] not in range(8, 17):
        raise InputError(
            f"{where}: LUTDescriptor holds {shown(descriptor)}, which must be entries, first value and 8 to 16 bits"
        )
    count = int(descriptor[0]) % (1 << 16) or 1 << 16  # PS3.3 C.11.1.1.1: 0 stands for 65536
    meta = getattr(dataset, "file_meta", {})
    entries = _entries(raw(items[0], "LUTData"), count, meta.get("TransferSyntaxUID") == ExplicitVRBigEndian)
    if len(entries) != count:
        raise InputError(f"{where}: LUTData holds {len(entries)} entries, LUTDescriptor says {count}; correct it")
    if entries.max() >= 1 << int(descriptor[2]):
        raise InputError(f"{where}: LUTData goes up to {entries.max()}, LUTDescriptor says {descriptor[2]:g} bits")
    return Table(entries.astype(np.float64), int(descriptor[1]), full_scale(float(entries.max()), int(descriptor[2])))


def _entries(value: Any, count: int, big: bool) -> NDArray[np.int64]:
    """Entries of LUTData: bytes of 8 or 16 bits, or numbers, two of 8 bits in one where they are half as many."""
    if not isinstance(value, bytes):
        words = np.array([int(number) % (1 << 16) for number in _parts(value, cut=True)], dtype=np.uint16)
        value = words.astype(">u2" if big else "<u2").tobytes()
    if len(value) in (count, count + 1):
        eight = np.frombuffer(value, np.uint8)
        if big:
            eight = eight.reshape(-1, 2)[:, ::-1].ravel()
        return eight[:count].astype(np.int64)
    return np.frombuffer(value[: len(value) // 2 * 2], ">u2" if big else "<u2").astype(np.int64)


def full_scale(greatest: float, bits: int) -> float:
    """Return the value that is white: that of `bits`, or of the fewest bits that hold `greatest`, at least 8.

    Values of 12 bits that are declared as 16 would else be nearly black.
    """
    return float((1 << max(8, min(bits, int(greatest).bit_length()))) - 1)
