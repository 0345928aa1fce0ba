"""The audit of an experiment's data: what is there, what is missing, and which pictures are in two places.

Tables are read whole, images as a sample unless all are asked for.

An image goes by its corpus, the row of its study in the corpus' table and a salted hash, never by an identifier.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules import corpora, likeness, privacy
from data_modules.config import DataConfig
from data_modules.corpus_config import SPLITS
from data_modules.counting import counted
from data_modules.datamodule import StudyDataModule
from data_modules.dicom_words import words_of
from data_modules.errors import InputError
from data_modules.findings import STATE_NAMES
from data_modules.marks import Drawn, marks
from data_modules.pixels import read_gray
from data_modules.volumes import is_volume, read_volume

log = logging.getLogger(__name__)
SHOWN = 10
"""Unreadable images that are printed; audit.json has all."""
VOLUMES = 5
"""Volumes of each corpus whose HU are looked at."""
SLOW = 5_000
"""Images from which on comparing them shows a progress bar."""


def lenient(config: DataConfig) -> DataConfig:
    """The settings with unreadable images left out, so that one reading finds them all."""
    found = [replace(corpus, bad=replace(corpus.bad, on_unreadable_image="skip")) for corpus in config.corpora]
    return replace(config, corpora=found)


def audit(data: StudyDataModule) -> dict[str, Any]:
    """Return plain values for audit.json from data that were read with `lenient` settings."""
    table = data.table
    counts: dict[str, dict[str, dict[str, Any]]] = {name: dict(of.items()) for name, of in data.counts().items()}
    for name, corpus in zip(table.corpora, data.config.corpora, strict=True):
        published = corpora.PUBLISHED.get(corpus.reader, {})
        for split, found in counts[name].items():
            found["published_images"] = published.get(split)
            found["with_report"] = sum(table.reports[row] != "" for row in table.rows(split, name))
    equal, lost = same_pixels(data), len(data.unreadable)  # which the table of those looked at no longer has
    return {
        **data.environment(),
        "counts": counts,
        "images": {"looked_at": len(data.cache) + lost, "of": len(table.image_ids) + lost * (table is data.pictures)},
        "labels": {split: _totals(data, split) for split in SPLITS},
        "unreadable": data.unreadable,
        "patients_in_two_splits": _spread(data),
        "same_pixels": equal,
        "same_pictures": same_pictures(data, equal),
        "hounsfield": hounsfield(data),
        "marks": boxes(data),
        "turned": turned(data),
    }


def _spread(data: StudyDataModule) -> int:
    """Patients with studies in more than one split. Reading stops on any, so another number than 0 is our defect."""
    frame = pd.DataFrame({"person": data.table.people, "split": data.table.split})
    return int((frame.groupby("person")["split"].nunique() > 1).sum())


def _totals(data: StudyDataModule, split: str) -> dict[str, dict[str, int]]:
    """Finding -> studies per state."""
    states = data.table.states[data.table.rows(split)]
    return {
        finding: {word: int((states[:, k] == state).sum()) for state, word in enumerate(STATE_NAMES)}
        for k, finding in enumerate(data.findings)
    }


def _places(data: StudyDataModule) -> NDArray[np.int64]:
    """[I], a number for corpus and split of each image that was looked at."""
    table, studies = data.pictures, data.pictures.image_study
    splits = pd.Categorical(table.split[studies], SPLITS).codes
    return table.corpus[studies].astype(np.int64) * len(SPLITS) + splits


def same_pixels(data: StudyDataModule) -> list[list[dict[str, Any]]]:
    """Return groups of images that are equal pixel for pixel and lie in more than one split or corpus."""
    place = _places(data)
    frame = pd.DataFrame({"checksum": data.cache.checksums(), "place": place})
    suspects = frame[frame.groupby("checksum")["place"].transform("nunique") > 1]
    salt, groups = privacy.salt(data.cache_dir), []
    for _, alike in suspects.groupby("checksum"):
        # Equal checksums only suggest equal pixels.
        by_pixels: dict[bytes, list[int]] = {}
        for image in alike.index:
            by_pixels.setdefault(data.cache.get(image).tobytes(), []).append(image)
        equal = [images for images in by_pixels.values() if len(set(place[images])) > 1]
        groups += [[named(data, image, salt) for image in images] for images in equal]
    return groups


def same_pictures(data: StudyDataModule, equal: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Return pairs of images in two splits or corpora that are one picture, encoded or resized otherwise.

    `equal`: groups of `same_pixels`, whose pairs are not named again.
    """
    salt = privacy.salt(data.cache_dir)
    every = np.arange(len(data.cache))
    found = likeness.same_pictures(data.cache, every, _places(data), progress=len(every) > SLOW)
    known = [{image["image"] for image in group} for group in equal]
    pairs = [[named(data, i, salt), named(data, j, salt)] for i, j in found]
    return [pair for pair in pairs if not any({image["image"] for image in pair} <= group for group in known)]


