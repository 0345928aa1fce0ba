"""ChestX-Det10: two lists in JSON and images under numbers of their own.

Traps: a class twice in one entry, each with its box, entries without any, entries not in the order of the numbers, one
folder more below one split than below the other, findings outside the ten, no patient, no validation list.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from data_modules.phantom.layouts.case import Case, write_marks_size

LABELS = (
    "Atelectasis", "Calcification", "Consolidation", "Effusion", "Emphysema", "Fibrosis", "Fracture", "Mass", "Nodule",
    "Pneumothorax",
)  # fmt: skip
FOLDERS = {"train": "train_data", "test": "test_data/test"}


def write(cases: list[Case], out: Path) -> None:
    """Write every study as one image; those of the validation split are training images, as none is published."""
    lists: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
    for case in cases:
        split = "test" if case.split == "test" else "train"
        name = f"{36_000 + case.number * 7919 % 9973}.png"
        case.picture(out / FOLDERS[split] / name)
        found = [label for label in LABELS if case.has("chestxdet", label) for _ in range(1 + case.number % 2)]
        lists[split].append({"file_name": name, "syms": found, "boxes": [_box(case, n) for n in range(len(found))]})
    for split, entries in lists.items():
        (out / f"{split}.json").write_text(json.dumps(entries[::-1]), encoding="utf-8")
    write_marks_size(cases, out)


def _box(case: Case, number: int) -> list[int]:
    """Left, top, right, bottom of a box at a place of its own, not where the finding is."""
    height, width = case.gray.shape
    generator = np.random.default_rng([case.number, number])
    left, top = (int(generator.integers(1, side // 2)) for side in (width, height))
    return [left, top, left + width // 4, top + height // 3]
