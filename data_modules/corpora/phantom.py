"""The reader of the procedural chest: writes the phantom once per recipe, then reads it as an ordinary table."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from data_modules.corpora import table
from data_modules.corpus_config import Columns, CorpusConfig, LabelRule, PhantomConfig
from data_modules.errors import InputError
from data_modules.findings import Ontology
from data_modules.lock import locked
from data_modules.study import StudyTable

log = logging.getLogger(__name__)

TABLE = "studies.csv"
FIXED = ("image", "study", "patient", "split", "view", "sex", "age", "report")
"""Columns that are no finding."""


def read(
    config: CorpusConfig, ontology: Ontology, salt: bytes, cache_dir: Path, key: str = "data.corpora.0"
) -> StudyTable:
    """Return the phantom's studies, written below ``cache_dir/phantom`` on first use.

    Its findings are the columns of its table; those that occur in no training study are columns like any other.
    InputError for settings of the table reader that the phantom does not take.
    """
    config.check(key)
    for field in ("root", "csv", "split_csv", "keep", "labels", "findings", "image_folder"):
        if getattr(config, field):
            raise InputError(f"{key}.{field}: belongs to the table reader; the phantom takes {key}.phantom.*")
    folder = written(config.phantom, cache_dir)
    header = list(pd.read_csv(folder / TABLE, nrows=0).columns)
    coding = {1: "present", 0: "absent"}
    own = replace(
        config,
        name=config.name or "phantom",
        root=str(folder),
        csv=TABLE,
        columns=Columns(**{name: name for name in FIXED}),
        labels={name: LabelRule(name, numeric=dict(coding)) for name in header if name not in FIXED},
    )
    return table.read(own, ontology, salt, key)


def written(config: PhantomConfig, cache_dir: Path) -> Path:
    """Return the folder of this phantom, written when missing.

    The folder is named by the recipe and by the generator's source: a changed generator never meets an old phantom.
    """
    # Imported here: reading a table must not cost the start-up time of the renderer.
    from data_modules.phantom.write import write_phantom

    recipe = json.dumps([asdict(config), _source(resources.files("data_modules.phantom"))]).encode()
    folder = cache_dir / "phantom" / hashlib.blake2b(recipe, digest_size=8).hexdigest()
    with locked(folder.with_suffix(".lock")):
        digest = write_phantom(folder, studies=asdict(config.studies), image_px=config.image_px, seed=config.seed)
    log.info("phantom %s, digest %s", folder, digest)
    return folder


def _source(package: Traversable) -> str:
    files = sorted((f for f in package.iterdir() if f.name.endswith((".py", ".yaml"))), key=lambda f: f.name)
    hasher = hashlib.blake2b(digest_size=8)
    for file in files:
        hasher.update(file.name.encode() + b"\0" + file.read_bytes())
    return hasher.hexdigest()
