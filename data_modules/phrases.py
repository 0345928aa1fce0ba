"""Phrases of reports with the boxes that radiologists drew for them: MS-CXR and PadChest-GR, on the user's own copy.

MS-CXR (Boecking et al., ECCV 2022, arXiv 2204.09817; PhysioNet): images of MIMIC-CXR, as a CSV with one box per row
(dicom_id, category_name, label_text, x, y, w, h, image_width, image_height), or the same in COCO's JSON (images,
annotations with bbox and label_text, categories). Boxes are pixels of the published image. The column `split` of 1.1.0
is not read: the corpus has its own. Columns and fields: public readers of the list, among them a converter from that
JSON to that CSV.

PadChest-GR (Castro et al., arXiv 2411.05085; BIMCV): images of PadChest, as a JSON list of studies with `ImageID` and
`findings`, each with `sentence_en`, `labels` and `boxes` of left, top, right and bottom as shares of the image. Its
`extra_boxes`, which a public reader calls a second reader's, and `locations` are not read. Fields: public readers of
grounded_reports_20240819.json. Neither list itself could be read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_modules import marks
from data_modules.cells import number
from data_modules.corpora.csv_file import column, load
from data_modules.errors import InputError
from data_modules.marks import Mask, stem
from data_modules.parsing import parse_json

SLACK = 0.01
"""of a side, by which a box may reach beyond its image: it is cut there"""
TABLES = ("images", "annotations", "categories")
NUMBERS = ("x", "y", "w", "h", "image_width", "image_height")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Phrase:
    """A sentence on one image, and where in the image it is seen."""

    image: str
    """name of the image file without folder and suffix"""
    category: str
    """finding that the list files it under; several are joined by commas"""
    text: str
    boxes: tuple[Box, ...]
    """left, top, right, bottom as shares of the image's width and height; at least one"""
    size: tuple[int, int] | None
    """(H, W) of the image that the boxes were drawn in; None where the list does not say"""
    place: str
    """file and row, for error texts"""

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """The union of the boxes, bool [H, W] of an image of that shape.

        Raises:
            InputError: an image of another size than the list's, or a box too small to hold the middle of a pixel.
        """
        height, width = shape
        if self.size not in (None, (height, width)):
            raise InputError(
                f"{self.place}: its image is {width} x {height} pixels here and {self.size[1]} x {self.size[0]} in the "
                "list; give the images in their published size"
            )
        found = np.zeros((height, width), dtype=bool)
        for left, top, right, bottom in self.boxes:
            drawn = marks.Box(left * width, top * height, (right - left) * width, (bottom - top) * height)
            found |= drawn((height, width))
        if not found.any():
            raise InputError(f"{self.place}: its boxes hold no pixel of an image of {width} x {height}")
        return found


def read_phrases(path: Path, key: str) -> tuple[list[Phrase], int]:
    """The phrases of a list with at least one box, and how many sentences it has without any.

    Rows of one image, category and text are one phrase. `key` is the config key of the path.

    Raises:
        InputError: no such file, another form, a box that is none or does not lie in its image.
    """
    if not path.is_file():
        raise InputError(f"{key}={path}: no such file; give your copy of the list of MS-CXR or PadChest-GR")
    if path.suffix.casefold() != ".json":
        found = list(_table(path, key))
    else:
        content = _json(path, key)
        if isinstance(content, dict) and all(isinstance(content.get(name), list) for name in TABLES):
            found = list(_coco(content, path))
        elif isinstance(content, list) and content:
            found = list(_grounded(content, path))
        else:
            raise InputError(
                f"{path}: is neither MS-CXR (images, annotations, categories) nor PadChest-GR (a list of studies); "
                f"take the published file ({key})"
            )
    with_boxes = list(_joined(phrase for phrase in found if phrase.boxes))
    if not with_boxes:
        raise InputError(f"{path}: holds no phrase with a box; take the published file ({key})")
    return with_boxes, sum(not phrase.boxes for phrase in found)


def _joined(phrases: Iterable[Phrase]) -> Iterator[Phrase]:
    """Phrases with the boxes of all rows of the same image, category and text."""
    found: dict[tuple[str, str, str], Phrase] = {}
    for phrase in phrases:
        same = (phrase.image, phrase.category, phrase.text)
        before = found.get(same)
        if before is not None and before.size != phrase.size:
            raise InputError(f"{phrase.place}: its image has another size than in {before.place}; correct one of them")
        found[same] = phrase if before is None else replace(before, boxes=before.boxes + phrase.boxes)
    yield from found.values()


