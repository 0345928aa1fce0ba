"""From the cells of an image column to files that a corpus may read.

A file may lie below `root` or `image_folder` (either may itself be a link), or where a link leads from there into one
of `links`. Where the rest of a path is a link that leads anywhere else, the run stops: a table from outside must not
reach files that its user did not mean.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Sequence

from data_modules.cells import stripped
from data_modules.table_store import watched

FOREIGN = re.compile(r"[A-Za-z]:[\\/]|\\\\|[a-z][a-z0-9+]+://", re.IGNORECASE)
"""A drive, a share or an address."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".nii.gz", ".nii", ".npz")


class Places:
    """The files of one corpus. `find` says where an image is, `hint` why it is not there."""

    def __init__(self, root: str, image_folder: str, links: Sequence[str], series: bool) -> None:
        """`series`: a folder is an image too."""
        self.base = os.path.join(root, image_folder).rstrip(os.sep) or os.sep
        self.root, self.series, self.image_folder = root, series, image_folder
        allowed = [root, self.base, *(os.path.expanduser(link) for link in links)]
        self._allowed = tuple(os.path.realpath(folder).rstrip(os.sep) + os.sep for folder in allowed)
        self._real = {self.base: os.path.realpath(self.base)}
        self._names: dict[str, dict[str, list[str]]] = {}

    def real(self, folder: str) -> str:
        """Its realpath, at the price of one look per folder: realpath itself looks at every part, every time."""
        if folder not in self._real:
            parent, name = os.path.split(folder)
            if parent == folder:
                return folder
            place = os.path.join(self.real(parent), name) if name not in ("", ".") else self.real(parent)
            self._real[folder] = os.path.realpath(place) if os.path.islink(place) else place
        return self._real[folder]

    def find(self, cell: str) -> tuple[str, bool, bool]:
        """Return the path of a cell, whether there is an image, and whether it may be read from there.

        Raises:
            PermissionError: a folder on the way may not be entered.
        """
        path = os.path.join(self.base, cell)
        found, allowed = self._look(path, strict=True)
        if (
            not found and "\\" in cell and FOREIGN.match(cell) is None
        ):  # a name may hold a backslash; else it is what Windows writes for /
            other = os.path.join(self.base, cell.replace("\\", "/"))
            found, allowed = self._look(other)
            path = other if found or not allowed else path
        return path, found and cell != "", allowed

    def _look(self, path: str, strict: bool = False) -> tuple[bool, bool]:
        folder, name = os.path.split(path)
        place = os.path.join(self.real(folder), name)
        try:
            mode = os.lstat(place).st_mode
            if stat.S_ISLNK(mode):
                place = os.path.realpath(place)
                mode = os.stat(place).st_mode
            there = stat.S_ISREG(mode) or (self.series and stat.S_ISDIR(mode))
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            if strict and isinstance(error, PermissionError):
                raise
            there = False
        return there, (place + os.sep).startswith(self._allowed)

    def alike(self, path: str) -> str:
        """Return the one file below the base whose path differs from `path` in case or Unicode form only, else ''."""
        place = self.base
        for part in os.path.relpath(path, self.base).replace("\\", "/").split("/"):
            if place not in self._names:
                self._names[place] = {}
                try:
                    for name in os.listdir(watched(place)):
                        self._names[place].setdefault(_form(name), []).append(name)
                except (OSError, ValueError):
                    return ""
            names = self._names[place].get(_form(part), [])
            if part in names:
                names = [part]
            if len(names) != 1:
                return ""
            place = os.path.join(place, names[0])
        there, allowed = self._look(place)
        return place if there and allowed else ""

    def hint(self, cell: str, path: str) -> str:
        """Why the image of a cell is not there, as far as it can be told without showing the cell; or ''."""
        if FOREIGN.match(cell):
            return "; a drive, share or address is not read: write the path below image_folder, with /"
        if os.path.islink(path):
            return "; it is a link to a file that is not there: has it been fetched (git annex get, dvc pull)?"
        plain = cell.replace("\\", "/")
        if self.image_folder and self._look(os.path.join(self.root, plain))[0]:
            return "; it lies there without image_folder: unset image_folder"
        for suffix in SUFFIXES:
            if self._look(f"{path}{suffix}")[0]:
                return f"; there is one of its name with {suffix}: write the whole file name"
        if self._look(os.path.join(self.base, os.path.basename(plain)))[0]:
            return "; there is one of its name in image_folder itself: leave the folders out of the column"
        if "\\" in cell:
            return "; its path has backslashes (\\), as Windows writes: use / and the folders that are here"
        return ""


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", stripped(name)).casefold()
