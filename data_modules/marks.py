"""Where findings lie in the images of a corpus: boxes and masks that readers drew, or the phantom's own geometry.

Published: boxes of NIH ChestX-ray14 (BBox_List_2017.csv, 8 findings of 880 images; Wang et al., CVPR 2017), of RSNA
(stage_2_train_labels.csv), of ChestX-Det10 and ChestX-Det, run-length masks of SIIM. Coordinates are pixels of the
published image: in a copy of another size each would lie elsewhere, so such a copy is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_modules.corpora import chestxdet, chestxray14, rsna, siim
from data_modules.corpora.csv_file import column, load
from data_modules.corpora.csv_file import rows as csv_rows
from data_modules.corpus_config import CorpusConfig, PhantomConfig
from data_modules.errors import InputError

Mask = NDArray[np.bool_]
NIH_BOXES = "BBox_List_2017.csv"
PUBLISHED = (1024, 1024)
"""(H, W) of the images of all releases with marks that are read here"""
SIZE_FILE = "marks_size.txt"
"""in the folder of a corpus whose tables of marks are of images of another size: width x height, such as 512x512"""
NIH_WORDS = {word: finding for finding, words in chestxray14.NAMES.items() for word in words}


class Marks(Protocol):
    """The marks of one corpus."""

    @property
    def cut(self) -> set[str]:
        """Places of boxes drawn so far that reach beyond their image by a pixel and more; they end at the border."""

    def marked(self, image_id: str) -> bool:
        """Whether an image, named as in `StudyTable.image_ids`, may have a mark."""

    def masks(self, image_id: str, shape: tuple[int, ...]) -> dict[str, Mask]:
        """Finding -> bool of an image of that shape; findings without a mark are left out.

        Args:
            shape: (H, W); of a volume that of `volumes.Volume.hu`, (X, Y, Z).
        """


def marks(config: CorpusConfig, key: str) -> Marks | None:
    """The marks of a corpus, `key` being its config key; None where it has none.

    Raises:
        InputError: a table of marks that does not parse.
    """
    if config.reader == "phantom":
        return PhantomMarks(config.phantom, config.modality)
    if config.modality != "chest_xray":
        return None
    tables: dict[str, Callable[[Path, str], Marks | None]] = {
        "chestxray14": _nih, "chestxdet": _chestxdet, "rsna": _rsna, "siim": _siim
    }  # fmt: skip
    read = tables.get(config.reader)
    return read(Path(config.root or "").expanduser(), f"{key}.root") if read else None


@dataclass(frozen=True)
class Box:
    """The pixels whose centres lie in a rectangle."""

    x: float
    y: float
    width: float
    height: float

    def __call__(self, shape: tuple[int, ...]) -> Mask:
        """Draw it into an image of shape (H, W)."""
        rows, columns = (np.arange(side) + 0.5 for side in shape)
        inside = (rows >= self.y) & (rows <= self.y + self.height)
        return inside[:, None] & ((columns >= self.x) & (columns <= self.x + self.width))

    def beyond(self, shape: tuple[int, ...]) -> bool:
        """Whether it reaches beyond an image by a pixel and more; boxes are rounded, and some counted from 1."""
        ends = self.y + self.height - shape[0], self.x + self.width - shape[1]
        return max(-self.x, -self.y, *ends) >= 1


Draw = Callable[[tuple[int, ...]], Mask | None]
_Rows = dict[str, list[tuple[str, str, Draw]]]


@dataclass(frozen=True)
class Drawn:
    """Marks by the stem of the image's file name.

    `rows`: stem -> (finding, table and row, how to draw it into an image of shape (H, W)).
    """

    rows: Mapping[str, Sequence[tuple[str, str, Draw]]]
    size: tuple[int, int] = PUBLISHED
    """(H, W) of the images that they were drawn in"""
    cut: set[str] = field(default_factory=set)

    def marked(self, image_id: str) -> bool:
        """See `Marks`."""
        return stem(image_id) in self.rows

    def masks(self, image_id: str, shape: tuple[int, ...]) -> dict[str, Mask]:
        """See `Marks`; marks of one finding are united.

        Raises:
            InputError: an image of another size than the marks are of, or a mark outside of it.
        """
        found: dict[str, Mask] = {}
        for finding, place, draw in self.rows.get(stem(image_id), ()):
            if shape != self.size:
                raise InputError(
                    f"{place}: its image is {shape[1]} x {shape[0]} pixels, and the marks are of images of "
                    f"{self.size[1]} x {self.size[0]}; give the images in their published size, or, if you scaled the "
                    f"table too, the size in {SIZE_FILE} in the folder of the corpus"
                )
            mask = draw(shape)
            if mask is None or not mask.any():
                raise InputError(
                    f"{place}: the mark does not lie in its image of {shape[1]} x {shape[0]} pixels; correct the row"
                )
            if isinstance(draw, Box) and draw.beyond(shape):
                self.cut.add(place)
            found[finding] = found[finding] | mask if finding in found else mask
        return found


@dataclass(frozen=True)
class PhantomMarks:
    """The phantom's geometry; see `data_modules.phantom.truth`."""

    config: PhantomConfig
    modality: str = "chest_xray"
    cut: set[str] = field(default_factory=set)

    def marked(self, image_id: str) -> bool:
        """See `Marks`."""
        return True

    def masks(self, image_id: str, shape: tuple[int, ...]) -> dict[str, Mask]:
        """See `Marks`."""
        from data_modules.phantom.truth import truth  # the renderer is slow to import

        split, _, index = stem(image_id).rpartition("-")
        count, of = getattr(self.config.studies, split), self.config
        return truth(split, int(index), count, of.seed, shape[0], self.modality, of.rare)


