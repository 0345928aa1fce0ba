"""One phantom study from three numbers: the seed, the split and the index. Nothing else decides any pixel or word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_modules.phantom.anatomy import build
from data_modules.phantom.body import Body, sample_body, sample_person
from data_modules.phantom.findings import Finding, choose, shape_body
from data_modules.phantom.place import collapsed_lung, place
from data_modules.phantom.project import View
from data_modules.phantom.scene import Scene, tubes
from data_modules.phantom.tissue import add_tissue

SPLITS = ("train", "val", "test")
SECOND_STUDY = 0.18  # share of studies that belong to the patient of the study before


@dataclass
class PhantomStudy:
    """A study before it is rendered; `scene` is the whole of it in 3-D."""

    split: str
    index: int
    patient: int
    body: Body
    findings: list[Finding]
    scene: Scene | None
    rng: np.random.Generator  # continues with the exposure, or with the scan
    words: np.random.Generator  # of the report, so that wording never depends on what rendering drew
    modality: str = "chest_xray"


def patients(split: str, count: int, seed: int) -> list[int]:
    """The patient number of each study of a split: one or two studies each. Longer splits begin like shorter ones."""
    same = np.random.default_rng(_sequence(seed, split, 2**31)).random(count) < SECOND_STUDY
    numbers: list[int] = []
    for index in range(count):
        again = bool(same[index]) and index > 0 and (index < 2 or numbers[-1] != numbers[-2])
        numbers.append(numbers[-1] if again else index)
    return numbers


def sample_study(
    split: str, index: int, patient: int, seed: int, scene: bool = True, modality: str = "chest_xray",
    rare: Mapping[str, float] | None = None,
) -> PhantomStudy:  # fmt: skip
    """The study at `index` of a split. Without `scene` the report can be written at once, at no cost in geometry.

    `rare`: {finding: share of the training and validation studies with it that keep it}; the others lack it.

    The chest_ct of a study is of the same person with the same organs and findings as its chest_xray: on the back,
    with the soft tissues that a CT tells apart, and without the lead letter.
    """
    person = sample_person(np.random.default_rng(_sequence(seed, split, patient, 1)))
    rng = np.random.default_rng(_sequence(seed, split, index, 2))
    body = sample_body(person, rng)
    ct = body.supine = modality == "chest_ct"
    # A generator of its own: what is rare changes no other draw.
    thin = np.random.default_rng(_sequence(seed, split, index, 6))
    kept = {name: bool(thin.random() < share) for name, share in sorted((rare or {}).items())}
    findings = choose(rng, split, kept if split != "test" else None)
    shape_body(body, findings, rng)
    words = np.random.default_rng(_sequence(seed, split, index, 5 if ct else 3))
    if not scene:
        return PhantomStudy(split, index, patient, body, findings, None, rng, words, modality)
    collapse = {finding.side: collapsed_lung(body, finding) for finding in findings if finding.name == "pneumothorax"}
    built = build(body, rng, collapse)
    place(built, body, findings, rng)
    if ct:
        rng = np.random.default_rng(_sequence(seed, split, index, 4))
        add_tissue(built, body, findings, rng)
    else:
        _marker(built, rng)
    return PhantomStudy(split, index, patient, body, findings, built, rng, words, modality)


def sample_view(body: Body, pixels: int, rng: np.random.Generator) -> View:
    """Field size, position and rotation of the patient, as loosely as in bedside work: nothing stays at its pixel."""
    field = rng.uniform(308, 415) * (0.5 + 0.5 * body.size * body.wide)
    shift = (rng.uniform(-26, 26), rng.uniform(-35, 18))
    lean = float(np.clip(rng.normal(0, 3.5), -9, 9))
    turn = (rng.uniform(-4, 4) - (5 if body.view == "AP" else 0), lean, rng.normal(0, 3.5))
    return View(pixels, field / pixels, shift, turn)


def _marker(scene: Scene, rng: np.random.Generator) -> None:
    """The lead letter that tells the side, in an upper corner: an L on the patient's left or an R on the right."""
    h, left = 9.0, rng.random() < 0.5
    at = np.array([(1 if left else -1) * rng.uniform(135, 165), -130, rng.uniform(120, 150)])
    strokes = [[(0, -h), (0, h)], [(0, -h), (8, -h)]]
    if not left:
        strokes = [[(0, -h), (0, h)], [(0, h), (8, h)], [(8, h), (8, 1)], [(8, 1), (0, 1)], [(2, 1), (9, -h)]]
    paths = np.array([[[x, 0.0, z] for x, z in stroke] for stroke in strokes]) + at
    scene.add(tubes(paths, 1.2, 1.2, up=(0, 1, 0)), 14.0)


def _sequence(seed: int, split: str, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, SPLITS.index(split), *key])
