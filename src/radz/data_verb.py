"""`radz data check` and `radz data cache`: the data of an experiment, looked at and decoded before any training."""

from __future__ import annotations

from dataclasses import replace

from data_modules import audit
from data_modules.thumbnails import thumbnails
from radz import build
from radz.config import Experiment
from radz.run_folder import make_folder, run_folder, write_json

SAMPLE = 100
"""Studies of each corpus and split whose images an audit looks at, unless the command says otherwise."""


def cache(experiment: Experiment) -> list[str]:
    """Read the table and build the pixel cache; lines to print."""
    data = build.data_module(experiment)
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
    make_folder(folder, "run_dir")
    data = build.data_module(replace(experiment, data=audit.lenient(experiment.data)), sample=images)
    data.prepare_data()
    found = audit.audit(data)
    write_json(folder / "audit.json", found)
    thumbnails(data, folder, experiment.seed)
    return [*audit.lines(found), f"written: {folder}"]
