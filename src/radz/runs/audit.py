"""`radz data check` and `radz data cache`: the data of an experiment, looked at and decoded before any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules import audit, privacy
from data_modules.counting import counted
from data_modules.files import write_json
from data_modules.labelling import agreement
from data_modules.thumbnails import thumbnails
from radz.config.files import run_folder
from radz.config.schema import Experiment
from radz.methods import dkam, registry
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
        told.append(f"{name}: {counted(images, 'image')}, store {folder} {size:.1f} MiB")
    return told


def check(experiment: Experiment, images: int | None) -> list[str]:
    """Audit the data; audit.json, thumbnails and label_conflicts.csv go to `audit` of the run folder, the sentences of
    conflicts to `audit/private`. Lines to print.

    `images`: studies of each corpus and split whose images are looked at, drawn by the seed; None looks at all.
    """
    folder = run_folder(experiment) / "audit"
    with working_in(folder, "run_dir"):
        found, told = _checked(experiment, images, folder)
    return [*audit.lines(found), *told, f"written: {folder}"]


def _checked(experiment: Experiment, images: int | None, folder: Path) -> tuple[dict[str, Any], list[str]]:
    data = task.data_module(replace(experiment, data=audit.lenient(experiment.data)), sample=images)
    data.prepare_data()
    both, conflicts = agreement.compare(data.table, data.config, privacy.salt(data.cache_dir))
    found = {**audit.audit(data), "labels_and_reports": both}
    write_json(folder / "audit.json", found)
    if both:
        agreement.write_conflicts(conflicts, folder, folder / "private")
    thumbnails(data, folder, experiment.seed)
    told = agreement.lines(both, conflicts)
    if registry.has_anchors(experiment.method) and (lost := dkam.undescribed(experiment.dkam, data)):
        told.append(dkam.told_of_undescribed(experiment.dkam, sorted(lost)))
    return found, told
