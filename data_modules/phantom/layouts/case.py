"""One study of the phantom, as the writers of official layouts take it, and what several of them need."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.findings import ontology
from data_modules.labelling.labeller import Labeller
from data_modules.marks import SIZE_FILE
from data_modules.parsing import parse_json
from data_modules.pixels import read_gray


@dataclass(frozen=True)
class Case:
    """A study of one frontal radiograph, or of one CT."""

    number: int
    """from 0, over all splits"""
    split: str
    patient: int
    """from 1, over all splits"""
    view: str
    """PA or AP; empty of a CT"""
    sex: str
    """F or M"""
    age: int
    report: str
    image: Path
    """12-bit DICOM file of a radiograph, NIfTI file of a CT in HU"""
    findings: frozenset[str]
    """canonical names; empty in a normal study"""

    @cached_property
    def gray(self) -> NDArray[np.uint8]:
        """uint8 [H, W], as radz reads the DICOM file."""
        return read_gray(self.image)

    @cached_property
    def marks(self) -> dict[str, list[tuple[int, int, int, int]]]:
        """Finding -> boxes of the parts of its mask in a radiograph: left, top, right, bottom in pixels.

        Specks smaller than a tenth of the largest part are left out; findings that change the whole body have none.
        """
        from scipy.ndimage import find_objects, label

        from data_modules.phantom.truth import truth  # the renderer is slow to import

        of = parse_json((self.image.parents[1] / "phantom.json").read_text(encoding="utf-8"))["config"]
        index, count = int(self.image.stem.rpartition("-")[2]), of["studies"][self.split]
        masks = truth(self.split, index, count, of["seed"], of["image_px"], rare=of.get("rare"))
        found = {}
        for finding, mask in masks.items():
            parts, _ = label(mask)
            areas = np.bincount(parts.ravel())[1:]
            kept = (place for place, area in zip(find_objects(parts), areas, strict=True) if area * 10 >= areas.max())
            found[finding] = [(across.start, down.start, across.stop, down.stop) for down, across in kept]
        return found

    def phrases(self) -> dict[str, str]:
        """Finding with a mark -> a sentence of the report that asserts it."""
        said: dict[str, str] = {}
        if self.findings:
            for sentence, states in _labeller().by_sentence(self.report):
                for finding in self.findings & {name for name, state in states.items() if state == "present"}:
                    said.setdefault(finding, sentence.removeprefix("Impression: "))
        return {finding: said[finding] for finding in sorted(said) if finding in self.marks}

    def has(self, corpus: str, label: str) -> bool:
        """Whether a label of a corpus' own label space is present, by the exact and narrower aliases of the ontology.

        A finding makes its ancestors present; "No Finding" and the like are present where nothing is.
        """
        known = ontology()
        wanted = {name for name, relation in known.find(corpus, label).items() if relation in ("exact", "child")}
        there = set(self.findings).union(*(known.ancestors(name) for name in self.findings))
        return bool(wanted & (there or {"no_finding"}))

    def picture(self, path: Path, quality: int = 95) -> None:
        """Write the image as PNG or JPEG, by the suffix of `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.gray).save(path, quality=quality)  # PNG takes no notice of it


def write_marks_size(cases: Sequence[Case], out: Path) -> None:
    """Say what images the table of marks is of, since they are smaller than those of the release."""
    height, width = cases[0].gray.shape
    (out / SIZE_FILE).write_text(f"{width}x{height}\n", encoding="utf-8")


@cache
def _labeller() -> Labeller:
    return Labeller("chest_xray")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV (gzip by its suffix), made with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
