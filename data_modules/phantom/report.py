"""Free-text reports from a study: findings and impression in varied wording, true to the scene that the picture shows.

Vocabulary of signs (places, shapes, boundaries, densities) is shared with the shipped descriptions. Templates of
the unseen findings are read only for studies that have them, which exist in the test split only.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from data_modules.phantom import phrases, phrases_ct
from data_modules.phantom.findings import Finding
from data_modules.phantom.study import PhantomStudy, patients, sample_study

_WORDING = {"chest_xray": phrases, "chest_ct": phrases_ct}
_ZONES = {
    "upper": ("upper zone", "upper zone", "apex"),
    "mid": ("mid zone",),
    "lower": ("lower zone", "lower zone", "base"),
}


def write_report(study: PhantomStudy) -> str:
    """The report of a study; to be called once per study, since it uses up the study's generator of words."""
    rng, said = study.words, _WORDING[study.modality]
    lines, ends = [], []
    for finding in study.findings:
        described, concluded = _describe(finding, said, rng)
        lines.append(described)
        ends.append(concluded)
    lines = [lines[i] for i in rng.permutation(len(lines))]
    few = 3 if not lines else 2 if len(lines) == 1 else 1
    lines += _negations(study, said, rng, few if len(lines) < 4 else 0)
    level = study.body.bubble and (study.body.supine or study.body.view == "PA")
    if level and len(lines) < 5 and rng.random() < 0.25:
        lines.append(_one(said.BUBBLE, rng))
    if not study.findings:
        lines.insert(0, _one(said.NORMAL, rng))
        ends = [_one(said.NORMAL_END, rng)]
    opening = _one(said.OPEN, rng).format(view=study.body.view)
    text = " ".join(part for part in [opening, "Findings:", *lines, "Impression:", _sentence(ends)] if part)
    return text + (" " + _one(said.CLOSE, rng) if rng.random() < 0.12 and len(study.findings) < 3 else "")


def training_reports(n: int, seed: int = 0, modality: str = "chest_xray") -> list[str]:
    """The reports of the first n studies of the training split, without rendering anything: text for a tokenizer."""
    return [
        write_report(sample_study("train", i, p, seed, scene=False, modality=modality))
        for i, p in enumerate(patients("train", n, seed))
    ]


def _one(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _sentence(ends: list[str]) -> str:
    text = ", ".join(ends[:-1]) + (" and " if len(ends) > 1 else "") + ends[-1]
    return text[0].upper() + text[1:] + "."


def _describe(finding: Finding, said: ModuleType, rng: np.random.Generator) -> tuple[str, str]:
    """One sentence for the findings and one phrase for the impression."""
    key = finding.name
    describe: dict[str, tuple[str, ...]] = said.DESCRIBE
    if key == "support_devices":
        text = _one(said.DEVICES[finding.kind], rng)
    elif f"{key} {finding.kind}" in describe:
        text = _one(describe[f"{key} {finding.kind}"], rng)
    elif finding.side == "both" and f"{key} both" in describe:
        text = _one(describe[f"{key} both"], rng)
    else:
        text = _one(describe[key], rng)
    for flag in finding.flags:
        text += " " + _one(describe[f"{key} {flag}"], rng) if f"{key} {flag}" in describe else ""
    end = _one(phrases.CONCLUDE[key], rng)
    words = _words(finding, rng)
    return text.format(**words), end.format(**words)


def _words(finding: Finding, rng: np.random.Generator) -> dict[str, str]:
    """What a template may ask for: side, zone, sizes and a grade, as a radiologist would say them."""
    side = "bilateral" if finding.side == "both" else finding.side
    place = _one(_ZONES.get(finding.zone, ("lung",)), rng)
    millimetres = round(finding.size)
    grade = ""
    if finding.name == "pleural_effusion":
        grade = "small" if finding.size < 0.2 else "moderate" if finding.size < 0.32 else "large"
    elif finding.name == "pneumothorax":
        grade = "small" if finding.size < 20 else "large"  # BTS 2010
    elif finding.name == "cardiomegaly":
        grade = "mild" if finding.size < 0.565 else "moderate" if finding.size < 0.6 else "marked"
    size = f"{millimetres} mm" if rng.random() < 0.6 or millimetres < 20 else f"{millimetres / 10:.1f} cm"
    return {
        "side": side,
        "Side": side.capitalize(),
        "zone": place,
        "size": size,
        "grade": grade,
        "Grade": grade.capitalize(),
        "ratio": f"{finding.size:.2f}",
    }


def _negations(study: PhantomStudy, wording: ModuleType, rng: np.random.Generator, count: int) -> list[str]:
    """Sentences on what is not there, never about anything the study has."""
    present = {finding.name for finding in study.findings}
    hidden = {"mass": {"nodule"}, "tuberculosis": {"consolidation", "nodule"}, "hiatal_hernia": {"nodule"}}
    for name, also in hidden.items():
        if name in present:
            present |= also
    fitting = [text for needed, options in wording.NEGATE if not present & set(needed) for text in options]
    order = rng.permutation(len(fitting))
    chosen: list[str] = []
    said: set[str] = set()
    for i in order:
        words = {w for w in fitting[i].lower().strip(".").split() if len(w) > 5}
        if len(chosen) < count and not words & said:
            chosen.append(fitting[i])
            said |= words
    return chosen