def _table(path: Path, key: str) -> Iterator[Phrase]:
    frame = load(path, key)
    names = column(frame, "dicom_id", path, key)
    words = [column(frame, name, path, key) for name in ("category_name", "label_text")]
    cells = np.stack([column(frame, name, path, key) for name in NUMBERS], axis=1)
    for row, name, category, text, six in zip(frame.index, names, *words, cells, strict=True):
        place = f"{path} row {row}"
        yield _phrase(place, name, category, text, [number(cell) for cell in six])


def _coco(content: dict[str, Any], path: Path) -> Iterator[Phrase]:
    try:
        images = {one["id"]: (one["file_name"], one["width"], one["height"]) for one in content["images"]}
        categories = {one["id"]: one["name"] for one in content["categories"]}
    except (TypeError, KeyError):
        raise InputError(
            f"{path}: an entry of images needs id, file_name, width and height, one of categories id and name; take "
            "the published file"
        ) from None
    for row, one in enumerate(content["annotations"], start=1):
        place = f"{path} annotation {row}"
        try:
            name, width, height = images[one["image_id"]]
            category, text, four = categories[one["category_id"]], one["label_text"], list(one["bbox"])
        except (TypeError, KeyError):
            raise InputError(
                f"{place}: needs image_id and category_id of the file, label_text and bbox; take the published file"
            ) from None
        yield _phrase(place, name, category, text, [*four, width, height])


def _phrase(place: str, name: Any, category: Any, text: Any, six: Sequence[Any]) -> Phrase:
    """A phrase of MS-CXR with its one box, `six` being NUMBERS."""
    if len(six) != 6 or not all(map(_is_number, six)) or min(six[2:]) <= 0:
        raise InputError(
            f"{place}: a box needs the numbers x, y, and w, h, image_width and image_height above 0; correct the entry"
        )
    x, y, w, h, width, height = six
    corners = (x / width, y / height, (x + w) / width, (y + h) / height)
    size = int(height), int(width)
    return Phrase(stem(_words(name, place)), _words(category, place), _words(text, place), (_in(corners, place),),
                  size, place)  # fmt: skip


def _grounded(content: list[Any], path: Path) -> Iterator[Phrase]:
    for row, study in enumerate(content, start=1):
        place = f"{path} study {row}"
        try:
            name, findings = study["ImageID"], list(study["findings"])
            entries = [(one.get("sentence_en"), one.get("labels") or [], one.get("boxes") or []) for one in findings]
        except (TypeError, KeyError, AttributeError):
            raise InputError(
                f"{place}: needs ImageID and findings, each with sentence_en, labels and boxes; take the published file"
            ) from None
        for text, labels, boxes in entries:
            if not boxes:
                yield Phrase(stem(_words(name, place)), "", "", (), None, place)
                continue
            if not isinstance(labels, list) or not isinstance(boxes, list):
                raise InputError(f"{place}: labels and boxes must be lists; take the published file")
            category = ", ".join(dict.fromkeys(_words(label, place).casefold() for label in labels)) or "other"
            drawn = tuple(_in(corners, place) for corners in boxes)
            yield Phrase(stem(_words(name, place)), category, _words(text, place), drawn, None, place)


def _in(corners: Any, place: str) -> Box:
    """A box of shares, cut at the border of its image; InputError for one that is none or lies beyond it."""
    if not isinstance(corners, list | tuple) or len(corners) != 4 or not all(map(_is_number, corners)):
        raise InputError(f"{place}: a box needs four numbers, left, top, right and bottom; correct the entry")
    left, top, right, bottom = (min(1.0, max(0.0, float(one))) for one in corners)
    if not left < right or not top < bottom or min(corners) < -SLACK or max(corners) > 1 + SLACK:
        raise InputError(f"{place}: its box does not lie in its image; correct the entry, or take it out of your copy")
    return left, top, right, bottom


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _words(value: Any, place: str) -> str:
    """A text in one line; InputError for another thing or nothing."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: the name of the image, the finding and the phrase must be texts; correct the entry")
    return " ".join(value.split())


def _json(path: Path, key: str) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: is no JSON that can be read ({error}); download it again ({key})") from error
