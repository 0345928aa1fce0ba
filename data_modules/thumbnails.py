"""A page of small images of each split, to see at a glance what the pixel cache holds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_modules import privacy
from data_modules.audit import named
from data_modules.corpus_config import SPLITS
from data_modules.counting import counted
from data_modules.datamodule import StudyDataModule
from data_modules.files import replacing

COLUMNS, LINES = 8, 4
"""Of the images of one split."""
SIDE, BAND = 96, 20
"""Pixels: side of a small image, height of the text above each split."""
FIELDS = ("split", "line", "column", "corpus", "row", "image")


def thumbnails(data: StudyDataModule, folder: Path, seed: int) -> None:
    """Write thumbnails.png, up to COLUMNS x LINES images of each split drawn by `seed`, and whose they are as CSV.

    Both files are for their owner alone (0600): the images are those of patients.
    """
    height, salt = BAND + LINES * SIDE, privacy.salt(data.cache_dir)
    page = Image.new("L", (COLUMNS * SIDE, len(SPLITS) * height), 255)
    cells: list[dict[str, Any]] = []
    for number, split in enumerate(SPLITS):
        images = data.pictures.image_indices(data.pictures.rows(split))
        rng = np.random.default_rng([seed, number])
        chosen = np.sort(rng.choice(images, min(len(images), COLUMNS * LINES), replace=False))
        text = f"{split}: {len(chosen)} of {counted(len(images), 'image')}"
        ImageDraw.Draw(page).text((4, number * height + 4), text, fill=0)
        for place, image in enumerate(chosen.tolist()):
            line, column = divmod(place, COLUMNS)
            small = Image.fromarray(data.cache.picture(image)).resize((SIDE, SIDE))
            page.paste(small, (column * SIDE, number * height + BAND + line * SIDE))
            cells.append({**named(data, image, salt), "line": line + 1, "column": column + 1})
    with replacing(folder / "thumbnails.png") as draft:
        privacy.private_file(draft)
        page.save(draft, format="PNG")
    with replacing(folder / "thumbnails.csv") as draft:
        privacy.private_file(draft)
        with draft.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(cells)
