"""Scores beside the labels of the same studies or images: one score table, in the order of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_modules.cells import spelling
from data_modules.errors import InputError
from data_modules.privacy import pseudonym
from radz.metrics.score_table import ScoreTable
from radz.runs.other_scores.labels import by_study
from radz.runs.other_scores.sheet import Sheet

Values = Mapping[tuple[str, str], NDArray[np.float32]]
"""(scorer, finding) -> [N of the sheet of scores]."""
NOBODY = "none"
"""`patient=none`: every study counts as a patient of its own"""


@dataclass(frozen=True)
class Pairs:
    """Rows of scores and of labels that are of the same study or image, as positions in their sheets."""

    scores: Sheet
    labels: Sheet
    """of studies, where the scores are"""
    at_scores: list[int]
    at_labels: list[int]

    @property
    def lonely_scores(self) -> list[int]:
        """Positions of scores without labels."""
        return sorted(set(range(len(self.scores))) - set(self.at_scores))

    @property
    def lonely_rows(self) -> dict[int, None]:
        """Rows in their file of labels without scores, in order."""
        used = set(self.at_labels)
        return {row: None for at, row in enumerate(self.labels.rows) if at not in used}

    def studies(self) -> list[str]:
        """Study of each pair; the image where neither table names studies."""
        scores, labels = self.scores, self.labels
        both = zip(self.at_scores, self.at_labels, strict=True)
        return [scores.study[one] or labels.study[other] or scores.image[one] for one, other in both]

    def units(self) -> set[tuple[str, str]]:
        """Study and image of each pair."""
        return {(self.scores.study[at], self.scores.image[at]) for at in self.at_scores}


def pair(scores: Sheet, labels: Sheet, unit: str | None = None) -> Pairs:
    """Find for every row of labels its scores. Images without labels of their own have those of their study.

    Images of which every study has one become studies where labels are of studies, or a protocol's `unit` is.

    Raises:
        InputError: one table is of images and the other of studies, and nothing tells which image is of which study.
    """
    if labels.of_images and not scores.of_images and labels.of_studies:
        labels = by_study(labels)
    if scores.of_images != labels.of_images and not (scores.of_images and scores.of_studies):
        one, other = (scores, labels) if scores.of_images else (labels, scores)
        raise InputError(
            f"{one.path}: rows are images, those of {other.path} are studies; add the study of each image to the first "
            "(column study_id), or give both of one kind"
        )
    own, theirs = _keys(scores, labels), _keys(labels, scores)
    by_key: dict[tuple[str, ...], list[int]] = {}
    for at, key in enumerate(own):
        by_key.setdefault(key, []).append(at)
    found = [(at, number) for number, key in enumerate(theirs) for at in by_key.get(key, [])]
    if not found:
        raise InputError(
            f"{scores.path} and {labels.path}: have no study in common{_spelt(own, set(theirs))}; both must call the "
            "studies by the same ids (study=COLUMN and image=COLUMN name the columns)"
        )
    pairs = Pairs(scores, labels, [at for at, _ in found], [number for _, number in found])
    named = scores.of_studies or labels.of_studies
    if named and (unit == "study" or not labels.of_images) and len(set(pairs.studies())) == len(found):
        return replace(pairs, scores=replace(scores, image=[""] * len(scores)))
    return pairs


def _keys(sheet: Sheet, other: Sheet) -> list[tuple[str, ...]]:
    """By what a row is found in the other sheet."""
    if not (sheet.of_images and other.of_images):
        return [(study,) for study in sheet.study]
    if sheet.of_studies and other.of_studies:
        return list(zip(sheet.study, sheet.image, strict=True))
    return [(image,) for image in sheet.image]


def _spelt(keys: Sequence[tuple[str, ...]], others: set[tuple[str, ...]]) -> str:
    alike = {spelling(part) for key in others for part in key} & {spelling(part) for key in keys for part in key}
    return ", but some that are written otherwise (such as 7 and 007)" if alike else ""


def check_matched(pairs: Pairs, lonely_rows: Sequence[int]) -> None:
    """InputError for scores without labels, and labels without scores, by their first row."""
    keys = set(_keys(pairs.labels, pairs.scores))
    lonely = pairs.lonely_scores
    if lonely:
        hint = _spelt([_keys(pairs.scores, pairs.labels)[at] for at in lonely], keys)
        raise InputError(
            f"{pairs.scores.where(lonely[0])}: this study has no labels in {pairs.labels.path} ({len(lonely)} such "
            f"row(s)){hint}; correct the ids, or leave such rows out by unmatched=skip"
        )
    for row in lonely_rows[:1]:
        raise InputError(
            f"{pairs.labels.path} row {row}: this study has no scores in {pairs.scores.path} ({len(lonely_rows)} such "
            "row(s)); score it, or leave such rows out by unmatched=skip"
        )


def score_table(
    pairs: Pairs, corpus: str, split: str, findings: Sequence[str], scorers: Sequence[str], values: Values,
    truth: Mapping[str, NDArray[np.float32]], patient: str | None, salt: bytes,
) -> ScoreTable:  # fmt: skip
    """One row a pair; NaN for what either table lacks.

    Args:
        values: scores in [0, 1]. truth: finding -> [N of the sheet of labels].
        patient: as the user named it, NOBODY included.

    Raises:
        InputError: nothing tells the patients.
    """
    scores = pairs.scores
    nothing = np.full(len(pairs.at_scores), np.nan, dtype=np.float32)

    def stacked(columns: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(columns, axis=1) if columns else np.empty((len(nothing), 0), dtype=np.float32)

    def taken(of: NDArray[np.float32] | None, at: list[int]) -> NDArray[np.float32]:
        return nothing if of is None else of[at]

    images = [scores.image[at] for at in pairs.at_scores]
    studies = pairs.studies()
    return ScoreTable(
        corpus,
        split,
        np.arange(len(nothing)),
        studies,
        images if scores.hashed else [one and pseudonym(corpus, one, salt) for one in images],
        _patients(pairs, corpus, patient, salt),
        tuple(findings),
        stacked([taken(truth.get(name), pairs.at_labels) for name in findings]),
        {
            scorer: stacked([taken(values.get((scorer, name)), pairs.at_scores) for name in findings])
            for scorer in scorers
        },
    )


def _patients(pairs: Pairs, corpus: str, named: str | None, salt: bytes) -> list[str]:
    """Salted hashes; the column of the labels, where both tables have one, which must tell the same patients apart."""
    scores, labels = pairs.scores, pairs.labels
    if named == NOBODY:
        return [pseudonym(corpus, study, salt) for study in pairs.studies()]
    if scores.patient is not None and labels.patient is not None:
        _check_patients(pairs, scores.patient, labels.patient)
    for sheet, at in ((labels, pairs.at_labels), (scores, pairs.at_scores)):
        if sheet.patient is not None:
            cells = [sheet.patient[number] for number in at]
            return cells if sheet.hashed else [pseudonym(corpus, cell, salt) for cell in cells]
    raise InputError(
        f"{scores.path} and {labels.path}: no column of patients, by whom intervals are made; name it by "
        f"patient=COLUMN, or say patient={NOBODY} where every study is of another patient"
    )


def _check_patients(pairs: Pairs, of_scores: Sequence[str], of_labels: Sequence[str]) -> None:
    """InputError where two studies are of one patient by one table, and of two by the other; names may differ."""
    known: dict[tuple[str, str], tuple[str, int]] = {}
    for at, other in zip(pairs.at_scores, pairs.at_labels, strict=True):
        for key, meant in ((("score", of_scores[at]), of_labels[other]), (("label", of_labels[other]), of_scores[at])):
            before, row = known.setdefault(key, (meant, other))
            if before != meant:
                one, two = ("one patient", "two") if key[0] == "label" else ("two patients", "one")
                raise InputError(
                    f"{pairs.labels.path} rows {pairs.labels.rows[row]} and {pairs.labels.rows[other]}: these studies "
                    f"are of {one}, and of {two} in {pairs.scores.path}; correct one, or take the column of patients "
                    "out of one table"
                )