def runs(pairs: Sequence[int]) -> Callable[[tuple[int, ...]], Mask | None]:
    """Drawer of gap, run, gap, run .. down the columns, each gap from the end of the run before (SIIM's form)."""

    def draw(shape: tuple[int, ...]) -> Mask | None:
        flat = np.zeros(shape[0] * shape[1], dtype=bool)
        ends = np.cumsum(pairs)
        if ends[-1] > len(flat):
            return None
        for start, end in zip(ends[::2], ends[1::2], strict=True):
            flat[start:end] = True
        return flat.reshape(shape[1], shape[0]).T

    return draw


def _nih(root: Path, key: str) -> Marks | None:
    path = root / NIH_BOXES
    if not path.is_file():
        return None
    rows: _Rows = {}
    header, *table = csv_rows(path, key)
    if [name.casefold() for name in header[:2]] != ["image index", "finding label"]:
        raise InputError(f"{path}: its first two columns must be 'Image Index' and 'Finding Label' ({key})")
    words = {word.casefold(): finding for word, finding in NIH_WORDS.items()}
    for row, (name, word, *cells) in ((n, [*cells, "", ""]) for n, cells in enumerate(table, start=2) if any(cells)):
        if word.casefold() not in words:
            raise InputError(f"{path} row {row}: 'Finding Label' holds a word that is no NIH label; correct the row")
        # The published header has three cells more than its rows; a spreadsheet adds blank ones, or quotes the four.
        numbers = [part for cell in cells for part in cell.strip("[]").split(",") if part.strip()]
        draw = Box(*_numbers(numbers, path, row))
        rows.setdefault(stem(name), []).append((words[word.casefold()], f"{path} row {row}", draw))
    return Drawn(rows, _size(root))


def _rsna(root: Path, key: str) -> Marks | None:
    path = root / "stage_2_train_labels.csv"
    frame = load(path, key)
    cells = np.stack([column(frame, name, path, key) for name in ("x", "y", "width", "height")], axis=1)
    rows: _Rows = {}
    for row, name, four in zip(frame.index, column(frame, rsna.IMAGE, path, key), cells, strict=True):
        if any(four):
            draw = Box(*_numbers(list(four), path, row))
            rows.setdefault(name, []).extend(
                (finding, f"{path} row {row}", draw) for finding in ("pneumonia", "lung_opacity")
            )
    return Drawn(rows, _size(root))


def _chestxdet(root: Path, key: str) -> Marks:
    release = chestxdet.of(root, key.removesuffix(".root"))
    findings = {word: finding for finding, words in release.labels.items() for word in words}
    rows: _Rows = {}
    for file in release.lists.values():
        for entry in chestxdet.entries(root / file, release, key):
            for word, (left, top, right, bottom) in zip(entry.classes, entry.boxes, strict=True):
                sides = _numbers([str(n) for n in (left, top, right - left, bottom - top)], root / file, entry.row)
                rows.setdefault(stem(entry.name), []).append(
                    (findings[word], f"{root / file} row {entry.row}", Box(*sides))
                )
    return Drawn(rows, _size(root))


def _siim(root: Path, key: str) -> Marks | None:
    frame, path = siim.LAYOUT.load(root, key.removesuffix(".root"), *siim.TABLES)
    rows: _Rows = {}
    cells = (column(frame, name, path, key) for name in ("ImageId", "EncodedPixels"))
    for row, name, text in zip(frame.index, *cells, strict=True):
        if re.fullmatch(siim.MASK, text):
            rows.setdefault(name, []).append(
                ("pneumothorax", f"{path} row {row}", runs([int(n) for n in text.split()]))
            )
    return Drawn(rows, _size(root))


def _size(root: Path) -> tuple[int, int]:
    """(H, W) of the images that the marks of a folder are of."""
    path = root / SIZE_FILE
    if not path.is_file():
        return PUBLISHED
    words = re.fullmatch(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*", path.read_text(encoding="utf-8-sig", errors="replace"))
    if not words:
        raise InputError(f"{path}: must hold width x height in pixels, such as 512x512, and nothing else")
    return int(words[2]), int(words[1])


def _numbers(cells: Sequence[str], path: Path, row: int) -> list[float]:
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not np.isfinite(numbers).all() or min(numbers[2:]) <= 0:
        raise InputError(f"{path} row {row}: a box needs x, y and a width and height above 0; correct the row")
    return numbers


def stem(image_id: str) -> str:
    """A file name without folder and suffix; the ids of SIIM hold dots."""
    return re.sub(r"\.(png|dcm|jpe?g|nii\.gz)$", "", image_id.rpartition("/")[2])
