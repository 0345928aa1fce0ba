"""The files below a folder that a user names: links are followed, and what is passed over is counted."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from data_modules.errors import InputError

SYSTEM_NAMES = frozenset((".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".localized", "dicomdir"))
"""In small letters: what macOS and Windows leave in folders, and the table of contents of a DICOM medium."""
SYSTEM_FOLDER = "__macosx"


@dataclass
class Found:
    """What lies below a folder."""

    files: list[Path] = field(default_factory=list)
    """in the order of their paths"""
    faults: dict[Path, str] = field(default_factory=dict)
    """folder that cannot be listed, file that may not be looked at, or link that leads nowhere -> why, in one line with
    the path"""
    system: int = 0
    """files of an operating system's own"""
    example: str = ""
    """the name of one of them"""
    again: int = 0
    """folders met a second time through a link"""


def is_system(path: Path) -> bool:
    """Return whether a file is an operating system's own: no image, whatever its suffix (macOS' `._IM0001.dcm`)."""
    return path.name.startswith("._") or path.name.lower() in SYSTEM_NAMES


def listed(folder: Path, pattern: str, look: Callable[[Path], Path] = lambda place: place) -> list[Path]:
    """Return ``folder.glob(pattern)`` in the order of paths; a pattern has no ``**``. `look` is called for each folder.

    Raises:
        InputError: one of the folders cannot be listed, which ``glob`` takes for an empty one. It is not named where it
            lies below `folder`, since its name may tell a patient.
    """
    places = [folder]
    for part in pattern.split("/"):
        try:
            places = [found for place in places for found in _matching(look(place), part)]
        except OSError as error:
            raise InputError(
                f"{folder}: this folder or one below it cannot be listed ({error.strerror}); see to its rights"
            ) from None
    return sorted(places)


def _matching(place: Path, part: str) -> list[Path]:
    try:
        if re.search(r"[*?\[]", part) is None:
            (place / part).lstat()
            return [place / part]
        return [place / name for name in os.listdir(place) if fnmatchcase(name, part)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def files_below(folder: Path) -> Found:
    """Return all regular files below `folder`, those of linked folders under the link's name, each folder once."""
    found, seen = Found(), set()

    def refuse(error: OSError) -> None:
        place = Path(error.filename)
        found.faults[place] = f"{place}: the folder cannot be listed ({error.strerror})"

    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(place)
        known = os.stat(here).st_dev, os.stat(here).st_ino
        if known in seen:
            found.again += 1
            folders.clear()
            continue
        seen.add(known)
        if SYSTEM_FOLDER in (part.lower() for part in here.relative_to(folder).parts):
            _system(found, names)
            continue
        folders.sort(key=lambda name: (os.path.islink(here / name), name))  # links last
        _system(found, [name for name in names if is_system(here / name)])
        for path in (here / name for name in names if not is_system(here / name)):
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    found.files.append(path)
            except OSError as error:
                why = "cannot be opened" if isinstance(error, PermissionError) else "is a link that leads nowhere"
                found.faults[path] = f"{path}: {why} ({error.strerror})"
    found.files.sort()
    return found


def _system(found: Found, names: Iterable[str]) -> None:
    for name in names:
        found.system += 1
        found.example = found.example or name