def hounsfield(data: StudyDataModule) -> list[dict[str, Any]]:
    """Return HU range (0, 1, 50, 99 and 100 %), voxels and spacing of up to VOLUMES volumes of each corpus."""
    table, salt, told = data.pictures, privacy.salt(data.cache_dir), []
    studies = table.image_study
    for number in range(len(table.corpora)):
        images = np.flatnonzero(table.corpus[studies] == number)
        volumes = [i for i in images.tolist() if is_volume(table.image_paths[i])]
        for image in volumes[:: max(1, len(volumes) // VOLUMES)][:VOLUMES]:
            name = named(data, image, salt)
            slope, intercept = table.rescale[image].tolist()
            try:
                volume = read_volume(
                    Path(table.image_paths[image]),
                    f"corpus {name['corpus']}, row {name['row']}, image {name['image']}",
                    None if np.isnan(slope) else (slope, intercept),
                )
            except InputError as error:  # it could be read when it was decoded
                log.warning("hounsfield units are not looked at: %s", error)
                continue
            told.append({
                **name,
                "hu": [int(value) for value in np.percentile(volume.hu, (0, 1, 50, 99, 100))],
                "voxels": list(volume.hu.shape),
                "spacing_mm": [round(float(value), 3) for value in volume.spacing],
            })  # fmt: skip
    return told


def boxes(data: StudyDataModule) -> dict[str, Any]:
    """Return of how many radiographs marks were looked at, which reach beyond their image, and what is not drawn."""
    known = [marks(corpus, f"data.corpora.{n}") for n, corpus in enumerate(data.config.corpora)]
    table, salt, seen, outside = data.pictures, privacy.salt(data.cache_dir), 0, list[str]()
    for image, study in enumerate(table.image_study.tolist()):
        of_corpus = known[table.corpus[study]]
        if not isinstance(of_corpus, Drawn) or not of_corpus.marked(table.image_ids[image]):
            continue
        name = named(data, image, salt)
        try:
            where = f"corpus {name['corpus']}, row {name['row']}, image {name['image']}"
            gray = read_gray(Path(table.image_paths[image]), where, data.config.frames)
            of_corpus.masks(table.image_ids[image], gray.shape)
            seen += 1
        except InputError as error:
            outside.append(str(error))
    beyond = sorted(set().union(*(of_corpus.cut for of_corpus in known if of_corpus)))
    return {"looked_at": seen, "beyond": beyond, "outside": outside}


def turned(data: StudyDataModule) -> dict[str, int]:
    """Return how many radiographs are mirrored or turned by the PatientOrientation of their header, by what it says."""
    table = data.pictures
    of_xray = np.array([corpus.modality == "chest_xray" for corpus in data.config.corpora])
    xrays = np.flatnonzero(of_xray[table.corpus[table.image_study]])
    found = (words_of(Path(table.image_paths[image])) for image in xrays.tolist())
    return dict(Counter(words.orientation for words in found if words.turned).most_common())


def named(data: StudyDataModule, image: int, salt: bytes) -> dict[str, Any]:
    """What stands for an image that was looked at in all that is written."""
    table = data.pictures
    study = int(np.searchsorted(table.image_offsets, image, side="right")) - 1
    corpus = table.corpora[table.corpus[study]]
    hashed = privacy.pseudonym(corpus, table.image_ids[image], salt)
    return {"corpus": corpus, "split": table.split[study], "row": int(table.source_rows[study]), "image": hashed}


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return the audit as lines to print."""
    shown = []
    for corpus, splits in found["counts"].items():
        for split, of in splits.items():
            published = "" if of["published_images"] is None else f" ({of['published_images']} published)"
            shown.append(
                f"{corpus}/{split}: {counted(of['studies'], 'study')} of {counted(of['patients'], 'patient')}, "
                f"{counted(of['images'], 'image')}{published}, {of['with_report']} with a report"
            )
    for split, labels in found["labels"].items():
        shown.append(f"labels in {split}:\n{pd.DataFrame.from_dict(labels, orient='index').to_string()}")
    for part in ("skipped", "counted", "filtered"):
        shown.append(f"rows {part}: {found['coverage'][part] or 'none'}")
    seen, of = found["images"]["looked_at"], found["images"]["of"]
    shown.append(f"images looked at: {seen} of {of}" + ("" if seen == of else "; images=all looks at every one"))
    causes = found["unreadable"]
    shown.append(f"unreadable images: {len(causes) or 'none'}")
    shown += [f"  {cause}" for cause in causes[:SHOWN]]
    shown.append(f"patients in two splits: {found['patients_in_two_splits'] or 'none'}")
    for one in found["hounsfield"]:
        low, one_percent, middle, most, high = one["hu"]
        shown.append(
            f"HU of {one['corpus']}/{one['split']} row {one['row']}: {low} to {high} (1 % {one_percent}, median "
            f"{middle}, 99 % {most}), {' x '.join(map(str, one['voxels']))} voxels of "
            f"{' x '.join(map(str, one['spacing_mm']))} mm"
        )
    if found["turned"]:
        held = ", ".join(f"{count} x {words}" for words, count in found["turned"].items())
        shown.append(f"radiographs that PatientOrientation calls mirrored or turned, read as they lie: {held}")
    if any(found["marks"].values()):
        of = found["marks"]
        shown.append(f"images whose marks were looked at: {of['looked_at']}")
        shown.append(
            f"rows with boxes that reach beyond their image, where they are cut: {len(of['beyond']) or 'none'}"
        )
        shown += [f"  {place}" for place in of["beyond"][:SHOWN]]
        shown += [f"marks that cannot be drawn: {len(of['outside']) or 'none'}"]
        shown += [f"  {cause}" for cause in of["outside"][:SHOWN]]
    shown += _pairs(found["same_pixels"], "same pixels") or ["same pixels in two splits or corpora: none"]
    return shown + (
        _pairs(found["same_pictures"], "same picture, encoded otherwise")
        or ["same picture, encoded otherwise, in two splits or corpora: none"]
    )


def _pairs(groups: list[list[dict[str, Any]]], what: str) -> list[str]:
    """One line for each two places that share pictures."""
    shared: dict[tuple[str, str], list[list[dict[str, Any]]]] = {}
    for group in groups:
        first = {f"{image['corpus']}/{image['split']}": image for image in reversed(group)}
        for here, there in combinations(sorted(first), 2):
            shared.setdefault((here, there), []).append([first[here], first[there]])
    told = []
    for (here, there), pairs in sorted(shared.items()):
        rows = " and ".join(f"row {image['row']} (image {image['image']})" for image in pairs[0])
        told.append(f"{what}: {len(pairs)} picture(s) both in {here} and in {there}, such as {rows}")
    return told
