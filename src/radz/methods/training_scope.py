"""What a run was trained on, kept beside its weights: looks and views, against which later studies are held."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.datamodule import StudyDataModule
from data_modules.dicom_words import VIEWS, view_kind
from data_modules.disk import check_opens
from data_modules.errors import InputError
from data_modules.files import replacing
from data_modules.parsing import parse_json
from data_modules.study import StudyTable
from radz.models.appearance import FEWEST, VECTORS, Appearance, Numbers, Part, vectors

log = logging.getLogger(__name__)
FILE = "scope.safetensors"
"""in a run folder and in an export"""
KEY = "radz"
"""of the file's metadata"""
MOST = 2048
"""studies of a split that are looked at"""
BATCH = 64
"""pictures that are in memory together"""
NAMED = 0.95
"""share of the training studies whose view must be known, before another view is called new"""


@dataclass(frozen=True)
class Scope:
    """Of one modality."""

    views: Mapping[str, int]
    """kind of view -> training studies of one image with it; the empty kind: view not known, or several images"""
    appearance: Appearance | None
    """None where training or validation has too few studies"""

    def is_new(self, view: str) -> bool:
        """Whether a kind of view is one that training did not have, as far as its views are known."""
        total = sum(self.views.values())
        return bool(view) and not self.views.get(view) and total - self.views.get("", 0) >= NAMED * max(1, total)

    def plain(self) -> dict[str, Any]:
        """For JSON, without the arrays."""
        return {"views": dict(self.views), "appearance": self.appearance.plain() if self.appearance else None}


def measure(data: StudyDataModule) -> dict[str, Scope]:
    """Modality -> its scope, by its training and its validation studies."""
    found = {}
    for modality in dict.fromkeys(data.modalities):
        training, validation = (_drawn(data, split, modality) for split in ("train", "val"))
        appearance = None
        if min(len(training), len(validation)) >= FEWEST:
            learned, (held, study) = _vectors(data, training)[0], _vectors(data, validation)
            appearance = Appearance.fit(learned, held, study)
        else:
            log.info("scope of %s: fewer than %d studies of training or of validation: not measured", modality, FEWEST)
        found[modality] = Scope(_views(data.table, modality), appearance)
    return found


def write(scopes: Mapping[str, Scope], folder: Path) -> None:
    """Keep scopes in a run folder."""
    from safetensors.numpy import save_file

    arrays = {
        f"{modality}/{name}/{which}": np.ascontiguousarray(array)
        for modality, scope in scopes.items()
        if scope.appearance
        for name, part in scope.appearance.parts.items()
        for which, array in (("mean", part.mean), ("whitening", part.whitening))
    }
    about = {"schema": 1, "modalities": {modality: scope.plain() for modality, scope in scopes.items()}}
    with replacing(folder / FILE) as draft:
        save_file(arrays, draft, metadata={KEY: json.dumps(about)})


def read(folder: Path) -> dict[str, Scope]:
    """Modality -> scope, of a run folder or an export; {} where an earlier radz wrote none.

    Raises:
        InputError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not (folder / FILE).is_file():
        return {}
    check_opens(folder / FILE)
    try:
        with safe_open(folder / FILE, framework="numpy") as file:
            about = parse_json(file.metadata()[KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dictionary
        return {modality: _scope(modality, plain, arrays) for modality, plain in about["modalities"].items()}
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        cause = " ".join(str(error).split())[:120]
        raise InputError(f"{folder / FILE}: damaged ({cause}); put it back as radz wrote it, or delete it") from None


def _scope(modality: str, plain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Scope:
    views = {str(kind): int(count) for kind, count in plain["views"].items()}
    if (of := plain["appearance"]) is None:
        return Scope(views, None)
    parts = {}
    for name, numbers in of["parts"].items():
        mean, whitening = (arrays[f"{modality}/{name}/{which}"] for which in ("mean", "whitening"))
        if name not in VECTORS or whitening.shape != (*mean.shape, *mean.shape):
            raise ValueError(f"unknown part {name}")
        parts[name] = Part(mean, whitening, float(numbers["middle"]), float(numbers["spread"]))
    return Scope(views, Appearance(parts, float(of["limit"]), int(of["studies"])))


def _drawn(data: StudyDataModule, split: str, modality: str) -> NDArray[np.int64]:
    """Rows of a split, at most MOST."""
    rows = data.table.rows(split)
    rows = rows[data.table.modality[rows] == modality]
    return np.sort(np.random.default_rng(data.seed).permutation(rows)[:MOST])


def _vectors(data: StudyDataModule, rows: NDArray[np.int64]) -> tuple[dict[str, Numbers], NDArray[np.int64]]:
    """`vectors` of all images of studies, and the row of each; a volume's picture is its middle slice."""
    images = data.table.image_indices(rows)
    parts = [
        vectors(np.stack([data.cache.picture(int(image)) for image in images[start : start + BATCH]]))
        for start in range(0, len(images), BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in VECTORS}, data.table.image_study[images]


def _views(table: StudyTable, modality: str) -> dict[str, int]:
    """A study of several images counts as of no view, whatever they are."""
    rows = table.rows("train")
    rows = rows[table.modality[rows] == modality]
    column = table.attributes.get("view")
    images = np.diff(table.image_offsets)
    kinds = (view_kind(str(column[row])) if column is not None and images[row] == 1 else "" for row in rows)
    counts = Counter(kinds)
    return {kind: counts[kind] for kind in (*VIEWS, "") if counts[kind]}
