"""`radz data check` and `radz data cache`: the data of an experiment, looked at and decoded before any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules import audit
from data_modules.files import write_json
from data_modules.thumbnails import thumbnails
from radz.config.files import run_folder
from radz.config.schema import Experiment
from radz.runs import task
from radz.training.run_folder import working_in

SAMPLE = 100
"""Studies of each corpus and split whose images an audit looks at, unless the command says otherwise."""


def cache(experiment: Experiment) -> list[str]:
    """Read the table and build the pixel cache; lines to print."""
    data = task.data_module(experiment)
    data.prepare_data()  # not setup: a corpus to be tested on needs no training split
    table, told = data.table, []
    for number, (name, folder) in enumerate(zip(table.corpora, data.cache.folders, strict=True)):
        images = int(data.cache.slices[table.corpus[table.image_study] == number].sum())
        size = (folder / "pixels.u8").stat().st_size / 2**20
        told.append(f"{name}: {images} images, store {folder} {size:.1f} MiB")
    return told


def check(experiment: Experiment, images: int | None) -> list[str]:
    """Audit the data; audit.json, thumbnails.png and thumbnails.csv go to `audit` of the run folder. Lines to print.

    `images`: studies of each corpus and split whose images are looked at, drawn by the seed; None looks at all.
    """
    folder = run_folder(experiment) / "audit"
    with working_in(folder, "run_dir"):
        found = _checked(experiment, images, folder)
    return [*audit.lines(found), f"written: {folder}"]


def _checked(experiment: Experiment, images: int | None, folder: Path) -> dict[str, Any]:
    data = task.data_module(replace(experiment, data=audit.lenient(experiment.data)), sample=images)
    data.prepare_data()
    found = audit.audit(data)
    write_json(folder / "audit.json", found)
    thumbnails(data, folder, experiment.seed)
    return found
