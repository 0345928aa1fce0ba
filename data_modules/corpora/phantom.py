"""The reader of the procedural chest: writes the phantom once per recipe, then reads it as an ordinary table."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from data_modules.corpora import table
from data_modules.corpus_config import FROM_REPORT, Columns, CorpusConfig, LabelRule, PhantomConfig
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.lock import locked
from data_modules.study import StudyTable

TABLE = "studies.csv"
FIXED = ("image", "study", "patient", "split", "view", "sex", "age", "report")
"""Columns that are no finding."""
_NAMES = {"chest_xray": "phantom", "chest_ct": "phantom_ct"}


def read(
    config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str = "data.corpora.0"
) -> StudyTable:
    """Return the phantom's studies, written below ``cache_dir/phantom`` on first use.

    The CTs of a seed are of the same studies as its radiographs. Findings are the columns of the table; those that
    occur in no training study are columns like any other.
    InputError for settings of the table reader that the phantom does not take.
    """
    config.check(key)
    of_table = ("root", "csv", "split_csv", "keep", "findings", "image_folder")
    for field in (*of_table, *(["labels"] if set(config.labels) - {FROM_REPORT} else [])):
        if getattr(config, field):
            raise InputError(f"{key}.{field}: belongs to the table reader; the phantom takes {key}.phantom.*")
    folder = written(config.phantom, cache_dir, config.modality)
    header = list(pd.read_csv(folder / TABLE, nrows=0).columns)
    coding = {1: "present", 0: "absent"}
    own = replace(
        config,
        name=config.name or _NAMES[config.modality],
        root=str(folder),
        # Radiographs and CTs of a seed are of the same people, those of two seeds are not.
        patients=config.patients or ("phantom" if config.phantom.seed == 0 else f"phantom {config.phantom.seed}"),
        csv=TABLE,
        columns=Columns(**{name: name for name in FIXED}),
        labels={
            name: LabelRule(from_report="rules") if config.labels else LabelRule(name, numeric=dict(coding))
            for name in header
            if name not in FIXED
        },
    )
    return table.read(own, ontology, salt, key)


def written(config: PhantomConfig, cache_dir: Path, modality: str = "chest_xray") -> Path:
    """Return the folder of this phantom, written when missing.

    The folder is named by the recipe and by the generator's source: a changed generator never meets an old phantom.
    Only what shapes the pictures of the `modality` is part of the recipe: image_px of a radiograph, voxels of a CT.
    """
    # Imported here: reading a table must not cost the start-up time of the renderer.
    from data_modules.phantom.write import write_phantom

    source = _source(resources.files("data_modules.phantom"))
    studies, side = asdict(config.studies), config.voxels if modality == "chest_ct" else config.image_px
    rare = [dict(sorted(config.rare.items()))] if config.rare else []
    recipe = json.dumps([modality, studies, side, config.seed, source, *rare]).encode()
    folder = cache_dir / "phantom" / hashlib.blake2b(recipe, digest_size=8).hexdigest()
    # One that is there may lie where nothing can be written, a lock included.
    there = (folder / "phantom.json").is_file()
    with nullcontext() if there else locked(folder.with_suffix(".lock")):
        write_phantom(
            folder,
            studies=studies,
            image_px=config.image_px,
            voxels=config.voxels,
            seed=config.seed,
            modality=modality,
            rare=config.rare,
        )
    return folder


def _source(package: Traversable) -> str:
    files = sorted((f for f in package.iterdir() if f.name.endswith((".py", ".yaml"))), key=lambda f: f.name)
    hasher = hashlib.blake2b(digest_size=8)
    for file in files:
        hasher.update(file.name.encode() + b"\0" + file.read_bytes())
    return hasher.hexdigest()
