"""The folder of a run: where it lies, whose it is, and what of it may be replaced."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules.errors import InputError
from data_modules.files import LOCK, alone_in, check_there, read_json, replacing
from radz.config.dkam import DkamConfig
from radz.config.files import find_resource, load_experiment
from radz.config.schema import Experiment
from radz.distributed import is_main_process

log = logging.getLogger(__name__)

DESCRIPTIONS, SOURCES = "descriptions.yaml", "sources"
"""copies of what `dkam.descriptions` and `dkam.sources` name, which may change after training"""
WRITTEN = {
    "config.yaml", "environment.json", "label_mapping.csv", DESCRIPTIONS, SOURCES, "anchors", "checkpoints",
    "metrics.csv", "metrics.json", "predictions", "private", "figures", "report.html", "eval", "wandb", "audit",
    "profile", "evidence", "compare", "scope.safetensors", LOCK,
}  # fmt: skip
"""All that radz writes into a run folder, but for drafts (`.<name>.<process>.part`)."""


def load_run(folder: Path) -> Experiment:
    """The resolved experiment of a run folder, which reads the descriptions that are kept there."""
    check_there(folder)
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: not a run folder (no config.yaml)")
    experiment = load_experiment(str(folder / "config.yaml"))
    experiment.dkam = with_kept(experiment.dkam, folder)
    return experiment


def keep_descriptions(config: DkamConfig, file: Path, folder: Path) -> None:
    """Copy the descriptions, which stand in `file`, and further sources into the folder of a run or an export."""
    sources = [find_resource(name, f"dkam.sources.{number}") for number, name in enumerate(config.sources)]
    places = [folder / DESCRIPTIONS, *_sources(config, folder)]
    for place, source in zip(places, [file, *sources], strict=True):
        if not place.is_file():
            place.parent.mkdir(exist_ok=True)
            with replacing(place) as draft:
                shutil.copyfile(source, draft)


def with_kept(config: DkamConfig, folder: Path) -> DkamConfig:
    """The settings with the copies of `keep_descriptions` in place of the files they are of; an earlier radz kept none.

    Descriptions that the backbone wrote have no other file.
    """
    kept = folder / DESCRIPTIONS
    sources = [
        str(place) if place.is_file() else name
        for place, name in zip(_sources(config, folder), config.sources, strict=True)
    ]
    own = str(kept) if kept.is_file() and not config.write else config.descriptions
    return replace(config, descriptions=own, sources=sources)


def _sources(config: DkamConfig, folder: Path) -> list[Path]:
    return [folder / SOURCES / f"{number}.yaml" for number in range(len(config.sources))]


@contextmanager
def working_in(folder: Path, key: str) -> Iterator[None]:
    """`alone_in` for commands of several processes: rank 0 speaks for all."""
    with alone_in(folder, key) if is_main_process() else nullcontext():
        yield


def check_empty(run_dir: Path) -> None:
    """InputError when a folder that is to become a run folder holds something else than the audit of its data."""
    if run_dir.is_dir() and any(entry.name not in ("audit", LOCK) for entry in run_dir.iterdir()):
        raise InputError(f"run_dir: {run_dir} is not empty and not a run folder; choose another")


def clear(run_dir: Path) -> None:
    """Delete what radz wrote into a run folder.

    Raises:
        InputError: its config.yaml is no experiment, or something lies there that radz did not write; nothing is
            deleted then.
    """
    try:
        load_run(run_dir)
    except InputError as error:
        raise InputError(
            f"overwrite: {run_dir} is not a run folder of radz ({error}); choose another run_dir"
        ) from None
    entries = sorted(run_dir.iterdir())
    foreign = [entry.name for entry in entries if entry.name not in WRITTEN and not _is_draft(entry.name)]
    if foreign:
        raise InputError(
            f"overwrite: {run_dir} holds {foreign[0]}, which radz did not write ({len(foreign)} such entries); "
            "move it away or choose another run_dir"
        )
    log.info("overwrite=true: %s starts anew", run_dir)
    for entry in entries:
        if entry.name == LOCK:  # ours
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def read_environment(run_dir: Path) -> dict[str, Any]:
    """environment.json of a run folder; {} without one."""
    return read_json(run_dir / "environment.json", "delete it and repeat the train command") or {}


def _is_draft(name: str) -> bool:
    return name.startswith(".") and (name.endswith(".part") or name.startswith(".anchors."))
