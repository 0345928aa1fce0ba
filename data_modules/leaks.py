"""Test images that training has seen."""

from __future__ import annotations

import numpy as np

from data_modules.datamodule import StudyDataModule
from data_modules.likeness import same_pictures

MOST = 50_000
"""Images that are compared as pictures at test time; more take minutes."""


def leaked(data: StudyDataModule) -> list[str]:
    """Return one line per corpus of whose test images some are training images, encoded the same way or not.

    Patients need no such check: one in two splits stops the reading. Beyond MOST images only equal pixels are looked
    for; `radz data check images=all` compares them all.
    """
    table, studies = data.table, data.table.image_study
    checksums = data.cache.checksums()
    training = table.image_indices(table.rows("train"))
    known = dict(zip(checksums[training].tolist(), training.tolist(), strict=True))
    lines = []
    for corpus in table.corpora:
        images = table.image_indices(table.rows("test", corpus))
        pairs = zip(images.tolist(), checksums[images].tolist(), strict=True)
        same = [(i, known[c]) for i, c in pairs if c in known]
        # Equal checksums only suggest equal pixels.
        found = {i: j for i, j in same if np.array_equal(data.cache.get(i), data.cache.get(j))}
        if len(images) + len(training) <= MOST:
            place = np.repeat([0, 1], [len(images), len(training)])
            found = {**dict(same_pictures(data.cache, np.concatenate([images, training]), place)), **found}
        if found:
            first = min(found)
            here, there = (table.source_rows[studies[i]] for i in (first, found[first]))
            lines.append(
                f"{corpus}: {len(found)} of {len(images)} test images are training images, such as row {here} "
                f"(training: row {there})"
            )
    return lines
